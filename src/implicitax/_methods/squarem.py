"""SQUAREM: squared extrapolation, two evaluations of F a step."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._errors.values import check_damping
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Proposal, Tolerance, reaching, typical_size

_WINDOW = 20  # an extrapolated point is taken if the residual is below the largest at the last so many plain iterates
_WIDER = 4.0  # the factor by which the limit of the steplength grows where it was reached
_PAUSE = 2  # steps of plain iteration after an extrapolation that has failed; twice as many after each further one
_FAR = 1e3  # growth of the residual over the smallest so far, by which plain iteration is said to diverge
_LONGEST = 500  # such steps at the most
_SMALLEST_DAMPING = 1e-6


class _State(NamedTuple):
    base: Leaves  # x; once it has been extrapolated from, the plain iterate of its plain iterate
    first: Leaves  # r(x), weighted, as all that is compared
    weights: Leaves
    sizes: Float[Array, " window"]  # of the residual at the last plain iterates, the newest first,
    least: Float[Array, ""]  # and the smallest of all
    length: Float[Array, ""]  # α of the last extrapolation,
    limit: Float[Array, ""]  # what it may be,
    secant: Float[Array, ""]  # and what it would have been without a limit
    damping: Float[Array, ""]
    pause: Int[Array, ""]  # steps of plain iteration that follow the next failure,
    resting: Int[Array, ""]  # and that are left of those after the last
    second: Bool[Array, ""]  # the next evaluation is at the plain iterate of x, from where it is extrapolated,
    tried: Bool[Array, ""]  # or at the point extrapolated
    begun: Bool[Array, ""]


class _Cycle(NamedTuple):
    """What the point evaluated is."""

    second: Bool[Array, ""]
    failed: Bool[Array, ""]
    taken: Bool[Array, ""]  # an extrapolated point that is good enough
    left: Bool[Array, ""]  # plain iteration has left the domain of F, or runs away


class Squarem(AbstractMethod):
    """SQUAREM: `x ← x + 2α r + α² v` with `r = F(x) − x`, `v = r(F(x)) − r(x)` and `α = ‖r‖/‖v‖`.

    It is a secant step of which the factor is squared: of a linear F the part of the error that belongs to an
    eigenvalue λ is multiplied by `(1 + α (λ − 1))²`. So α = 1 is two steps of plain iteration, and `1/(1 − λ)` removes
    that part. The steplength is the scheme S3, of components weighted by `1/(atol + rtol·|x|)`. It carries three arrays
    like x, whatever happens, and needs no linear algebra.

    Safeguard: α is limited by a bound that is 1 at first, and four times as large each time that it was reached. Where
    F is not finite at the extrapolated point, or the residual larger than at each of the last 20 plain iterates, the
    two steps of plain iteration are taken instead, and two more, or four after the next such failure, eight, and so on,
    until one has succeeded: they reduce what α has enlarged. Where plain iteration itself comes to a point where F is
    not finite, or the residual is 1000 times the smallest, it begins again at the best point with a quarter of the
    damping.

    **Arguments:**

    - `damping`: plain iteration is `x ← x + damping·r` in all of this, in (0, 1]; a float or a scalar array. A smaller
      one evaluates F at nearer points; of a linear F the point extrapolated to is the same.

    **Cost:** an iteration is one evaluation of F, and about 15 passes over the state; two evaluations are a step.

    **Fails:** with `Status.STALLED` where the residual has not decreased for 500 evaluations, or the damping has fallen
    below 1e-6. It is made for slow contractions of which the eigenvalues are real and in [0, 1), as of EM algorithms.
    Where others stand beside slow ones, as in dynamic programmes, an α that removes the slow part enlarges the rest,
    and `Anderson` takes a fraction of the evaluations (`docs/slow-maps.md`).

    **Source:** Varadhan and Roland, Scand. J. Statist. 35 (2008) 335, doi:10.1111/j.1467-9469.2007.00585.x. There the
    residual may grow by a constant, and α is at least 1; α below 1, the window and the pauses are ours.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> F = lambda x: 0.95 * jnp.sin(x) + jnp.arange(1.0, 4.0) * 0.01
    >>> fast = ix.fixed_point(F, jnp.ones(3), solver=ix.Squarem())
    >>> slow = ix.fixed_point(F, jnp.ones(3), solver=ix.Picard())
    >>> print(bool(fast.success), fast.nit < slow.nit)
    True True

    ```
    """

    damping: float | Array = 1.0
    recovers = True
    default_max_steps = 10_000

    def __check_init__(self) -> None:
        check_damping("Squarem", self.damping, "It is the part of the residual that plain iteration adds to x.")

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        dtype = _tree.work_dtype(x)
        one, zero, no = jnp.ones((), dtype), jnp.zeros((), jnp.int32), jnp.asarray(False)
        return _State(
            base=x,
            first=x,
            weights=x,
            sizes=jnp.zeros((_WINDOW,), dtype),
            least=jnp.asarray(jnp.inf, dtype),
            length=one,
            limit=one,
            secant=one,
            damping=jnp.asarray(self.damping, dtype),
            pause=zero + _PAUSE,
            resting=zero,
            second=no,
            tried=no,
            begun=no,
        )

    def revisit(self, x: Leaves, state: _State) -> _State:
        no = _xla.false_like(state.second)
        sizes, least = jnp.zeros_like(state.sizes), jnp.full_like(state.least, jnp.inf)
        return state._replace(sizes=sizes, least=least, resting=jnp.zeros_like(state.resting), second=no, tried=no)

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        weigh = lambda: tuple(1 / size for size in typical_size(at.x, tolerance, at.residual))
        weights = _tree.where_seldom(~state.begun, weigh, state.weights)
        state = state._replace(weights=weights, begun=~_xla.false_like(state.begun))
        residual = _tree.mul(weights, at.residual)
        size = _tree.norm(residual)
        largest = _xla.fold(jnp.maximum, state.sizes, jnp.max)
        failed = state.tried & ~(size <= largest)
        left = ~state.tried & ~(at.finite & (size <= _FAR * state.least))
        cycle = _Cycle(state.second & ~left, failed, state.tried & ~failed, left)

        x, base, following = self._move(at, state, residual, cycle)
        following = self._count(following, state, size, cycle)
        first = _tree.where(cycle.second | failed, state.first, residual)
        following = following._replace(base=base, first=first)
        again = self.revisit(at.x, state)._replace(damping=state.damping / 4)
        following = _tree.where(left, again, following)
        status = _xla.where(following.damping < _SMALLEST_DAMPING, Status.STALLED, Status.RUNNING)
        return Proposal(_tree.where_seldom(left, lambda: at.best, x), following, status)

    def _move(self, at: Evaluation, state: _State, residual: Leaves, cycle: _Cycle) -> tuple[Leaves, Leaves, _State]:
        """From x to its plain iterate, from there to the point extrapolated, or from there back; and the next base."""
        v = _tree.sub(residual, state.first)
        change = _tree.norm(v)
        moved = change > 0
        endless = 1 / float(jnp.finfo(change.dtype).eps)
        secant = _xla.where(moved, _tree.norm(state.first) / _xla.where(moved, change, 1), endless)
        length = jnp.minimum(secant, state.limit)
        damping = jnp.minimum(_xla.where(cycle.taken, 1.5, 1) * state.damping, self.damping).astype(change.dtype)

        def extrapolated(x: Array, r: Array, v: Array, w: Array) -> Array:
            return (x + damping * length * (2 * r + length * v) / w).astype(x.dtype)

        ahead = tuple(map(extrapolated, state.base, state.first, v, state.weights))
        plain = _tree.axpy(damping, at.residual, at.x)
        x = _tree.where(cycle.second, ahead, _tree.where(cycle.failed, state.base, plain))
        base = _tree.where(cycle.second, plain, _tree.where(cycle.failed, state.base, at.x))
        known = lambda new, old: _xla.where(cycle.second, new, old).astype(change.dtype)
        lengths = {"length": known(length, state.length), "secant": known(secant * damping, state.secant)}
        return x, base, state._replace(damping=damping, **lengths)

    def _count(self, following: _State, state: _State, size: Float[Array, ""], cycle: _Cycle) -> _State:
        """The limits, and what comes next."""
        reached = cycle.taken & (state.length >= state.limit)
        sizes = jnp.concatenate([size[None], state.sizes[:-1]])
        pause = _xla.select(
            [cycle.failed, cycle.taken], [2 * state.pause, jnp.maximum(state.pause // 2, _PAUSE)], state.pause
        )
        resting = _xla.where(cycle.failed, state.pause, jnp.maximum(state.resting - 1, 0))
        return following._replace(
            sizes=_xla.where(cycle.second, sizes, state.sizes),
            least=_xla.where(cycle.failed, state.least, jnp.minimum(state.least, size)),
            limit=_xla.where(reached, _WIDER, 1).astype(size.dtype) * state.limit,
            pause=jnp.minimum(pause, _LONGEST).astype(jnp.int32),
            resting=resting.astype(jnp.int32),
            second=~cycle.second & ~cycle.failed & (state.resting == 0),
            tried=cycle.second,
        )

    def reach(self, at: Evaluation, proposal: Proposal, rate: Float[Array, ""]) -> Leaves:
        # The secant that α is, without its limit.
        return reaching(at, proposal, tuple((proposal.state.secant * r).astype(r.dtype) for r in at.residual))
