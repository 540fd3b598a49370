"""The solution with its derivative, whatever found it; and the one derivative that is none of the solution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import _linear, _tree, _xla
from .._loop import Limits, Outcome, compare, constrain, judge
from .._loop.evaluate import Evaluator
from .._methods import AbstractMethod, Evaluation, typical_size
from .._solution import Ending
from .._tree import Leaves, is_differentiable
from .block import Constants, Rule
from .implicit import Found
from .rows import LinearSolver, Rows, Solve


class Asked(NamedTuple):
    """What the user wants beside x and its derivative."""

    polish: bool  # whether the equations are linearised after one step of Newton's from x
    error_estimate: bool  # whether the length of that is `Solution.error`
    linear_solver: LinearSolver  # exact, also where that of the derivative is a truncated series
    pattern: _linear.Structure | None = None  # one of the user's, which is to be looked at


def settle(rule: Rule, theta: Leaves, outcome: Outcome, limits: Limits, asked: Asked) -> Found:
    """All of the solution but its derivative, at a θ that has none."""
    problem = rule.problem
    outcome = constrain(problem, outcome, theta, limits)
    outcome = compare(problem, outcome, theta, asked.pattern)
    correction = error = None
    if asked.polish or asked.error_estimate:
        correction, error = correct(rule, theta, outcome, limits, asked.linear_solver)
    aux = problem.evaluate(outcome.x, theta)[1] if problem.has_aux else ()
    scale = _scale(rule.linear_solver, outcome.x, limits)
    status, nit, _, residual, component, _ = outcome[1:]
    ending = Ending(status, nit, residual, component) if rule.throw else Ending(status, None, None, None)
    constants = Constants(ending, scale, correction if asked.polish else None)
    return Found(outcome.x, aux, outcome, error if asked.error_estimate else None, constants)


def _scale(linear_solver: LinearSolver, x: Leaves, limits: Limits) -> Leaves:
    """The typical size of the unknowns; none for solves with a matrix, which scale it by its own entries."""
    return () if _linear.wanted(linear_solver) else frozen(typical_size(x, limits.tolerance))


def correct(
    rule: Rule, theta: Leaves, outcome: Outcome, limits: Limits, linear_solver: LinearSolver
) -> tuple[Leaves, Float[Array, "*rows"]]:
    """−A⁻¹ R(x), Newton's step from x, and its length: the error of x to first order. 0 and infinite if it fails.

    The step, not its length, is shortened to stay inside the bounds. Neither has a derivative.
    """
    x, axis = outcome.x, rule.batch_axis
    solve = Solve(_linear.at(linear_solver, x), _scale(linear_solver, x, limits), axis)
    residual, A = solve.linearise(lambda x: rule.problem.residual(x, theta), x)
    newton, ok = solve(A, tuple(-leaf for leaf in residual))
    rows = Rows(ok & jnp.isfinite(outcome.residual), axis)
    if axis is None:
        length = _tree.max_norm(newton)
    else:
        length = jax.vmap(_tree.max_norm)(_tree.rows_first(newton, axis))
    if limits.bounds is not None:
        newton = _tree.sub(limits.bounds.shorten(x, _tree.axpy(1, newton, x)), x)
    return frozen((rows.choose(newton, _tree.zeros_like(x)), _xla.where(rows.good, length, jnp.inf)))


def unroll(rule: Rule, method: AbstractMethod, steps: int, theta: Leaves, limits: Limits) -> Found:
    """A fixed number of iterations, differentiated as they stand."""
    problem, tolerance = rule.problem, limits.tolerance
    evaluate = Evaluator(problem, method, theta, batch_axis=None, by_column=False).evaluate

    @jax.checkpoint
    def step(x: Leaves, _: None) -> tuple[Leaves, None]:
        residual, A = evaluate(x)
        following = method.full_step(Evaluation(x, residual, A, jnp.asarray(True), x), tolerance)
        assert following is not None, "the plan sees to that"
        return following, None

    x, _ = jax.lax.scan(step, limits.x0, length=steps)
    outcome = judge(problem, frozen(theta), limits._replace(x0=frozen(x)), rule.linear_solver)
    outcome = constrain(problem, outcome, frozen(theta), limits)
    aux = problem.evaluate(x, theta)[1]
    nit = jnp.asarray(steps, jnp.int32)
    return Found(x, aux, frozen(outcome._replace(nit=nit, nfev=outcome.nfev + steps)), None)


def frozen(values: Any) -> Any:
    """The values without their derivatives, which only what is traced can have."""
    stop = lambda leaf: isinstance(leaf, Tracer) and is_differentiable(leaf)
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if stop(leaf) else leaf, values)
