"""What is decided about a solve before anything runs: the keywords, checked, and every default filled in."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from .. import _linear, _tree
from .._errors import keywords as check
from .._loop import Attempt, Watch
from .._methods import AbstractMethod, Given, Needs, foreign, wants_matrix
from .._problem import Problem
from .._rule import AbstractAdjoint, Asked, Implicit, OneStep, Rule, Unrolled
from .._rule.rows import LinearSolver
from .._solution import Run, Summary
from . import auto
from .keywords import Wanted
from .prefix import spread

FOREIGN_STEPS = 1000  # of a solver of Optimistix, which has no default of its own


class Options(NamedTuple):
    """Everything about a solve that is not the problem. `solver` and `adjoint` may hold arrays."""

    solver: Any
    auto: bool  # whether it was chosen for the user
    adjoint: AbstractAdjoint
    linear_solver: LinearSolver
    judged_by: LinearSolver  # what finds Newton's correction where the method does not know it
    max_steps: int
    given: foreign.Asked  # to a solver of Optimistix
    throw: bool
    batch_axis: int | None
    asked: Asked
    by_column: bool
    attempt: Attempt | None
    later: AbstractMethod | None  # where the solver stalls
    points: int  # tried around x0, where F is not finite there
    watch: Watch


def decide(problem: Problem, wanted: Wanted, structure: _linear.Structure | None = None) -> Options:
    """The options of this problem, of which A has a structure, if one has been found."""
    caller, dtype = problem.caller, _tree.work_dtype(problem.x_struct)
    batch_axis = _check_rows(problem, wanted.batch_axis)
    check.check_determined(caller, "batch_axis", batch_axis, problem.size, problem.excess)
    check.check_not_constrained(caller, batch_axis, problem.constrained)
    adjoint = _choose_adjoint(problem, wanted.adjoint)
    unrolled = isinstance(adjoint, Unrolled)
    chosen_for_user = wanted.solver is None or isinstance(wanted.solver, auto.Auto)
    solver = _choose_solver(problem, wanted.solver, batch_axis, unrolled, structure)
    later = _fit(auto.later(problem, batch_axis), problem) if chosen_for_user else None
    if structure is not None and chosen_for_user:
        solver, later = auto.by_structure(problem, structure, solver, later)
    ours = isinstance(solver, AbstractMethod)
    if batch_axis is not None:
        by_row = ours and (solver.needs is Needs.NONE or wants_matrix(solver))
        check.check_row_by_row(caller, adjoint if unrolled else solver, by_row and not unrolled)

    preconditioner = getattr(solver, "preconditioner", None)
    chosen = auto.for_derivative(problem, dtype, batch_axis is not None, structure, preconditioner)
    given = getattr(adjoint, "linear_solver", None)
    linear_solver = chosen if given is None else given
    if given is not None and isinstance(adjoint, Implicit):
        linear_solver = _linear.with_tags(given, adjoint.tag_set, problem.kind)
    polish = isinstance(adjoint, Implicit) and adjoint.polish
    exact = linear_solver if isinstance(adjoint, Implicit) else chosen
    default = max(solver.default_max_steps, later.default_max_steps if later else 0) if ours else FOREIGN_STEPS
    max_steps = default if wanted.max_steps is None else check.check_max_steps(caller, wanted.max_steps)
    check.check_watch(caller, (wanted.history, wanted.progress, wanted.callback), ours and not unrolled)
    return Options(
        solver=solver,
        auto=chosen_for_user,
        adjoint=adjoint,
        linear_solver=linear_solver,
        judged_by=linear_solver if batch_axis is None else auto.for_rows(problem, batch_axis),
        max_steps=max_steps,
        given=foreign.Asked(caller, max_steps, _options_of(problem, wanted.options, ours)),
        throw=bool(wanted.throw),
        batch_axis=batch_axis,
        asked=Asked(polish, bool(wanted.error_estimate), exact, structure if structure and structure.given else None),
        by_column=auto.is_simple(problem),
        attempt=auto.first_attempt(problem, solver, max_steps),
        later=later,
        points=min(auto.POINTS, max_steps) if chosen_for_user else 0,
        watch=Watch(caller, max_steps, bool(wanted.history), bool(wanted.progress), wanted.callback, problem.state),
    )


def rule_of(problem: Problem, options: Options, summary: Summary) -> Rule:
    """The rule of the derivative under these options."""
    linear_solver, throw, batch_axis = options.linear_solver, options.throw, options.batch_axis
    check = getattr(options.adjoint, "check", False)
    failed = getattr(options.adjoint, "failed", "nan")
    return Rule(
        problem,
        linear_solver,
        throw,
        summary,
        batch_axis=batch_axis,
        by_column=options.by_column,
        check=check,
        failed=failed,
    )


def summarise(problem: Problem, static: Options) -> Summary:
    """What messages say about the problem and what solves it."""

    def shape_of_row(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n for axis, n in enumerate(shape) if axis != static.batch_axis)

    names = tuple((path, shape_of_row(struct.shape)) for path, struct in zip(problem.paths, problem.x_struct))
    solver, linear_solver = (eqx.tree_pformat(part, width=10**6) for part in (static.solver, static.linear_solver))
    noun = "solves" if static.batch_axis is None else "rows"
    if problem.caller.startswith("custom_"):
        solver = "your solver"
    return Summary(problem.caller, solver, linear_solver, names, noun, _run_of(problem, static))


def _run_of(problem: Problem, static: Options) -> Run:
    """What advice depends on."""
    solver, adjoint = static.solver, static.adjoint
    ours, own = isinstance(solver, AbstractMethod), problem.caller.startswith("custom_")
    named = ("rtol", "atol") if not ours else ()
    tolerances = [f"{name}={getattr(solver, name)!r}" for name in named if hasattr(solver, name)]
    return Run(
        kind=problem.kind,
        solver="" if own else type(solver).__name__,
        auto=static.auto and not own,
        ours=ours and not own,
        max_steps=static.max_steps,
        size=problem.size,
        damped=ours and getattr(solver, "damping", 1.0) != 1,
        matrix=bool(_linear.wanted(static.linear_solver)),
        differentiable=problem.differentiable,
        own_tolerances=", ".join(tolerances),
        unrolled=adjoint.steps if isinstance(adjoint, Unrolled) else None,
        points=0 if own else static.points,
        tags=getattr(static.linear_solver, "words", ""),
        excess=problem.excess,
        preconditioned=ours and getattr(solver, "preconditioner", None) is not None,
    )


def _check_rows(problem: Problem, batch_axis: Any) -> int | None:
    if batch_axis is None:
        return None
    shapes = {path: struct.shape for path, struct in zip(problem.paths, problem.x_struct)}
    return check.check_batch_axis(problem.caller, batch_axis, shapes)


def _options_of(problem: Problem, options: Any, ours: bool) -> Any:
    """Those of a solver of Optimistix: numbers as arrays, so that another one compiles nothing anew."""
    if options is None:
        return None
    check.check_options(problem.caller, options, ours)
    given = {}
    for name, value in options.items():
        if name in foreign.SIDES:
            values = spread(problem, f"{problem.caller}(options=...)", "bound", value)
            given[name] = tuple(jnp.asarray(v, leaf.dtype) for v, leaf in zip(values, problem.x_struct))
        else:
            given[name] = jnp.asarray(value) if _tree.is_dynamic(value) else value
    return given


def _choose_adjoint(problem: Problem, adjoint: Any) -> AbstractAdjoint:
    adjoint = Implicit() if adjoint is None else adjoint
    kinds = adjoint.kinds if isinstance(adjoint, AbstractAdjoint) else None
    if getattr(adjoint, "failed", "nan") == "one_step":
        kinds = OneStep.kinds
    check.check_adjoint(problem.caller, problem.kind, adjoint, kinds)
    return adjoint


def _choose_solver(
    problem: Problem, solver: Any, batch_axis: int | None, unrolled: bool, structure: _linear.Structure | None
) -> Any:
    """The method, fitted to the problem; a solver of Optimistix as it is."""
    caller, kind = problem.caller, problem.kind
    solver = auto.Auto() if solver is None else solver
    kinds = solver.kinds if isinstance(solver, AbstractMethod) else foreign.kinds_of(solver)
    check.check_solver(caller, kind, solver, kinds)
    rows = 1 if batch_axis is None else problem.x_struct[0].shape[batch_axis]
    size = problem.size // rows
    if unrolled:
        if isinstance(solver, auto.Auto):
            solver = auto.to_unroll(kind)
        check.check_unrolled(caller, solver, _is_smooth(solver))
    elif isinstance(solver, auto.Auto):
        newton = auto.later(problem, batch_axis) is not None
        solver = solver.choose(kind, size, batch_axis is not None, problem.differentiable, newton)
    return _fit(solver, problem, rows, structure)


def _fit(solver: Any, problem: Problem, rows: int = 1, structure: _linear.Structure | None = None) -> Any:
    """A method with what it leaves open decided for this problem."""
    if not isinstance(solver, AbstractMethod):
        return solver
    size, dtype = problem.size // rows, _tree.work_dtype(problem.x_struct)
    return solver.resolve(Given(size, dtype, problem.state, auto.for_steps(size, dtype, structure)))


def _is_smooth(solver: Any) -> bool:
    return isinstance(solver, AbstractMethod) and type(solver).full_step is not AbstractMethod.full_step
