"""Anderson acceleration, safeguarded."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree, _xla
from .._errors.values import check_damping, check_memory
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Given, Proposal, Tolerance, reaching, typical_size
from .settings import Setting, Settings

_SMALLEST_DAMPING = 1e-6
# A residual this much larger than the best one is discarded: on maps that are not normal, or have kinks, that of
# accelerated iterates grows tenfold on its way (`docs/batches.md`).
_GROWTH = 30.0
_REGULARISATION = 1e-6  # what it takes at kinks, and does not show elsewhere: on the same families
# Evaluations without a residual half as large, of which 30 make a solution, after which a setting has failed: one that
# accelerates, and plain iteration.
_PATIENCE, _PATIENCE_PLAIN = 100, 200
_STREAK = 8  # steps of plain iteration in a row that must decrease the residual before acceleration begins,
_FAR = 10.0  # and growth of the residual at which plain iteration counts as diverging


class _State(NamedTuple):
    image: Leaves  # F(x) of the last point accepted,
    residual: Leaves  # F(x) − x, weighted;
    least: Float[Array, ""]  # the smallest norm of these so far: infinite where there is nothing to compare with
    dg: tuple[Float[Array, "m ..."], ...]  # differences of images, a ring of `memory`,
    dr: tuple[Float[Array, "m ..."], ...]  # and of weighted residuals
    gram: Float[Array, "m m"]  # ⟨dr_i, dr_j⟩
    right: Float[Array, " m"]  # ⟨dr_i, residual⟩
    held: Int[Array, ""]  # differences since the last restart
    damping: Float[Array, ""]
    weights: Leaves
    first: Bool[Array, ""]
    memory: Int[Array, ""]  # of the setting in use,
    limit: Float[Array, ""]  # and its damping
    plain: Int[Array, ""]  # steps of plain iteration still allowed,
    streak: Int[Array, ""]  # and how many in a row have decreased the residual
    mark: Float[Array, ""]  # the size of the residual when it was last clearly better,
    since: Int[Array, ""]  # and evaluations since


class Anderson(AbstractMethod):
    """Anderson acceleration (type II): `x ← x + β r − Σⱼ γⱼ (Δxⱼ + β Δrⱼ)`, γ minimising `‖r − Σⱼ γⱼ Δrⱼ‖`.

    `r = F(x) − x`, and Δxⱼ, Δrⱼ are the last `memory` differences of the iterates and of their residuals. On a linear
    F it is GMRES. Components are weighted by `1/(atol + rtol·|x|)`, so that units do not matter; the least-squares
    problem is solved by normal equations, scaled and regularised, that are updated by one row an iteration.

    Safeguard: a point where F is not finite, or the residual more than 30 times the best so far, is discarded together
    with the memory, and the next one is a step of plain iteration from the last one that was not, with a quarter of the
    damping. A residual may grow that much on the way to a solution: on a map that is not normal, or at a kink.

    **Arguments:**

    - `memory`: how many differences are kept, 1 to 20.
    - `damping`: the factor β, in (0, 1].
    - `regularisation`: added to the diagonal of the scaled normal equations; by default 1e-6.
    - `warmup`: the evaluation with which acceleration begins; the steps before are those of plain iteration. It begins
      earlier where 8 of them in a row have each found the smallest residual so far (then it is in the basin of the
      fixed point that plain iteration finds), or where the residual has grown tenfold.
    - `retries`: further pairs (memory, damping), tried in turn when a setting has failed: no residual half as large in
      100 evaluations, or a damping below 1e-6. They begin at the best point so far. A memory of 0 is plain iteration
      with that damping: it begins at x0, and has failed after 200 evaluations without a residual half as large.
    - `restarts`: how often the first pair is tried again after them, from points around x0 that are drawn at random,
      always the same.

    **Cost:** an iteration is one evaluation of F, and about `2·memory + 40` passes over the state, with damping
    `3·memory + 40`.

    **Fails:** with `Status.STALLED` where the last setting has failed, or, without `retries`, the residual has not
    decreased for 500 evaluations.

    **Source:** Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715, doi:10.1137/10078356X.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> F = lambda x: jnp.cos(x) + 0.3 * jnp.roll(x, 1)
    >>> fast = ix.fixed_point(F, jnp.ones(4), solver=ix.Anderson(memory=3))
    >>> slow = ix.fixed_point(F, jnp.ones(4), solver=ix.Picard())
    >>> print(bool(fast.success), fast.nit < slow.nit)
    True True

    ```
    """

    memory: int = eqx.field(default=5, static=True)
    damping: float | Array = 1.0
    regularisation: float | None = None
    warmup: int = eqx.field(default=0, static=True)
    retries: tuple[tuple[int, float], ...] = eqx.field(default=(), static=True)
    restarts: int = eqx.field(default=0, static=True)
    recovers = True
    default_max_steps = 5000

    def __check_init__(self) -> None:
        check_memory("Anderson", self.memory, 20)
        check_damping(
            "Anderson", self.damping, "It is the part of the residual that is added to the accelerated point."
        )

    @property
    def _settings(self) -> Settings:
        return Settings.of(Setting(self.memory, self.damping, self.warmup), self.retries, self.restarts)

    @property
    def plain_steps(self) -> int | None:
        return 5 if self.warmup else None

    @property
    def settings(self) -> int:
        return len(self._settings.each)

    def resolve(self, given: Given) -> "Anderson":
        retries = tuple((min(memory, given.size), damping) for memory, damping in self.retries)
        return dataclasses.replace(self, memory=min(self.memory, given.size), retries=retries)

    def start(self, setting: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
        return self._settings.start(setting, best, x0)

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        dtype, m = _tree.work_dtype(x), self._settings.memory
        one, zero = jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        history = tuple(jnp.zeros((m, *leaf.shape), leaf.dtype) for leaf in x)
        state = _State(
            image=x,
            residual=x,
            least=one,
            dg=history,
            dr=history,
            gram=jnp.zeros((m, m), dtype),
            right=jnp.zeros((m,), dtype),
            held=zero,
            damping=one,
            weights=x,
            first=jnp.asarray(True),
            memory=zero,
            limit=one,
            plain=zero,
            streak=zero,
            mark=one,
            since=zero,
        )
        return self.renew(state, setting)

    def renew(self, state: _State, setting: Int[Array, ""]) -> _State:
        table = self._settings
        memory, plain = table.column("memory", setting), table.column("plain", setting)
        damping = table.column("damping", setting, state.limit.dtype)
        return state._replace(
            least=jnp.full_like(state.least, jnp.inf),
            held=jnp.zeros_like(state.held),
            damping=damping,
            first=jnp.ones_like(state.first),
            memory=memory,
            limit=damping,
            plain=plain,
            streak=jnp.zeros_like(state.streak),
            mark=jnp.full_like(state.mark, jnp.inf),
            since=jnp.zeros_like(state.since),
        )

    def revisit(self, x: Leaves, state: _State) -> _State:
        # What it has learnt of ∂F/∂x still holds, but the residuals it compares with do not. Plain iteration knows
        # nothing, and was the last resort from afar: near the solution the first setting is tried again.
        is_plain, first = state.memory == 0, self._settings.each[0]
        limit = _xla.where(is_plain, jnp.asarray(first.damping, state.limit.dtype), state.limit)
        return state._replace(
            least=jnp.full_like(state.least, jnp.inf),
            damping=limit,
            limit=limit,
            memory=_xla.where(is_plain, first.memory, state.memory),
            held=_xla.where(is_plain, 0, state.held),
            plain=jnp.zeros_like(state.plain),
        )

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        # Each pass over a large state costs as much as a cheap F: what is seldom needed is behind a branch.
        weigh = lambda: tuple(1 / size for size in typical_size(at.x, tolerance, at.residual))
        weights = _tree.where_seldom(state.first, weigh, state.weights)
        residual = _tree.mul(weights, at.residual)
        size = _tree.norm(residual)
        fresh = jnp.isinf(state.least)
        better = fresh | (at.finite & (size < state.least))
        least = _xla.where(better, size, state.least)
        clearly = fresh | (at.finite & (size < 0.5 * state.mark))
        since = _xla.where(clearly, 0, state.since + 1)
        tired = (since > _xla.where(state.memory == 0, _PATIENCE_PLAIN, _PATIENCE)) & (self.settings > 1)

        # Plain iteration comes first: until it evidently converges, or evidently does not.
        streak = _xla.where(better, state.streak + 1, 0)
        far = (size > _FAR * least) & (state.plain <= self.warmup)
        lost = (state.plain > 0) & ~fresh & (~at.finite | far)
        plain = _xla.where(lost | (streak > _STREAK), 0, jnp.maximum(state.plain - 1, 0))

        accepted = fresh | (at.finite & ((size <= _GROWTH * state.least) | (state.plain > 0)))
        damping = _xla.where(accepted, jnp.minimum(1.5 * state.damping, state.limit), state.damping / 4)
        following = self._remember(at, state, residual, accepted, fresh)._replace(
            # From the best point, with nothing to compare it with: its residual is not known any more.
            least=_xla.where(lost, jnp.inf, least),
            damping=damping,
            weights=weights,
            first=_xla.false_like(state.first),
            plain=plain,
            streak=streak,
            mark=_xla.where(clearly, size, state.mark),
            since=since,
        )
        x = self._accelerate(following, _xla.where(plain > 0, 0, jnp.minimum(following.held, state.memory)))
        x = _tree.where_seldom(lost, lambda: at.best, x)
        failed = tired | (damping < _SMALLEST_DAMPING)
        return Proposal(x, following, _xla.where(failed, Status.STALLED, Status.RUNNING))

    def reach(self, at: Evaluation, proposal: Proposal, rate: Array) -> Leaves:
        # Also by the last difference alone: together they count the slopes of points far back, of which the step is a
        # mean, and one of those back may have led across a kink, along which the residual says nothing of what is here.
        state = proposal.state
        last = jnp.maximum(state.held - 1, 0) % jnp.maximum(state.memory, 1)
        size = state.gram[last, last]
        known = (state.held > 0) & (size > 0)
        gamma = jnp.abs(_xla.where(known, state.right[last] / _xla.where(known, size, 1), 0))
        return reaching(at, proposal, tuple(jnp.abs(dg[last]) * gamma.astype(dg.dtype) for dg in state.dg))

    def _remember(
        self, at: Evaluation, state: _State, residual: Leaves, accepted: Bool[Array, ""], fresh: Bool[Array, ""]
    ) -> _State:
        """The state at the point evaluated if it is accepted, or without a memory at the one before."""
        image, remember = _tree.axpy(1, at.residual, at.x), accepted & ~fresh
        slot = state.held % jnp.maximum(state.memory, 1)
        moved = _tree.sub(residual, state.residual)
        # By `dynamic_update_slice`, which is done in place; `.at[slot].set` is a scatter, which copies the history.
        put = lambda history, new: jax.lax.dynamic_update_index_in_dim(history, _xla.where(remember, new, 0), slot, 0)
        dg = tuple(map(put, state.dg, _tree.sub(image, state.image)))
        dr = tuple(map(put, state.dr, moved))
        row = _tree.products(dr, moved)
        new = _xla.where(remember, _tree.dot(moved, residual), 0)
        held = _xla.where(accepted, state.held + remember, 0)
        # ⟨dr_i, residual⟩ changes by ⟨dr_i, moved⟩, the row of the Gram matrix: nothing to be computed anew.
        right = _xla.where(accepted & (held > 0), (state.right + row).at[slot].set(new), 0)
        row = _xla.where(remember, row, 0)
        return state._replace(
            image=_tree.where(accepted, image, state.image),
            residual=_tree.where(accepted, residual, state.residual),
            dg=dg,
            dr=dr,
            gram=state.gram.at[slot].set(row).at[:, slot].set(row),
            right=right,
            held=held,
        )

    def _accelerate(self, state: _State, count: Int[Array, ""]) -> Leaves:
        """x + β r − Σⱼ γⱼ (Δxⱼ + β Δrⱼ) = F(x) − (1 − β) r − Σⱼ γⱼ (Δgⱼ − (1 − β) Δrⱼ), of `count` differences."""
        gram, m = state.gram, state.right.size
        size = jnp.sqrt(jnp.diagonal(gram))
        used = (jnp.arange(m) < count) & (size > 0)
        inverse = _xla.where(used, 1 / _xla.where(used, size, 1), 0)
        least = max(_REGULARISATION, 10 * float(jnp.finfo(gram.dtype).eps))
        regularisation = least if self.regularisation is None else self.regularisation
        normal = gram * inverse[:, None] * inverse + jnp.diag(_xla.where(used, regularisation, 1)).astype(gram.dtype)
        gamma = _linear.solve_dense(normal, state.right * inverse, _linear.factoriser(m))[0] * inverse
        gamma = _xla.where(used & jnp.isfinite(gamma), gamma, 0)
        short = 1 - state.damping

        def past(history: tuple[Array, ...]) -> Leaves:
            return tuple(jnp.tensordot(gamma.astype(h.dtype), h, axes=1) for h in history)

        def damped(x: Leaves) -> Leaves:
            r = _tree.sub(state.residual, past(state.dr))
            return tuple((xi - short * ri / w).astype(xi.dtype) for xi, ri, w in zip(x, r, state.weights))

        x = _xla.if_any(count > 0, lambda: _tree.sub(state.image, past(state.dg)), lambda: state.image)
        return _xla.if_any(short != 0, damped, lambda x: x, x)
