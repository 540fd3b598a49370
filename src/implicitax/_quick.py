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
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from . import _linear, _tree
from ._loop import Outcome, iterate
from ._methods import AbstractSolver, Tolerance
from ._problem import Problem
from ._solution import Status
from ._tree import Leaves

LIMIT = 40  # evaluations of the attempt,
_PLAIN = 15  # and those of plain iteration before Newton's, if there is to be that
_OURS, _ROBUST = 2e4, 2e5  # what an iteration of the attempt, and of a robust method, cost beside F, in its entries


class _Carry(NamedTuple):
    x: Leaves  # where to evaluate next; once it has ended, where it was evaluated last
    error: Float[Array, ""]  # there, in units of the tolerance
    residual: Float[Array, ""]
    streak: Int[Array, ""]  # steps in a row that have decreased the error
    nfev: Int[Array, ""]
    running: Bool[Array, ""]


class _Plain(NamedTuple):
    """The same of plain iteration alone."""

    x: Leaves
    error: Float[Array, ""]
    residual: Float[Array, ""]
    rate: Float[Array, ""]  # of the error's decrease, a geometric mean over some of the last steps
    nfev: Int[Array, ""]
    running: Bool[Array, ""]


class _End(NamedTuple):
    """How the quick way has ended, and where the robust method is to start."""

    x: Leaves
    error: Float[Array, ""]
    residual: Float[Array, ""]
    nfev: Int[Array, ""]
    start: Leaves


def suits(problem: Problem, method: AbstractSolver, max_steps: int) -> bool:
    """Whether F is so simple that the attempt pays, and the method one that begins as the attempt does."""
    begins = method.plain_steps is not None and (_few(method) or problem.kind == "fixed_point")
    return begins and max_steps > LIMIT and problem.is_simple


def _few(method: AbstractSolver) -> bool:
    return isinstance(method.solver_of_steps(), _linear.SmallLU)


def _entries(jaxpr: Any) -> int:
    """How many numbers F reads and writes."""

    def of(eqn: Any) -> int:
        inner = sum(map(_entries, jex_core.jaxprs_in_params(eqn.params)))
        own = max(int(np.prod(var.aval.shape)) for var in (*eqn.invars, *eqn.outvars))
        return max(inner, own) * eqn.params.get("length", 1)

    return sum(map(of, jaxpr.eqns))


