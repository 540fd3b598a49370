"""What a compiled solve does: iterate at a θ without derivative, then give the solution its own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import _linear, _tree
from ._adjoint import Constants, Rule, differentiable
from ._adjoints import Unrolled
from ._bounds import Bounds
from ._layout import is_differentiable
from ._loop import Outcome, iterate, judge
from ._methods import AbstractSolver, Picard, Tolerance, foreign, typical_size
from ._options import Options
from ._problem import Problem
from ._quick import attempt, suits
from ._rows import Rows, solve
from ._solution import Summary
from ._tree import Leaves


class Found(NamedTuple):
    """The arrays that a compiled solve returns."""

    x: Leaves
    aux: Leaves
    outcome: Outcome
    error: Float[Array, ""] | None


def run(
    problem: Problem,
    options: Options,
    summary: Summary,
    error_estimate: bool,
    theta: Leaves,
    x0: Leaves,
    tolerance: Tolerance,
    bounds: Bounds | None,
) -> Found:
    """Solves at a θ that has no derivative, then gives the solution its own."""
    constant, x0 = frozen(theta), frozen(x0)
    if isinstance(options.adjoint, Unrolled):
        return _unroll(problem, options, theta, x0, tolerance)
    if isinstance(options.solver, AbstractSolver):
        outcome = _find(problem, options, constant, x0, tolerance, bounds)
    else:
        x, nit = foreign.run(problem, options.solver, constant, x0, options.max_steps)
        outcome = judge(problem, constant, x, nit, tolerance, options.linear_solver)
    return attach(problem, options, summary, error_estimate, theta, outcome, tolerance)


def _find(
    problem: Problem, options: Options, theta: Leaves, x0: Leaves, tolerance: Tolerance, bounds: Bounds | None
) -> Outcome:
    # The attempt shows nothing of its iterations.
    alone = bounds is None and options.batch_axis is None and not options.watch
    if alone and suits(problem, options.solver, options.max_steps):
        return attempt(problem, options.solver, theta, x0, tolerance, options.max_steps)
    return iterate(
        problem, options.solver, theta, x0, tolerance, options.max_steps, options.batch_axis, bounds, options.watch
    )


def attach(
    problem: Problem,
    options: Options,
    summary: Summary,
    error_estimate: bool,
    theta: Leaves,
    outcome: Outcome,
    tolerance: Tolerance,
) -> Found:
    """The solution with the implicit derivative, whatever found it."""
    outcome = frozen(outcome)
    # Solves with a matrix scale it by its own entries.
    scale = () if _linear.is_dense(options.linear_solver) else frozen(typical_size(outcome.x, tolerance))
    correction = error = None
    if options.polish or error_estimate:
        correction, error = frozen(_correction(problem, options, frozen(theta), outcome, scale))
    aux = () if problem.aux is None else frozen(problem.evaluate(outcome.x, frozen(theta))[1])
    y = tuple(filter(is_differentiable, aux))
    rule = Rule(problem, options.linear_solver, options.throw, summary, options.batch_axis)
    x, y = differentiable(rule, Constants(outcome, y, scale, correction if options.polish else None), theta)
    smooth = iter(y)
    aux = tuple(next(smooth) if is_differentiable(leaf) else leaf for leaf in aux)
    return Found(x, aux, outcome, error if error_estimate else None)


def _correction(
    problem: Problem, options: Options, theta: Leaves, outcome: Outcome, scale: Leaves
) -> tuple[Leaves, Float[Array, "*rows"]]:
    """−A⁻¹ R(x), Newton's step from x, and its length: the error of x to first order. 0 and infinite if it fails."""
    x, axis = outcome.x, options.batch_axis
    residual, A = _linear.linearise(lambda x: problem.residual(x, theta), x, options.linear_solver)
    newton, ok = solve(A, tuple(-leaf for leaf in residual), options.linear_solver, scale, axis)
    rows = Rows(ok & jnp.isfinite(outcome.residual), axis)
    if axis is None:
        length = _tree.max_norm(newton)
    else:
        length = jax.vmap(_tree.max_norm)(_tree.rows_first(newton, axis))
    return rows.choose(newton, _tree.zeros_like(x)), jnp.where(rows.good, length, jnp.inf)


def _unroll(problem: Problem, options: Options, theta: Leaves, x0: Leaves, tolerance: Tolerance) -> Found:
    """A fixed number of iterations, differentiated as they stand."""
    assert isinstance(options.adjoint, Unrolled)
    method, steps = options.solver, options.adjoint.steps

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    @jax.checkpoint
    def step(x: Leaves, _: None) -> tuple[Leaves, None]:
        if isinstance(method, Picard):
            return _tree.axpy(method.damping, residual_at(x), x), None
        linear_solver = method.solver_of_steps()
        residual, A = _linear.linearise(residual_at, x, linear_solver)
        newton = _linear.solve(A, residual, linear_solver, typical_size(x, tolerance))[0]
        return _tree.sub(x, newton), None

    x, _ = jax.lax.scan(step, x0, length=steps)
    outcome = judge(problem, frozen(theta), frozen(x), jnp.asarray(steps), tolerance, options.linear_solver)
    aux = problem.evaluate(x, theta)[1]
    return Found(x, aux, frozen(outcome._replace(nfev=outcome.nfev + steps)), None)


def frozen(values: Any) -> Any:
    """The values without their derivatives."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if is_differentiable(leaf) else leaf, values)
