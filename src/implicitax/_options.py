"""The keywords of a solve, checked and decided: which method, which linear solver, which tolerances."""

from typing import Any, NamedTuple

import lineax as lx
import numpy as np

from . import _linear, _tree
from ._adjoints import AbstractAdjoint, Implicit, Neumann, Unrolled
from ._errors import mistake
from ._methods import AbstractSolver, Auto, Newton, NewtonKrylov, Picard
from ._methods.foreign import FOREIGN
from ._problem import Problem
from ._rows import RowKrylov
from ._watch import Watch, check_watch


class Options(NamedTuple):
    """Everything about a solve that is not the problem. `solver` and `adjoint` may hold arrays."""

    solver: Any
    adjoint: AbstractAdjoint
    linear_solver: lx.AbstractLinearSolver | RowKrylov
    max_steps: int
    throw: bool
    batch_axis: int | None = None
    polish: bool = False
    watch: Watch = Watch()


def decide(
    problem: Problem,
    solver: Any,
    adjoint: Any,
    max_steps: Any,
    throw: bool,
    batch_axis: int | None = None,
    history: bool = False,
    progress: bool = False,
) -> Options:
    """The options of this problem, with every default filled in."""
    dtype = _tree.work_dtype(problem.x_struct)
    batch_axis = _check_rows(problem, batch_axis)
    rows = 1 if batch_axis is None else problem.x_struct[0].shape[batch_axis]
    size = problem.size // rows
    adjoint = _check_adjoint(problem, adjoint)
    solver = _check_solver(problem, solver)
    if isinstance(adjoint, Unrolled):
        solver = _unrollable(problem, solver)
    elif isinstance(solver, Auto):
        solver = solver.choose(problem.kind, size, batch_axis is not None)
    if isinstance(solver, AbstractSolver):
        solver = solver.resolve(size, dtype)
    if isinstance(solver, NewtonKrylov):
        solver = solver.on_leaves(problem.state)
    if batch_axis is not None:
        _check_solver_of_rows(problem, solver, adjoint)

    linear_solver = getattr(adjoint, "linear_solver", None)
    if linear_solver is None:
        by_row = batch_axis is not None and problem.size > _linear.DENSE
        linear_solver = RowKrylov() if by_row else _linear.choose_for_derivative(problem.size, dtype, problem.kind)
    polish = isinstance(adjoint, Implicit) and adjoint.polish
    if max_steps is None:
        max_steps = solver.default_max_steps if isinstance(solver, AbstractSolver) else 1000
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 0:
        raise ValueError(
            mistake(
                f"{problem.caller}(max_steps=...)",
                "an integer of at least 0",
                f"{max_steps!r}",
                "It bounds the number of iterations and is fixed when the solve is compiled.",
                "Leave it out, or pass a Python integer.",
            )
        )
    ours = isinstance(solver, AbstractSolver) and not isinstance(adjoint, Unrolled)
    check_watch(problem.caller, history, progress, ours)
    watch = Watch(problem.caller, int(max_steps), bool(history), bool(progress))
    return Options(solver, adjoint, linear_solver, int(max_steps), bool(throw), batch_axis, polish, watch)


def _check_adjoint(problem: Problem, adjoint: Any) -> AbstractAdjoint:
    adjoint = Implicit() if adjoint is None else adjoint
    if not isinstance(adjoint, AbstractAdjoint):
        raise TypeError(
            mistake(
                f"{problem.caller}(adjoint=...)",
                "one of `ix.Implicit()`, `ix.OneStep()`, `ix.Neumann(terms)`, `ix.Unrolled(steps)`",
                _named(adjoint),
                "Perhaps the class was given in place of an instance, or a linear solver.",
                "A linear solver goes into `ix.Implicit(linear_solver=...)`.",
            )
        )
    if problem.kind == "root" and isinstance(adjoint, Neumann):
        raise ValueError(
            mistake(
                f"{problem.caller}(adjoint=...)",
                "`ix.Implicit()` or `ix.Unrolled(steps)`",
                _named(adjoint),
                "The Neumann series is a series in ∂F/∂x of a fixed point x = F(x); a root R(x) = 0 has none.",
                "Use `ix.Implicit()`, or write the problem as a fixed point.",
            )
        )
    return adjoint