def _patience(problem: Problem, max_steps: int) -> int:
    """Evaluations that plain iteration may take: as many as cost what 50 iterations of a robust method do."""
    entries = _entries(problem.jaxpr)
    return min(max_steps // 2, 200, int(50 * (_ROBUST + entries) / (_OURS + entries)))


def attempt(
    problem: Problem, method: AbstractSolver, theta: Leaves, x0: Leaves, tolerance: Tolerance, max_steps: int
) -> Outcome:
    """The quick way as long as it converges fast, then the robust method if it has not converged."""
    limit = LIMIT if _few(method) else _patience(problem, max_steps)
    if _few(method):
        end = _newton(problem, method, theta, x0, tolerance)
    else:
        end = _plain(problem, method.plain_steps or 0, theta, x0, tolerance, limit)
    solved = end.error <= 1
    status = jnp.where(solved, Status.CONVERGED, Status.STALLED).astype(jnp.int32)
    nothing_bad = jnp.full_like(end.nfev, problem.size)
    outcome = Outcome(end.x, status, end.nfev - 1, end.nfev, end.residual, nothing_bad)

    def robust(quick: Outcome) -> Outcome:
        outcome = iterate(problem, method, theta, end.start, tolerance, max_steps - limit)
        # Where the guess is no point of the domain, that is all there is to say.
        spent = jnp.where(outcome.nfev > 1, quick.nfev, 0)
        outcome = outcome._replace(nit=outcome.nit + spent, nfev=outcome.nfev + spent)
        # Not `solved`, of which XLA on CPU would make a kernel before the branch.
        return jax.tree.map(lambda a, b: jnp.where(end.error <= 1, a, b), quick, outcome)

    return jax.lax.cond(eqxi.unvmap_any(~solved), robust, lambda quick: quick, outcome)


def _plain(problem: Problem, plain_steps: int, theta: Leaves, x0: Leaves, tolerance: Tolerance, limit: int) -> _End:
    """Plain iteration, as long as at its rate it will have converged within the limit. The first steps do not tell."""

    def step(carry: _Plain) -> _Plain:
        residual = problem.residual(carry.x, theta)
        error, first = _in_units(residual, tolerance.at(carry.x)), carry.nfev <= plain_steps
        latest = error / carry.error
        rate = jnp.where(first, latest, jnp.sqrt(carry.rate * jnp.sqrt(carry.rate * latest)))
        fast = error * rate ** (limit - carry.nfev).astype(error.dtype) <= 1
        running = (error > 1) & jnp.isfinite(error) & (carry.nfev < limit) & (fast | first)
        x = _tree.where(running, _tree.axpy(1, residual, carry.x), carry.x)
        # One pass over the residual less, until the last one.
        size = jax.lax.cond(eqxi.unvmap_all(running), lambda: error, lambda: _tree.largest(residual))
        return _Plain(x, error, size, rate, carry.nfev + 1, running)

    infinite = jnp.asarray(jnp.inf, _tree.work_dtype(x0))
    start = _Plain(x0, infinite, infinite, infinite, jnp.zeros((), jnp.int32), jnp.asarray(True))
    end = jax.lax.while_loop(lambda carry: carry.running, step, _tree.varying(start, (*theta, *x0)))
    # The robust method goes on from where this has come to, if it was on its way.
    return _End(end.x, end.error, end.residual, end.nfev, _tree.where(end.rate < 1, end.x, x0))


def _newton(problem: Problem, method: AbstractSolver, theta: Leaves, x0: Leaves, tolerance: Tolerance) -> _End:
    """Of a few unknowns: plain iteration until the error has decreased `plain_steps` times in a row, then Newton's
    method while it decreases; for a root, which has no plain iteration, Newton's method from the guess."""
    linear_solver, plain_steps = method.solver_of_steps(), method.plain_steps or 0
    assert linear_solver is not None

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    def follow(carry: _Carry, residual: Leaves, step: Leaves, error: Array, go_on: Any) -> _Carry:
        running = (error > 1) & jnp.isfinite(error) & (carry.nfev < LIMIT) & go_on
        x = _tree.where(running, _tree.axpy(1, step, carry.x), carry.x)
        streak = jnp.where(error < carry.error, carry.streak + 1, 0)
        nfev = carry.nfev + carry.running  # plus 1; a constant 1 would cost XLA on CPU 0.1 µs a call
        return _Carry(x, error, _tree.largest(residual), streak, nfev, running)

    def plain(carry: _Carry) -> _Carry:
        residual = residual_at(carry.x)
        error = _in_units(residual, tolerance.at(carry.x))
        return follow(carry, residual, residual, error, True)

    def newton(carry: _Carry) -> _Carry:
        residual, A = _linear.linearise(residual_at, carry.x, linear_solver, simple=True)
        assert _linear.is_matrix(A)
        if problem.kind == "fixed_point":
            error = _in_units(residual, tolerance.at(carry.x))
            step, decreased = _linear.solve_bare(A, _tree.ravel(residual), linear_solver), error < carry.error
        else:
            error = _in_units(residual, tolerance.atol)
            decreased = error < carry.error
            step, regular = _linear.solve_dense(A, _tree.ravel(residual), linear_solver)
            close = regular & (_in_units(_tree.unravel(step, carry.x), tolerance.at(carry.x)) <= 1)
            error = jnp.where(close, jnp.fmin(error, 1), error)
        return follow(carry, residual, _tree.unravel(-step, carry.x), error, decreased)

    infinite, zero = jnp.asarray(jnp.inf, _tree.work_dtype(x0)), jnp.zeros((), jnp.int32)
    end = _tree.varying(_Carry(x0, infinite, infinite, zero, zero, jnp.asarray(True)), (*theta, *x0))
    if problem.kind == "fixed_point":
        short = lambda carry: (carry.streak <= plain_steps) & (carry.nfev < _PLAIN)
        end = jax.lax.while_loop(lambda carry: carry.running & short(carry), plain, end)
        # Whoever has not got into its stride by now would need Newton's steps to be watched.
        end = end._replace(running=end.running & (end.streak > plain_steps))
    end = jax.lax.while_loop(lambda carry: carry.running, newton, end)
    # Newton's steps may have led elsewhere.
    return _End(end.x, end.error, end.residual, end.nfev, x0)


def _in_units(values: Leaves, units: tuple[Any, ...]) -> Float[Array, ""]:
    """max |vᵢ| / unitᵢ; infinite or NaN if one is NaN, as where both are 0."""
    return _tree.largest(tuple(v / unit for v, unit in zip(values, units)))
