"""One iteration of one row of a batch, or of the whole where there are none."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._methods import AbstractMethod, Evaluation, Proposal, Tolerance, ratio
from .._problem import Kind
from .._solution import Status
from .._tree import Leaves
from .bounds import Limits
from .domain import place
from .verdict import Before, Outcome, after, probe, prove, runs_off, status_of, why_none

_IDLE = 10  # evaluations without a better point, after which more of them would not have helped
_LONG = 50  # the same by a method of which a residual may grow for a while before it falls
_PROVISIONAL = 0.1  # tolerances: a correction by an approximate inverse as small as this may end a solve


class Carry(NamedTuple):
    """What a row carries from one iteration to the next."""

    x: Leaves  # where to evaluate next
    method: Any
    status: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    best: Leaves
    merit: Float[Array, "*rows"]  # of the best point
    distance: Float[Array, "*rows"] | None  # of it from a root, by Newton's correction, in tolerances
    residual: Float[Array, "*rows"]
    least: Float[Array, "*rows"]  # the smallest merit since the setting began: each is judged by its own start,
    stale: Int[Array, "*rows"]  # and evaluations since it was found
    component: Int[Array, "*rows"]
    pressed: Int[Array, "*rows"]  # the first unknown that lies against a bound at x; their number if none does
    setting: Int[Array, "*rows"]  # of the method's settings, the one in use
    waiting: Bool[Array, "*rows"]  # a row that has ended, but has to be looked at again
    at_guess: Leaves | None  # of a row of a batch: the residual at x0
    size: tuple[Any, ...] | None  # of x, by leaf, below which differences are rounding
    before: Before | None  # of a root
    inside: Bool[Array, "*rows"]  # whether F was finite at a point,
    tried: Int[Array, "*rows"]  # and at how many, x0 first, it was not before


class Judged(NamedTuple):
    """What an evaluation says of a point: of that evaluated, or of the one before, whose probe it was."""

    x: Leaves
    residual: Leaves
    size: Float[Array, ""]  # max |R|; infinite or NaN if R is not finite
    error: Float[Array, ""]  # in units of the tolerance; infinite if R is not finite
    merit: Float[Array, ""]  # the smaller, the better: the same, by one measure for all points
    solved: Bool[Array, ""]
    distance: Float[Array, ""] | None = None  # from a root, by Newton's correction, in tolerances

    @property
    def shown(self) -> Float[Array, ""]:
        """The error as it is recorded: at most 1 where the point is a solution, which for a root it does not say."""
        return _xla.where(self.solved, jnp.minimum(self.error, 1), jnp.maximum(self.error, 1))


class Row(NamedTuple):
    """What is fixed when the iteration is compiled."""

    kind: Kind
    unknowns: int
    method: AbstractMethod
    max_steps: int
    dtype: Any
    is_one_of_many: bool  # in a batch
    points: int = 0  # tried around x0, where F is not finite there

    @property
    def is_root(self) -> bool:
        """Whether it is a root that is sought, by a method that knows how far it is."""
        return self.kind == "root" and self.method.corrects

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
            merit=infinite,
            distance=infinite if self.is_root else None,
            residual=infinite,
            least=infinite,
            stale=zero,
            component=component,
            pressed=jnp.asarray(self.unknowns, jnp.int32),
            setting=zero,
            waiting=zero != 0,
            at_guess=x if self.is_one_of_many else None,
            size=limits.tolerance.size,
            before=Before.none(x) if self.is_root else None,
            inside=zero != 0,
            tried=zero,
        )

    def advance(self, carry: Carry, residual: Leaves, A: Any, limits: Limits) -> tuple[Carry, Judged]:
        """Judges the point evaluated, and asks the method for the next."""
        method = self.method
        tolerance = limits.tolerance._replace(size=carry.size).settled(_tree.sub(carry.x, limits.x0))
        limits = limits._replace(tolerance=tolerance)
        size = _tree.largest(residual)
        finite = _xla.once(jnp.isfinite(size))
        error = _xla.where(finite, tolerance.error(residual, carry.x), jnp.inf).astype(self.dtype)
        merit = (error * tolerance.growth(carry.x)).astype(self.dtype)
        best = _tree.where(merit < carry.merit, carry.x, carry.best)
        at = Evaluation(carry.x, residual, A, finite, best)
        proposal = method.step(at, carry.method, tolerance)
        judged = Judged(carry.x, residual, size, error, merit, error <= 1)
        judged, proposal, before = self._verdict(carry, at, proposal, judged, limits)

        nfev = carry.nfev + 1
        inside = carry.inside | finite
        astray = ~inside & (carry.tried < self.points)
        better = _xla.once(judged.solved | (judged.merit < carry.merit))
        advanced = _xla.once(judged.solved | (judged.merit < carry.least))
        stale = _xla.where(advanced, 0, carry.stale + 1)
        status = status_of(
            judged.solved,
            (astray, Status.RUNNING),
            (~finite & (~inside | (not method.recovers)), Status.NON_FINITE),
            (proposal.status == Status.UNBOUNDED, Status.UNBOUNDED),
            (nfev > self.max_steps, Status.STEP_LIMIT),
            (proposal.status != Status.RUNNING, proposal.status),
            (stale > method.patience, Status.STALLED),
            otherwise=Status.RUNNING,
        )
        x, pressed, at_guess = proposal.x, carry.pressed, carry.at_guess
        if limits.bounds is not None:
            x = limits.bounds.shorten(carry.x, x)
            shortened = _tree.largest(_tree.sub(x, proposal.x)) != 0
            before = before and before._replace(newton=before.newton & ~shortened)
            pressed = limits.bounds.pressed(x, limits.x0)
        following = Carry(
            x=x,
            method=proposal.state,
            status=status,
            nfev=nfev,
            best=_tree.where(better, judged.x, carry.best),
            merit=_xla.where(better, judged.merit, carry.merit),
            distance=None if judged.distance is None else _xla.where(better, judged.distance, carry.distance),
            residual=_xla.where(better, judged.size, carry.residual),
            least=_xla.where(advanced, judged.merit, carry.least),
            stale=stale,
            component=_where_bad(finite | (~inside & (carry.tried > 0)), residual, carry.component),
            pressed=pressed,
            setting=carry.setting,
            waiting=status != Status.RUNNING,
            at_guess=at_guess and _tree.where_seldom(carry.nfev == 0, lambda: residual, at_guess),
            # That of a good point: a step is as long as ∂R/∂x is near to singular.
            size=tolerance.size and _tree.where(better, tolerance.size, carry.size),
            before=before,
            inside=inside,
            tried=carry.tried,
        )
        return self._elsewhere(astray, following, limits), judged

    def _elsewhere(self, astray: Bool[Array, ""], carry: Carry, limits: Limits) -> Carry:
        """On to another point around x0, where F was not finite at any before."""

        def start() -> Carry:
            x = place(limits.x0, carry.tried)
            x = x if limits.bounds is None else limits.bounds.shorten(limits.x0, x)
            method = self.method.init(x, jnp.zeros_like(carry.tried))
            moved = carry._replace(x=x, method=method, before=carry.before and Before.none(x), tried=carry.tried + 1)
            return _tree.where(astray, moved, carry)

        return _xla.if_any(astray, start, lambda: carry) if self.points else carry

    def _verdict(
        self, carry: Carry, at: Evaluation, proposal: Proposal, judged: Judged, limits: Limits
    ) -> tuple[Judged, Proposal, Before | None]:
        """Whether the point evaluated, or the one before, is a solution."""
        tolerance = limits.tolerance
        if self.kind == "fixed_point":
            return *self._fixed_point(carry, at, proposal, judged, tolerance), None
        if proposal.weights:
            error = _tree.largest(_tree.mul(proposal.weights, at.residual))
            error = _xla.where(at.finite, error, jnp.inf).astype(self.dtype)
            judged = judged._replace(error=error, merit=error)
        if self.is_root:
            return self._root(carry, at, proposal, judged, limits)
        # By an approximate inverse, or by the method's own step: for `judge` to confirm.
        step = _tree.sub(proposal.x, at.x) if proposal.correction is None else proposal.correction
        short = ratio(step, tolerance.at(at.x)) <= _PROVISIONAL
        solved = at.finite & (short | (tolerance.of_residual(at.residual) <= 1))
        return judged._replace(solved=solved), proposal, None

    def _fixed_point(
        self, carry: Carry, at: Evaluation, proposal: Proposal, judged: Judged, tolerance: Tolerance
    ) -> tuple[Judged, Proposal]:
        """Whether x is on its way to infinity, where the residual is small. Lanes that have ended are not looked at."""
        error, no = judged.error, _xla.false_like(at.finite)
        step = lambda: runs_off(
            at.x, self.method.reach(at, proposal, judged.size / carry.residual), at.residual, tolerance
        )
        looked_at = (carry.status == Status.RUNNING) | carry.waiting
        endless = _xla.if_any(judged.solved & looked_at, step, lambda: no) & judged.solved
        judged = judged._replace(
            error=_xla.where(endless, jnp.maximum(error, 2), error),
            merit=_xla.where(endless, jnp.inf, judged.merit),
            solved=judged.solved & ~endless,
        )
        return judged, proposal._replace(status=_xla.where(endless, Status.UNBOUNDED, proposal.status))

    def _root(
        self, carry: Carry, at: Evaluation, proposal: Proposal, judged: Judged, limits: Limits
    ) -> tuple[Judged, Proposal, Before]:
        """Whether x, or the point before, is a root; and a probe, if x is one but for a proof."""
        before, tolerance, correction = carry.before, limits.tolerance, proposal.correction
        assert before is not None
        assert correction is not None
        settled = carry.status == Status.CONVERGED
        proof = prove(at, correction, before, tolerance, first=carry.nfev == 0, settled=settled)
        turn = carry.nfev // 2
        proposed = _tree.where(proof.wanted, probe(at.x, tolerance, turn, limits.bounds), proposal.x)
        earlier = judged._replace(x=before.x, residual=before.residual, size=_tree.largest(before.residual))
        judged = _tree.where(proof.before, earlier, judged)._replace(solved=proof.given, distance=proof.distance)
        return judged, proposal._replace(x=proposed), after(at, proposal.newton, proof, before)

    def retries(self, carry: Carry) -> Bool[Array, "*rows"]:
        """Whether the method has another setting for what has just failed."""
        # None begins anew on the way to infinity: the first step of any method is that of plain iteration, and short.
        final = (carry.status == Status.STEP_LIMIT) | (carry.status == Status.UNBOUNDED)
        lost = (carry.status < 0) & ~final & jnp.isfinite(carry.merit)
        return _xla.once(lost & (carry.setting + 1 < self.method.settings))

    def renew(self, predicate: Bool[Array, ""], carry: Carry, limits: Limits) -> Carry:
        """On with the next setting, where the predicate is true."""
        method = self.method
        if method.settings == 1:
            return carry
        setting = carry.setting + predicate

        def start() -> Leaves:
            guess = limits.x0 if self.points == 0 else _tree.where(carry.tried > 0, carry.best, limits.x0)
            x = method.start(setting, carry.best, guess)
            return x if limits.bounds is None else limits.bounds.spread(limits.x0, carry.best, x)

        return carry._replace(
            x=_tree.where_seldom(predicate, start, carry.x),
            before=carry.before and carry.before.elsewhere(predicate),
            method=_tree.where(predicate, method.renew(carry.method, setting), carry.method),
            status=_xla.where(predicate, Status.RUNNING, carry.status).astype(jnp.int32),
            least=_xla.where(predicate, jnp.inf, carry.least),
            stale=_xla.where(predicate, 0, carry.stale),
            setting=setting,
        )

    def finish(self, carry: Carry, limits: Limits) -> Outcome:
        status, component = carry.status, carry.component
        if carry.distance is not None:
            idle = (status == Status.STALLED) | ((status == Status.STEP_LIMIT) & (carry.stale >= _IDLE))
            status = _xla.where(idle, why_none(carry.merit, carry.distance, status), status)
        limit, stalled = status == Status.STEP_LIMIT, status == Status.STALLED
        none = (limit | stalled) & (carry.stale >= carry.nfev - 1) & (carry.nfev > _IDLE)
        spent = limit & (carry.stale >= _LONG)
        status = _xla.select([none, spent], [Status.NO_PROGRESS, Status.STALLED], status)
        if limits.bounds is not None:
            blocked = (carry.pressed < self.unknowns) & (status < 0) & (carry.nfev > 0)
            status = _xla.where(blocked, Status.AT_BOUND, status)
            component = _xla.where(blocked, carry.pressed, component)
        nit = jnp.maximum(carry.nfev - 1 - carry.tried, 0)
        return Outcome(carry.best, status.astype(jnp.int32), nit, carry.nfev, carry.residual, component)


def _where_bad(finite: Bool[Array, ""], residual: Leaves, component: Int[Array, ""]) -> Int[Array, ""]:
    """The first component that is not finite, sought only where there is one; else as it was."""
    if _tree.size(residual) <= _xla.WRITTEN_OUT:
        return _xla.where(finite, component, _tree.first_bad(residual))
    seek = lambda: _xla.where(finite, component, _tree.first_bad(residual))
    return _xla.if_all(finite, lambda: component, seek)
