"""The keywords of a solve, checked and decided: which method, which linear solver, which tolerances."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer

from . import _linear, _tree
from ._adjoints import AbstractAdjoint, Implicit, Neumann, Unrolled
from ._errors import mistake
from ._layout import is_dynamic, path_names
from ._methods import AbstractSolver, Auto, Newton, Picard, Tolerance
from ._methods.foreign import FOREIGN
from ._problem import Problem


class Options(NamedTuple):
    """Everything about a solve that is not the problem. `solver` and `adjoint` may hold arrays."""

    solver: Any
    adjoint: AbstractAdjoint
    linear_solver: lx.AbstractLinearSolver
    max_steps: int
    throw: bool


def decide(problem: Problem, solver: Any, adjoint: Any, max_steps: Any, throw: bool) -> Options:
    """The options of this problem, with every default filled in."""
    size, dtype = problem.size, _tree.work_dtype(problem.x_struct)
    adjoint = _check_adjoint(problem, adjoint)
    solver = _check_solver(problem, solver)
    if isinstance(adjoint, Unrolled):
        solver = _unrollable(problem, solver)
    elif isinstance(solver, Auto):
        solver = solver.choose(problem.kind, size)
    if isinstance(solver, AbstractSolver):
        solver = solver.resolve(size, dtype)

    linear_solver = getattr(adjoint, "linear_solver", None)
    linear_solver = _linear.choose(size, dtype) if linear_solver is None else linear_solver
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
    return Options(solver, adjoint, linear_solver, int(max_steps), bool(throw))


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


def tolerances(problem: Problem, rtol: Any, atol: Any) -> Tolerance:
    """One value a real leaf of the state; each of the two may be a pytree prefix of x0."""
    default = tuple(float(jnp.finfo(leaf.dtype).eps) ** (2 / 3) for leaf in problem.x_struct)
    return Tolerance(*(_tolerance(problem, name, value, default) for name, value in (("rtol", rtol), ("atol", atol))))


def _tolerance(problem: Problem, name: str, value: Any, default: tuple[float, ...]) -> tuple[Any, ...]:
    argument = f"{problem.caller}({name}=...)"
    if value is None:
        return default
    for path, leaf in zip(path_names(value, name), jax.tree.leaves(value)):
        concrete = (is_dynamic(leaf) or isinstance(leaf, int)) and not isinstance(leaf, Tracer)
        if not isinstance(leaf, Tracer) and not (concrete and np.all(np.asarray(leaf) >= 0)):
            raise ValueError(
                mistake(
                    argument,
                    "a number of at least 0",
                    f"{leaf!r} at {path}",
                    "The solve stops where every |residual| ≤ atol + rtol·|x|.",
                    f"Use for instance {name}=1e-8, or leave it out: eps^(2/3) of the dtype of x.",
                )
            )
    places = jax.tree.unflatten(problem.state.treedef, range(len(problem.state.static)))
    try:
        spread = jax.tree.map(lambda leaf, below: [leaf] * len(jax.tree.leaves(below)), value, places)
    except ValueError as error:
        raise ValueError(
            mistake(
                argument,
                f"one number, or a pytree prefix of x0, {problem.state.treedef}",
                str(jax.tree.structure(value)),
                "Each leaf of the tolerance stands for everything below the same place of x0.",
                "Give one number, or one for each entry of x0.",
            )
        ) from error
    return problem.state.repeat(jax.tree.leaves(spread))