def _check_solver(problem: Problem, solver: Any) -> Any:
    solver = Auto() if solver is None else solver
    known = isinstance(solver, (AbstractSolver, *FOREIGN))
    if not known:
        raise TypeError(
            mistake(
                f"{problem.caller}(solver=...)",
                "a solver such as `ix.Auto()`, `ix.Picard()`, `ix.Anderson()`, `ix.Newton()`, or one of Optimistix",
                _named(solver),
                "Perhaps the class was given in place of an instance, a linear solver, or a name.",
                "Write for instance `solver=ix.Newton()`. Your own solver goes into `ix.custom_root`.",
            )
        )
    kinds = solver.kinds if isinstance(solver, AbstractSolver) else _foreign_kinds(solver)
    if problem.kind not in kinds:
        raise ValueError(
            mistake(
                f"{problem.caller}(solver=...)",
                f"a solver for a {problem.kind.replace('_', ' ')}",
                _named(solver),
                "It iterates x ← F(x); a root R(x) = 0 is not of that form.",
                "Use `ix.Auto()` or `ix.Newton()`, or write the problem as a fixed point.",
            )
        )
    return solver


def _foreign_kinds(solver: Any) -> tuple[str, ...]:
    return ("fixed_point",) if isinstance(solver, FOREIGN[1]) else ("fixed_point", "root")


def _unrollable(problem: Problem, solver: Any) -> AbstractSolver:
    if isinstance(solver, Auto):
        solver = Picard() if problem.kind == "fixed_point" else Newton()
    if not isinstance(solver, Picard | Newton):
        raise ValueError(
            mistake(
                f"{problem.caller}(solver=..., adjoint=ix.Unrolled(...))",
                "`ix.Picard()` or `ix.Newton()`",
                _named(solver),
                "Other methods are not smooth functions of the parameters once they have converged.",
                "Leave out `solver`, or use `ix.Implicit()`.",
            )
        )
    return solver


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)


def _check_rows(problem: Problem, batch_axis: Any) -> int | None:
    if batch_axis is None:
        return None
    argument = f"{problem.caller}(batch_axis=...)"
    if isinstance(batch_axis, bool) or not isinstance(batch_axis, int | np.integer):
        raise TypeError(
            mistake(
                argument,
                "an integer, the axis along which every leaf of x0 has the rows",
                _named(batch_axis),
                "It says that F is written for a batch, and is fixed when the solve is compiled.",
                "Use 0, or leave it out if F is written for one problem.",
            )
        )
    shapes = {path: struct.shape for path, struct in zip(problem.paths, problem.x_struct)}
    shortest = min(len(shape) for shape in shapes.values())
    counts = {shape[batch_axis] if -len(shape) <= batch_axis < len(shape) else None for shape in shapes.values()}
    if len(counts) != 1 or None in counts or (batch_axis < 0 and len(set(map(len, shapes.values()))) > 1):
        raise ValueError(
            mistake(
                argument,
                "leaves of x0 that all have the same number of rows along that axis",
                ", ".join(f"{path} of shape {shape}" for path, shape in shapes.items()) + f" with axis {batch_axis}",
                "With `batch_axis` every leaf of the state has the rows of the batch, whatever else it has.",
                "Broadcast the leaves that have none, or pass them to F as arguments.",
            )
        )
    return int(batch_axis) % shortest if batch_axis < 0 else int(batch_axis)


def _check_solver_of_rows(problem: Problem, solver: Any, adjoint: AbstractAdjoint) -> None:
    matrix_free = isinstance(solver, AbstractSolver) and not _by_row(solver)
    if not isinstance(solver, AbstractSolver) or matrix_free or isinstance(adjoint, Unrolled):
        raise ValueError(
            mistake(
                f"{problem.caller}(batch_axis=..., solver=..., adjoint=...)",
                "a solver that works row by row: `ix.Auto()`, `ix.Anderson()`, `ix.Broyden()`, `ix.Picard()`, or, with "
                "a dense matrix for each row, `ix.Newton()`, `ix.Ladder()`, `ix.PseudoTransient()`",
                _named(adjoint if isinstance(adjoint, Unrolled) else solver),
                "Each row has coefficients, stopping and a status of its own.",
                "Leave out `solver` and `adjoint`, or `batch_axis`.",
            )
        )


def _by_row(solver: AbstractSolver) -> bool:
    linear_solver = solver.solver_of_steps()
    return linear_solver is None or _linear.is_dense(linear_solver)
