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
from .._methods import Evaluation, ratio
from .._solution import Status
from .._tree import Leaves
from .bounds import Limits
from .loop import Search
from .persist import persist
from .verdict import Before, Outcome, after, probe, prove, runs_off, status_of


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


class _Root(NamedTuple):
    """The same of Newton's method for a root, with the length of its step in place of the error."""

    x: Leaves
    step: Float[Array, ""]
    residual: Float[Array, ""]
    nfev: Int[Array, ""]
    running: Bool[Array, ""]
    solved: Bool[Array, ""]
    before: Before


class _End(NamedTuple):
    """How the quick way has ended, and where the robust method is to start."""

    x: Leaves
    residual: Float[Array, ""]
    nfev: Int[Array, ""]
    solved: Bool[Array, ""]
    start: Leaves


def attempt(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> Outcome:
    """The quick way as long as it converges fast, then the robust method if it has not converged."""
    way = _plain if quick.linear_solver is None else _newton if search.problem.kind == "fixed_point" else _root
    end = way(search, quick, theta, limits)
    status = status_of(end.solved, otherwise=Status.STALLED)
    nothing_bad = jnp.full_like(end.nfev, search.problem.size)
    outcome = Outcome(end.x, status, end.nfev - 1, end.nfev, end.residual, nothing_bad)

    def robust(found: Outcome) -> Outcome:
        rest = search._replace(max_steps=search.max_steps - quick.limit)
        outcome = persist(rest, theta, limits.beginning_at(end.start))
        # Where no point of the domain was found, that is all there is to say.
        outside = (outcome.status < 0) & (outcome.nit == 0)
        spent = _xla.where(outside, 0, found.nfev)
        outcome = outcome._replace(nit=outcome.nit + spent, nfev=outcome.nfev + spent)
        return _tree.where(found.status == Status.CONVERGED, found, outcome)

    return _xla.if_any(~end.solved, robust, lambda found: found, outcome)


def _plain(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> _End:
    """Plain iteration, as long as at its rate it will have converged within the limit. The first steps do not tell."""
    problem, x0 = search.problem, limits.x0

    def step(carry: _Plain) -> _Plain:
        residual = problem.residual(carry.x, theta)
        error, first = limits.tolerance.error(residual, carry.x), carry.nfev <= quick.plain_steps
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
    start = _tree.where(end.rate < 1, end.x, x0)
    return _End(end.x, end.residual, end.nfev, end.error <= 1, start)


def _newton(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> _End:
    """Of a few unknowns: plain iteration until the error has decreased `plain_steps` times in a row, then Newton's
    method while it decreases."""
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
        return follow(carry, residual, residual, tolerance.error(residual, carry.x), True)

    def newton(carry: _Carry) -> _Carry:
        residual, A = _linear.linearise(residual_at, carry.x, True, by_column=True)
        assert _linear.is_matrix(A)
        error = tolerance.error(residual, carry.x)
        decreased = error < carry.error
        step = _tree.unravel(_linear.solve_bare(A, _tree.ravel(residual), linear_solver), carry.x)
        # `once`: XLA would repeat the elimination in the kernels that judge.
        endless = _xla.once(runs_off(carry.x, step, residual, tolerance))
        error = _xla.where(endless, jnp.inf, error)
        return follow(carry, residual, tuple(-leaf for leaf in step), error, decreased)

    infinite, zero = jnp.asarray(jnp.inf, _tree.work_dtype(x0)), jnp.zeros((), jnp.int32)
    end = _xla.varying(_Carry(x0, infinite, infinite, zero, zero, jnp.asarray(True)), (*theta, *x0))
    short = lambda carry: (carry.streak <= quick.plain_steps) & (carry.nfev < quick.plain)
    end = jax.lax.while_loop(lambda carry: carry.running & short(carry), plain, end)
    # Whoever has not got into its stride by now would need Newton's steps to be watched.
    end = end._replace(running=end.running & (end.streak > quick.plain_steps))
    end = jax.lax.while_loop(lambda carry: carry.running, newton, end)
    # Newton's steps may have led elsewhere.
    return _End(end.x, end.residual, end.nfev, end.error <= 1, x0)


def _root(search: Search, quick: Attempt, theta: Leaves, limits: Limits) -> _End:
    """Of a few unknowns of a root: Newton's method while its steps become shorter."""
    problem, x0, tolerance, linear_solver = search.problem, limits.x0, limits.tolerance, quick.linear_solver
    assert linear_solver is not None

    def newton(carry: _Root) -> _Root:
        x, before = carry.x, carry.before
        residual, A = _linear.linearise(lambda x: problem.residual(x, theta), x, True, by_column=True)
        step, regular = _linear.correct(A, residual, linear_solver, ())
        size, length = _tree.largest(residual), ratio(step, tolerance.at(x))
        at = Evaluation(x, residual, A, regular & jnp.isfinite(size), x)
        proof = prove(at, step, before, tolerance, first=carry.nfev == 0)
        go_on = at.finite & (carry.nfev < quick.limit) & (length < carry.step) & ~before.probed
        running = go_on & ~proof.given
        proposed = _tree.where(proof.wanted, probe(x, tolerance, carry.nfev, None), _tree.axpy(1, step, x))
        return _Root(
            x=_tree.where(proof.before, before.x, _tree.where(running, proposed, x)),
            step=length,
            residual=_xla.where(proof.before, _tree.largest(before.residual), size),
            nfev=_xla.one_more(carry.nfev, carry.running),
            running=running,
            solved=proof.given,
            before=after(at, True, proof, before),
        )

    infinite, true = jnp.asarray(jnp.inf, _tree.work_dtype(x0)), jnp.asarray(True)
    start = _Root(x0, infinite, infinite, jnp.zeros((), jnp.int32), true, ~true, Before.none(x0))
    end = jax.lax.while_loop(lambda carry: carry.running, newton, _xla.varying(start, (*theta, *x0)))
    return _End(end.x, end.residual, end.nfev, end.solved, x0)
