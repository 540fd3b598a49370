"""The solution with its derivative, whatever found it; and the one derivative that is none of the solution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _linear, _tree
from .._loop import Limits, Outcome, judge
from .._loop.evaluate import Evaluator
from .._methods import AbstractMethod, Evaluation, Tolerance, typical_size
from .._tree import Leaves, is_differentiable
from .implicit import Constants, Rule, differentiable
from .rows import Rows, Solve


class Found(NamedTuple):
    """The arrays that a compiled solve returns."""

    x: Leaves
    aux: Leaves
    outcome: Outcome
    error: Float[Array, ""] | None


def attach(
    rule: Rule, theta: Leaves, outcome: Outcome, tolerance: Tolerance, *, polish: bool, error_estimate: bool
) -> Found:
    """The solution with the implicit derivative."""
    problem = rule.problem
    outcome = frozen(outcome)
    # Solves with a matrix scale it by its own entries.
    scale = () if _linear.is_dense(rule.linear_solver) else frozen(typical_size(outcome.x, tolerance))
    correction = error = None
    if polish or error_estimate:
        correction, error = frozen(_correction(rule, frozen(theta), outcome, scale))
    aux = () if problem.aux is None else frozen(problem.evaluate(outcome.x, frozen(theta))[1])
    y = tuple(filter(is_differentiable, aux))
    x, y = differentiable(rule, Constants(outcome, y, scale, correction if polish else None), theta)
    smooth = iter(y)
    aux = tuple(next(smooth) if is_differentiable(leaf) else leaf for leaf in aux)
    return Found(x, aux, outcome, error if error_estimate else None)


def _correction(rule: Rule, theta: Leaves, outcome: Outcome, scale: Leaves) -> tuple[Leaves, Float[Array, "*rows"]]:
    """−A⁻¹ R(x), Newton's step from x, and its length: the error of x to first order. 0 and infinite if it fails."""
    x, axis = outcome.x, rule.batch_axis
    solve = Solve(rule.linear_solver, scale, axis)
    residual, A = solve.linearise(lambda x: rule.problem.residual(x, theta), x)
    newton, ok = solve(A, tuple(-leaf for leaf in residual))
    rows = Rows(ok & jnp.isfinite(outcome.residual), axis)
    if axis is None:
        length = _tree.max_norm(newton)
    else:
        length = jax.vmap(_tree.max_norm)(_tree.rows_first(newton, axis))
    return rows.choose(newton, _tree.zeros_like(x)), jnp.where(rows.good, length, jnp.inf)


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
    outcome = judge(problem, frozen(theta), frozen(x), tolerance, rule.linear_solver)
    aux = problem.evaluate(x, theta)[1]
    nit = jnp.asarray(steps, jnp.int32)
    return Found(x, aux, frozen(outcome._replace(nit=nit, nfev=outcome.nfev + steps)), None)


def frozen(values: Any) -> Any:
    """The values without their derivatives."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if is_differentiable(leaf) else leaf, values)
