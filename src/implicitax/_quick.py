"""A first attempt, with next to nothing to carry from one iteration to the next.

Most systems are solved by plain iteration that converges fast, or, of a few unknowns, by a few steps of it and a few of
Newton's, without anything that a robust method keeps in case they are not: a best point, weights, step control, a
history. What an iteration costs beside F is what it carries, all the more under `vmap`, where each number is an array.
So the attempt has loops of its own, and the robust method stands behind a branch.
"""

from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _linear, _tree
from ._loop import Outcome, iterate
from ._methods import AbstractSolver, Tolerance
from ._problem import Problem
from ._solution import Status
from ._tree import Leaves

LIMIT = 40  # evaluations of the attempt,
_PLAIN = 15  # and those of plain iteration before Newton's, if there is to be that
_SIMPLE = 150  # operations in F up to which compiling it three times is cheaper than what the attempt saves


class _Carry(NamedTuple):
    x: Leaves  # where to evaluate next; once it has ended, where it was evaluated last
    error: Float[Array, ""]  # there, in units of the tolerance
    residual: Float[Array, ""]
    streak: Int[Array, ""]  # steps in a row that have decreased the error
    nfev: Int[Array, ""]
    running: Bool[Array, ""]


def suits(problem: Problem, method: AbstractSolver, max_steps: int) -> bool:
    """Whether F is so simple that the attempt pays, and the method one that begins as the attempt does."""
    begins = method.plain_steps is not None and (_few(method) or problem.kind == "fixed_point")
    return begins and max_steps > LIMIT and _operations(problem.jaxpr) <= _SIMPLE


def _few(method: AbstractSolver) -> bool:
    return isinstance(method.solver_of_steps(), _linear.SmallLU)


def _operations(jaxpr: Any) -> int:
    return sum(1 + sum(map(_operations, jex_core.jaxprs_in_params(eqn.params))) for eqn in jaxpr.eqns)


def attempt(
    problem: Problem, method: AbstractSolver, theta: Leaves, x0: Leaves, tolerance: Tolerance, max_steps: int
) -> Outcome:
    """Plain iteration as long as it converges fast.

    Of a few unknowns: until the error has decreased `method.plain_steps` times in a row, then Newton's method while it
    decreases; for a root, which has no plain iteration, Newton's method from the guess.
    """
    linear_solver, few, plain_steps = method.solver_of_steps(), _few(method), method.plain_steps or 0

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    def follow(carry: _Carry, residual: Leaves, step: Leaves, error: Array, go_on: Any) -> _Carry:
        running = (error > 1) & (carry.nfev < LIMIT) & go_on
        x = _tree.where(running, _tree.axpy(1, step, carry.x), carry.x)
        streak = jnp.where(error < carry.error, carry.streak + 1, 0)
        return _Carry(x, error, _largest(residual), streak, carry.nfev + 1, running)

    def plain(carry: _Carry) -> _Carry:
        residual = residual_at(carry.x)
        error = _largest(residual, tolerance.at(carry.x))
        if few:
            return follow(carry, residual, residual, error, True)
        # At this rate, will it have converged within the limit? The first steps do not tell.
        steps = (LIMIT - carry.nfev).astype(error.dtype)
        fast = error * (error / carry.error) ** steps <= 1
        return follow(carry, residual, residual, error, fast | (carry.nfev <= plain_steps))

    def newton(carry: _Carry) -> _Carry:
        assert linear_solver is not None
        residual, A = _linear.linearise(residual_at, carry.x, linear_solver)
        assert _linear.is_matrix(A)
        if problem.kind == "fixed_point":
            error = _largest(residual, tolerance.at(carry.x))
            step, decreased = _linear.solve_bare(A, _tree.ravel(residual)), error < carry.error
        else:
            error = _largest(residual, tolerance.atol)
            decreased = error < carry.error
            step, regular = _linear.solve_dense(A, _tree.ravel(residual), linear_solver)
            close = regular & (_largest(_tree.unravel(step, carry.x), tolerance.at(carry.x)) <= 1)
            error = jnp.where(close, jnp.fmin(error, 1), error)
        return follow(carry, residual, _tree.unravel(-step, carry.x), error, decreased)

    dtype, zero = _tree.work_dtype(x0), jnp.zeros((), jnp.int32)
    infinite = jnp.asarray(jnp.inf, dtype)
    end = _tree.varying(_Carry(x0, infinite, infinite, zero, zero, jnp.asarray(True)), (*theta, *x0))
    if not few:
        end = jax.lax.while_loop(lambda carry: carry.running, plain, end)
    elif problem.kind == "fixed_point":
        short = lambda carry: (carry.streak <= plain_steps) & (carry.nfev < _PLAIN)
        end = jax.lax.while_loop(lambda carry: carry.running & short(carry), plain, end)
        # Whoever has not got into its stride by now would need Newton's steps to be watched.
        end = end._replace(running=end.running & (end.streak > plain_steps))
    if few:
        end = jax.lax.while_loop(lambda carry: carry.running, newton, end)

    solved = end.error <= 1
    status = jnp.where(solved, Status.CONVERGED, Status.STALLED).astype(jnp.int32)
    nothing_bad = jnp.full_like(end.nfev, problem.size)
    outcome = Outcome(end.x, status, end.nfev - 1, end.nfev, end.residual, nothing_bad)

    def robust(quick: Outcome) -> Outcome:
        # On from where plain iteration has come to, if it was on its way; Newton's steps may have led elsewhere.
        start = x0 if few else _tree.where(end.streak > 0, end.x, x0)
        outcome = iterate(problem, method, theta, start, tolerance, max_steps - LIMIT)
        # Where the guess is no point of the domain, that is all there is to say.
        spent = jnp.where(outcome.nfev > 1, quick.nfev, 0)
        outcome = outcome._replace(nit=outcome.nit + spent, nfev=outcome.nfev + spent)
        return jax.tree.map(lambda a, b: jnp.where(solved, a, b), quick, outcome)

    return jax.lax.cond(eqxi.unvmap_any(~solved), robust, lambda quick: quick, outcome)


def _largest(values: Leaves, units: tuple[Any, ...] | None = None) -> Float[Array, ""]:
    """max |vᵢ| / unitᵢ; NaN if one is, as where both are 0."""
    return _tree.max_norm(values if units is None else tuple(v / unit for v, unit in zip(values, units)))
