"""One iteration of one row of a batch, or of the whole where there are none."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._methods import AbstractMethod, Evaluation, Tolerance
from .._problem import Kind
from .._solution import Status
from .._tree import Leaves
from .bounds import Bounds
from .verdict import Outcome, corrected, error_at, runs_off, status_of


class Carry(NamedTuple):
    """What a row carries from one iteration to the next."""

    x: Leaves  # where to evaluate next
    method: Any
    status: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    best: Leaves
    error: Float[Array, "*rows"]  # at the best point, in units of the tolerance: converged if at most 1
    residual: Float[Array, "*rows"]
    stale: Int[Array, "*rows"]  # evaluations since the best point was found, or since the setting began
    component: Int[Array, "*rows"]
    pressed: Int[Array, "*rows"]  # the first unknown that lies against a bound at x; their number if none does
    setting: Int[Array, "*rows"]  # of the method's settings, the one in use
    waiting: Bool[Array, "*rows"]  # a row that has ended, but has to be looked at again
    at_guess: Leaves | None  # of a row of a batch: the residual at x0


class Limits(NamedTuple):
    """Where a row begins, how exactly it is to be solved, and where it has to stay."""

    x0: Leaves
    tolerance: Tolerance
    bounds: Bounds | None = None

    def each_row(self, batch_axis: int) -> "Limits":
        """The same with the rows along axis 0."""
        bounds = self.bounds and self.bounds.each_row(self.x0, batch_axis)
        return Limits(_tree.rows_first(self.x0, batch_axis), self.tolerance.each_row(self.x0, batch_axis), bounds)


class Judged(NamedTuple):
    """A point evaluated."""

    residual: Leaves
    size: Float[Array, ""]  # max |R|; infinite or NaN if R is not finite
    error: Float[Array, ""]  # in units of the tolerance; infinite if R is not finite


class Row(NamedTuple):
    """What is fixed when the iteration is compiled."""

    kind: Kind
    unknowns: int
    method: AbstractMethod
    max_steps: int
    dtype: Any
    is_one_of_many: bool  # in a batch

    def start(self, limits: Limits) -> Carry:
        x = limits.x0
        zero, infinite = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, self.dtype)
        component = _tree.first_bad(x)
        status = _xla.where(component < self.unknowns, Status.NON_FINITE_GUESS, Status.RUNNING)
        if limits.bounds is not None:
            outside = _tree.first(tuple(~inside for inside in limits.bounds.contain(x)))
            status = _xla.where(
                (status == Status.RUNNING) & (outside < self.unknowns), Status.GUESS_OUT_OF_BOUNDS, status
            )
            component = _xla.where(component < self.unknowns, component, outside)
        return Carry(
            x=x,
            method=self.method.init(x, zero),
            status=status.astype(jnp.int32),
            nfev=zero,
            best=x,
            error=infinite,
            residual=infinite,
            stale=zero,
            component=component,
            pressed=jnp.asarray(self.unknowns, jnp.int32),
            setting=zero,
            waiting=zero != 0,
            at_guess=x if self.is_one_of_many else None,
        )

    def advance(self, carry: Carry, residual: Leaves, A: Any, limits: Limits) -> tuple[Carry, Judged]:
        """Judges the point evaluated, and asks the method for the next."""
        method, tolerance = self.method, limits.tolerance
        size = _tree.largest(residual)
        finite = _xla.once(jnp.isfinite(size))
        error = error_at(self.kind, carry.x, residual, tolerance)
        error = _xla.where(finite, error, jnp.inf).astype(self.dtype)
        best = _tree.where(error < carry.error, carry.x, carry.best)
        proposal = method.step(Evaluation(carry.x, residual, A, finite, best), carry.method, tolerance)
        if self.kind == "root" and proposal.correction is not None:
            # At a bound the correction may be small because A is large.
            free = finite & (carry.pressed == self.unknowns)
            error = corrected(error, carry.x, proposal.correction, tolerance, free)
            best = _tree.where(error < carry.error, carry.x, carry.best)

        endless = _xla.false_like(finite)
        if self.kind == "fixed_point":
            step = lambda: runs_off(carry.x, _tree.sub(proposal.x, carry.x), residual, tolerance)
            endless = _xla.if_any(error <= 1, step, lambda: _xla.false_like(finite)) & (error <= 1)
            error = _xla.where(endless, jnp.maximum(error, 2), error)
            best = _tree.where_seldom(endless & (error >= carry.error), lambda: carry.best, best)
        nfev = carry.nfev + 1
        better = _xla.once(error < carry.error)
        stale = _xla.where(better, 0, carry.stale + 1)
        status = status_of(
            error,
            (~finite & ((carry.nfev == 0) | (not method.recovers)), Status.NON_FINITE),
            (endless, Status.UNBOUNDED),
            (nfev > self.max_steps, Status.STEP_LIMIT),
            (proposal.status != Status.RUNNING, proposal.status),
            (stale > method.patience, Status.STALLED),
            otherwise=Status.RUNNING,
        )
        x, pressed, at_guess = proposal.x, carry.pressed, carry.at_guess
        if limits.bounds is not None:
            x = limits.bounds.shorten(carry.x, x)
            pressed = limits.bounds.pressed(x, limits.x0)
        following = Carry(
            x=x,
            method=proposal.state,
            status=status,
            nfev=nfev,
            best=best,
            error=_xla.where(better, error, carry.error),
            residual=_xla.where(better, size, carry.residual),
            stale=stale,
            component=_where_bad(finite, residual, carry.component),
            pressed=pressed,
            setting=carry.setting,
            waiting=status != Status.RUNNING,
            at_guess=at_guess and _tree.where_seldom(carry.nfev == 0, lambda: residual, at_guess),
        )
        return following, Judged(residual, size, error)

    def retries(self, carry: Carry) -> Bool[Array, "*rows"]:
        """Whether the method has another setting for what has just failed."""
        # None begins anew on the way to infinity: the first step of any method is that of plain iteration, and short.
        final = (carry.status == Status.STEP_LIMIT) | (carry.status == Status.UNBOUNDED)
        lost = (carry.status < 0) & ~final & jnp.isfinite(carry.error)
        return _xla.once(lost & (carry.setting + 1 < self.method.settings))

    def renew(self, predicate: Bool[Array, ""], carry: Carry, limits: Limits) -> Carry:
        """On with the next setting, where the predicate is true."""
        method = self.method
        if method.settings == 1:
            return carry
        setting = carry.setting + predicate

        def start() -> Leaves:
            x = method.start(setting, carry.best, limits.x0)
            return x if limits.bounds is None else limits.bounds.shorten(limits.x0, x)

        return carry._replace(
            x=_tree.where_seldom(predicate, start, carry.x),
            method=_tree.where(predicate, method.renew(carry.method, setting), carry.method),
            status=_xla.where(predicate, Status.RUNNING, carry.status).astype(jnp.int32),
            stale=_xla.where(predicate, 0, carry.stale),
            setting=setting,
        )

    def finish(self, carry: Carry, limits: Limits) -> Outcome:
        status, component = carry.status, carry.component
        if limits.bounds is not None:
            blocked = (carry.pressed < self.unknowns) & (status < 0) & (carry.nfev > 0)
            status = _xla.where(blocked, Status.AT_BOUND, status)
            component = _xla.where(blocked, carry.pressed, component)
        nit = jnp.maximum(carry.nfev - 1, 0)
        return Outcome(carry.best, status.astype(jnp.int32), nit, carry.nfev, carry.residual, component)


def _where_bad(finite: Bool[Array, ""], residual: Leaves, component: Int[Array, ""]) -> Int[Array, ""]:
    """The first component that is not finite, sought only where there is one; else as it was."""
    if _tree.size(residual) <= _xla.WRITTEN_OUT:
        return _xla.where(finite, component, _tree.first_bad(residual))
    seek = lambda: _xla.where(finite, component, _tree.first_bad(residual))
    return _xla.if_all(finite, lambda: component, seek)
