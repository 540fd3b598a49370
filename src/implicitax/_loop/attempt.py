"""A first attempt, with next to nothing to carry from one iteration to the next.

Most systems are solved by plain iteration that converges fast, or, of a few unknowns, by a few steps of it and a few of
Newton's, without anything that a robust method keeps in case they are not: a best point, weights, step control, a
history. What an iteration costs beside F is what it carries, all the more under `vmap`, where each number is an array.
So the attempt has loops of its own, and the robust method stands behind a branch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree, _xla
from .._solution import Status
from .._tree import Leaves
from .loop import Search, iterate
from .row import Limits
from .verdict import Outcome, corrected, error_at, runs_off, status_of


class Attempt(NamedTuple):
    """How far the attempt goes."""

    plain_steps: int  # of plain iteration before it is judged how that goes
    plain: int  # evaluations of plain iteration at the most,
    limit: int  # and of all
    linear_solver: lx.AbstractLinearSolver | None  # for Newton's steps after these; None if there are to be none


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


def attempt(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> Outcome:
    """The quick way as long as it converges fast, then the robust method if it has not converged."""
    end = (_plain if quick.linear_solver is None else _newton)(search, quick, theta, limits)
    solved = end.error <= 1
    status = status_of(end.error, otherwise=Status.STALLED)
    nothing_bad = jnp.full_like(end.nfev, search.problem.size)
    outcome = Outcome(end.x, status, end.nfev - 1, end.nfev, end.residual, nothing_bad)

    def robust(found: Outcome) -> Outcome:
        rest = search._replace(max_steps=search.max_steps - quick.limit)
        outcome = iterate(rest, theta, limits._replace(x0=end.start))
        # Where the guess is no point of the domain, that is all there is to say.
        spent = _xla.where(outcome.nfev > 1, found.nfev, 0)
        outcome = outcome._replace(nit=outcome.nit + spent, nfev=outcome.nfev + spent)
        # Not `solved`, of which XLA on CPU would make a kernel before the branch.
        return _tree.where(end.error <= 1, found, outcome)

    return _xla.if_any(~solved, robust, lambda found: found, outcome)


def _plain(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> _End:
    """Plain iteration, as long as at its rate it will have converged within the limit. The first steps do not tell."""
    problem, x0 = search.problem, limits.x0

    def step(carry: _Plain) -> _Plain:
        residual = problem.residual(carry.x, theta)
        error, first = error_at(problem.kind, carry.x, residual, limits.tolerance), carry.nfev <= quick.plain_steps
        latest = error / carry.error
        rate = _xla.where(first, latest, jnp.sqrt(carry.rate * jnp.sqrt(carry.rate * latest)))
        fast = error * rate ** (quick.plain - carry.nfev).astype(error.dtype) <= 1
        running = (error > 1) & jnp.isfinite(error) & (carry.nfev < quick.plain) & (fast | first)
        x = _tree.where(running, _tree.axpy(1, residual, carry.x), carry.x)
        # One pass over the residual less, until the last one.
        size = _xla.if_all(running, lambda: error, lambda: _tree.largest(residual))
        return _Plain(x, error, size, rate, carry.nfev + 1, running)

    infinite = jnp.asarray(jnp.inf, _tree.work_dtype(x0))
    start = _Plain(x0, infinite, infinite, infinite, jnp.zeros((), jnp.int32), jnp.asarray(True))
    end = jax.lax.while_loop(lambda carry: carry.running, step, _xla.varying(start, (*theta, *x0)))
    # The robust method goes on from where this has come to, if it was on its way.
    return _End(end.x, end.error, end.residual, end.nfev, _tree.where(end.rate < 1, end.x, x0))


def _newton(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> _End:
    """Of a few unknowns: plain iteration until the error has decreased `plain_steps` times in a row, then Newton's
    method while it decreases; for a root, which has no plain iteration, Newton's method from the guess."""
    problem, x0, tolerance, linear_solver = search.problem, limits.x0, limits.tolerance, quick.linear_solver
    assert linear_solver is not None

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    def follow(carry: _Carry, residual: Leaves, step: Leaves, error: Array, go_on: Any) -> _Carry:
        running = (error > 1) & jnp.isfinite(error) & (carry.nfev < quick.limit) & go_on
        x = _tree.where(running, _tree.axpy(1, step, carry.x), carry.x)
        streak = _xla.where(error < carry.error, carry.streak + 1, 0)
        return _Carry(x, error, _tree.largest(residual), streak, _xla.one_more(carry.nfev, carry.running), running)

    def plain(carry: _Carry) -> _Carry:
        residual = residual_at(carry.x)
        return follow(carry, residual, residual, error_at(problem.kind, carry.x, residual, tolerance), True)

    def newton(carry: _Carry) -> _Carry:
        residual, A = _linear.linearise(residual_at, carry.x, True, by_column=True)
        assert _linear.is_matrix(A)
        error = error_at(problem.kind, carry.x, residual, tolerance)
        decreased = error < carry.error
        if problem.kind == "fixed_point":
            step = _tree.unravel(_linear.solve_bare(A, _tree.ravel(residual), linear_solver), carry.x)
            # `once`: XLA would repeat the elimination in the kernels that judge.
            endless = _xla.once(runs_off(carry.x, step, residual, tolerance))
            error = _xla.where(endless, jnp.inf, error)
        else:
            step, regular = _linear.solve(A, residual, linear_solver, ())
            error = corrected(error, carry.x, step, tolerance, regular)
        return follow(carry, residual, tuple(-leaf for leaf in step), error, decreased)

    infinite, zero = jnp.asarray(jnp.inf, _tree.work_dtype(x0)), jnp.zeros((), jnp.int32)
    end = _xla.varying(_Carry(x0, infinite, infinite, zero, zero, jnp.asarray(True)), (*theta, *x0))
    if problem.kind == "fixed_point":
        short = lambda carry: (carry.streak <= quick.plain_steps) & (carry.nfev < quick.plain)
        end = jax.lax.while_loop(lambda carry: carry.running & short(carry), plain, end)
        # Whoever has not got into its stride by now would need Newton's steps to be watched.
        end = end._replace(running=end.running & (end.streak > quick.plain_steps))
    end = jax.lax.while_loop(lambda carry: carry.running, newton, end)
    # Newton's steps may have led elsewhere.
    return _End(end.x, end.error, end.residual, end.nfev, x0)
