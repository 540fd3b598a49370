"""Newton's method, and when it fails more robust ones: a portfolio for roots."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree, _xla
from .._errors.values import check_factorises
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Given, Needs, Proposal, Tolerance, row_weights
from .newton import backtrack, largest_known
from .rungs import BACKTRACKED, DOGLEG, MARQUARDT, RUNGS, UNDAMPED, column, norm_weights, start
from .trust_region import dogleg, marquardt

_PATIENCE = 10  # evaluations in which the norm must fall to half if the rung's share is used up
_MEMORY = 6  # a backtracked step must decrease the norm below the largest of the last so many,
_SMALLEST_STEP = 1e-8  # and may be shortened to this fraction
_DECREASE = 1e-4  # of the predicted decrease of the norm that a trusted step must reach
_LARGEST = 1e16  # Marquardt's parameter, and the inverse of the smallest radius relative to x


class _State(NamedTuple):
    base: Leaves  # the last point accepted,
    residual: Float[Array, " n"]  # R there,
    A: Float[Array, "n n"]
    newton: Float[Array, " n"]  # and Newton's step from there
    sizes: Float[Array, " memory"]  # the norm of R at the last points accepted, the newest first
    predicted: Float[Array, ""]  # the square of the norm that the linear model predicts at the point proposed
    trust: Float[Array, ""]  # fraction of Newton's step, radius of the dogleg, or Marquardt's parameter
    growth: Float[Array, ""]  # factor of Marquardt's parameter at the next failure
    length: Float[Array, ""]  # of the step proposed, in the norm of the trust region
    weights: Float[Array, " n"]  # of R's components in its norm
    scale: Float[Array, " n"]  # of x's components in the norm of the trust region
    known: Float[Array, " n"]  # the weights at the guess, by which points are compared whatever the rung
    rung: Int[Array, ""]
    evaluations: Int[Array, ""]  # on this rung,
    stale: Int[Array, ""]  # and since the norm of R last fell to half,
    mark: Float[Array, ""]  # and what it was then
    first: Bool[Array, ""]
    accepted: Bool[Array, ""]  # whether the last point was


class Ladder(AbstractMethod):
    """Newton's method first, and what is more robust where it fails: a ladder of methods for roots.

    1. Newton's method with non-monotone backtracking (`Newton` with a memory of 6), from x0.
    2. Powell's dogleg: inside a trust region between Newton's step and steepest descent of ‖R‖², from x0.
    3. Newton's method without backtracking, from x0.
    4. Levenberg-Marquardt, the rows of R weighted by what they change with x, from the best point so far.
    5. Levenberg-Marquardt, the rows of R as they are, from the best point so far.
    6. The first two again, from nine points around x0, drawn at random, always the same.

    A rung ends where it stalls, where A is singular, or when its share of evaluations is used up without progress. A
    point where R is not finite is a step too long on every rung. Whatever the rung, one iteration evaluates R and A
    once, at the same place of the code, so a ladder compiles R as often as Newton's method does.

    **Arguments:**

    - `linear_solver`: a Lineax solver that factorises matrices, for Newton's steps; by default by size.

    **Cost:** an iteration is one evaluation of R together with n of its tangents, one dense linear solve, and on the
    rungs of Levenberg-Marquardt one QR decomposition of 2n × n.

    **Fails:** with the status of the last rung tried, where all of them fail: as a rule there is no root near.

    **Sources:** Grippo, Lampariello and Lucidi, SIAM J. Numer. Anal. 23 (1986) 707, doi:10.1137/0723046; Powell, in:
    Numerical Methods for Nonlinear Algebraic Equations (1970) 87; Moré, Lecture Notes in Mathematics 630 (1978) 105,
    doi:10.1007/BFb0067700; Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05 (1999).

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> R = lambda x: jnp.stack([x[0] ** 3 - 3 * x[0] - x[1], x[0] - 2 + 0.1 * x[1] ** 2])
    >>> print(bool(ix.root(R, jnp.array([1.0, -1.0]), solver=ix.Ladder()).success))
    True

    ```
    """

    linear_solver: lx.AbstractLinearSolver | None = None
    needs = Needs.MATRIX
    kinds = ("fixed_point", "root")
    corrects = True
    recovers = True
    default_max_steps = 1200

    @property
    def plain_steps(self) -> int:
        return 0  # a root has no plain iteration: an attempt begins with Newton's steps

    @property
    def settings(self) -> int:
        return len(RUNGS)

    def resolve(self, given: Given) -> "Ladder":
        if self.linear_solver is None:
            return Ladder(_linear.factoriser(given.size))
        cause = "The steps of a trust region need the matrix itself."
        check_factorises("Ladder", self.linear_solver, _linear.is_dense(self.linear_solver), cause, "NewtonKrylov()")
        return self

    def start(self, setting: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
        return start(setting, best, x0)

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        dtype, n = _tree.work_dtype(x), _tree.size(x)
        vector, one, zero = jnp.zeros((n,), dtype), jnp.ones((), dtype), jnp.zeros((), jnp.int32)
        state = _State(
            base=x,
            residual=vector,
            A=jnp.zeros((n, n), dtype),
            newton=vector,
            sizes=jnp.ones((_MEMORY,), dtype),
            predicted=one,
            trust=one,
            growth=one,
            length=one,
            weights=vector,
            scale=vector,
            known=vector,
            rung=zero,
            evaluations=zero,
            stale=zero,
            mark=one,
            first=jnp.asarray(True),
            accepted=jnp.asarray(False),
        )
        return self.renew(state, setting)

    def renew(self, state: _State, setting: Int[Array, ""]) -> _State:
        damped, one, zero = column("step")[setting] == MARQUARDT, jnp.ones_like(state.trust), jnp.zeros_like(setting)
        return state._replace(
            sizes=jnp.full_like(state.sizes, jnp.inf),
            predicted=one,
            trust=_xla.where(damped, 1e-2, one),
            growth=2 * one,
            length=one,
            rung=setting,
            evaluations=zero,
            stale=zero,
            mark=jnp.inf * one,
            first=jnp.ones_like(state.first),
            accepted=jnp.zeros_like(state.accepted),
        )

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        assert self.linear_solver is not None, "`resolve` fills it in"
        correction, regular = _linear.correct(at.A, at.residual, self.linear_solver, ())
        newton = _tree.ravel(correction)

        by_tolerance = _tree.ravel(row_weights(at.x, at.A, tolerance, correction))
        weights = _xla.where(state.first, by_tolerance, state.weights)
        known = _xla.where(state.first & (state.rung == 0), by_tolerance, state.known)
        size = _tree.norm((weights * _tree.ravel(at.residual),))
        accepted, fraction = backtrack(size, largest_known(state.sizes), state.trust, at.finite, state.first)
        verdict = _Verdict(accepted, fraction, state.growth, weights, size, state.scale)

        # The other rungs are behind branches, so that Newton's method does not pay for them. Under `vmap` they are
        # taken where any lane needs it, and leave those on the first rung as they are.
        above = state.rung > 0

        def where_above(other: Callable[[], Any], first: Any) -> Any:
            merge = lambda first: jax.tree.map(partial(_xla.where, above), other(), first)
            return _xla.if_any(above, merge, lambda first: first, first)

        verdict = where_above(lambda: _judge(at, state, tolerance), verdict)
        following = _follow(at, state, verdict, newton)
        move = _Move(verdict.trust * following.newton, state.predicted, state.length, verdict.trust < _SMALLEST_STEP)
        move = where_above(lambda: _bend(at, following), move)

        kind, budget = column("step")[state.rung], column("evaluations")[state.rung]
        failed = move.exhausted | ((following.evaluations > budget) & (following.stale > _PATIENCE))
        needs_newton = (kind == BACKTRACKED) | (kind == UNDAMPED)
        status = _xla.where(
            following.accepted & ~regular & needs_newton,
            Status.SINGULAR,
            _xla.where(failed, Status.STALLED, Status.RUNNING),
        )
        correction = _tree.unravel(_xla.where(regular, newton, jnp.inf), at.x)
        step = _tree.unravel(move.step, following.base)
        full = following.accepted & (_tree.largest((move.step - newton,)) == 0)
        following = following._replace(predicted=move.predicted, length=move.length, known=known)
        compared = _tree.unravel(known, at.x)
        return Proposal(_tree.axpy(1, step, following.base), following, status, correction, full, compared)


class _Verdict(NamedTuple):
    """Of a rung on the point evaluated."""

    accepted: Bool[Array, ""]
    trust: Float[Array, ""]
    growth: Float[Array, ""]
    weights: Float[Array, " n"]
    size: Float[Array, ""]
    scale: Float[Array, " n"]


class _Move(NamedTuple):
    """From the point last accepted to the next."""

    step: Float[Array, " n"]
    predicted: Float[Array, ""]
    length: Float[Array, ""]
    exhausted: Bool[Array, ""]  # whether nothing is left to try on this rung


def _follow(at: Evaluation, state: _State, verdict: _Verdict, newton: Float[Array, " n"]) -> _State:
    """The state after the verdict: with the point accepted, or as it was."""
    accepted, size = verdict.accepted, verdict.size
    halved = size < state.mark / 2
    return state._replace(
        base=_tree.where(accepted, at.x, state.base),
        residual=_xla.where(accepted, _tree.ravel(at.residual), state.residual),
        A=_xla.where(accepted, at.A, state.A),
        newton=_xla.where(accepted, newton, state.newton),
        sizes=_xla.where(accepted, jnp.concatenate([size[None], state.sizes[:-1]]), state.sizes),
        trust=verdict.trust,
        growth=verdict.growth,
        weights=verdict.weights,
        scale=verdict.scale,
        evaluations=state.evaluations + 1,
        stale=_xla.where(halved, 0, state.stale + 1),
        mark=_xla.where(halved, size, state.mark),
        first=_xla.false_like(state.first),
        accepted=accepted,
    )


def _judge(at: Evaluation, state: _State, tolerance: Tolerance) -> _Verdict:
    """The verdict of a rung above the first."""
    kind, residual = column("step")[state.rung], _tree.ravel(at.residual)
    weights = _xla.where(state.first, norm_weights(at, tolerance, state.rung), state.weights)
    size = _tree.norm((weights * residual,))
    accepted, trust, growth = _trust(kind, state, size, at.finite)

    columns = jnp.sqrt(_tree.matvec((weights[:, None] * at.A).T ** 2, jnp.ones_like(weights)))
    columns = _xla.where((columns > 0) & jnp.isfinite(columns), columns, 1)
    old = _xla.where(kind == MARQUARDT, 1e-3, 1) * state.scale
    scale = _xla.where(accepted, jnp.maximum(columns, _xla.where(state.first, 0, old)), state.scale)
    # Moré's first radius, 100 times the size of x.
    reach = _reach(at, scale)
    trust = _xla.where(state.first & (kind == DOGLEG), 100 * _xla.where(reach > 0, reach, 1), trust)
    return _Verdict(accepted, trust, growth, weights, size, scale)


def _reach(at: Evaluation, scale: Float[Array, " n"]) -> Float[Array, ""]:
    """The size of x in the norm of the trust region."""
    return _tree.norm((scale * _tree.ravel(at.x),))


def _bend(at: Evaluation, state: _State) -> _Move:
    """The step of a rung above the first, from the point last accepted."""
    kind, trust, scale = column("step")[state.rung], state.trust, state.scale
    A, r = state.weights[:, None] * state.A, state.weights * state.residual
    bent = dogleg(A, r, state.newton, scale, trust)
    is_damped = kind == MARQUARDT
    damped = _xla.if_any(is_damped, lambda: marquardt(A, r, scale, trust), lambda: jnp.zeros_like(r))
    step = _xla.select([kind == DOGLEG, is_damped], [bent, damped], trust * state.newton)
    smallest = _xla.where(kind == DOGLEG, _reach(at, scale) / _LARGEST, _SMALLEST_STEP)
    return _Move(
        step=step,
        predicted=_tree.norm((r + _tree.matvec(A, step),)) ** 2,
        length=_tree.norm((scale * step,)),
        exhausted=_xla.where(is_damped, trust > _LARGEST, trust < smallest),
    )


def _trust(
    kind: Int[Array, ""], state: _State, size: Float[Array, ""], finite: Bool[Array, ""]
) -> tuple[Bool[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Whether the point is accepted, and what to trust next: a fraction, a radius, or Marquardt's parameter."""
    before = _xla.where(kind == UNDAMPED, jnp.inf, largest_known(state.sizes))
    descends, fraction = backtrack(size, before, state.trust, finite, state.first)

    # A trusted one: the decrease of the square of the norm, relative to what the linear model predicts.
    square = state.sizes[0] ** 2
    gain = _xla.where(
        finite, (square - size**2) / jnp.maximum(square - state.predicted, jnp.finfo(size.dtype).tiny), -1
    )
    gain = _xla.where(state.predicted < square, gain, -1)
    shorter = jnp.minimum(state.trust, state.length) * _xla.where(finite, 0.5, 0.25)
    radius = _xla.where(
        gain < 0.1, shorter, _xla.where(gain > 0.7, jnp.maximum(state.trust, 2 * state.length), state.trust)
    )
    # Nielsen's rule, with faster decrease.
    good = gain > _DECREASE
    smaller = jnp.maximum(state.trust * jnp.maximum(0.1, 1 - (2 * gain - 1) ** 3), 1 / _LARGEST)
    parameter = _xla.where(good, smaller, state.trust * state.growth)
    growth = _xla.where(good & (kind == MARQUARDT), 2, 2 * state.growth)

    trusted = (kind == DOGLEG) | (kind == MARQUARDT)
    trust = _xla.select([kind == DOGLEG, kind == MARQUARDT], [radius, parameter], fraction)
    accepted = state.first | _xla.where(trusted, good, descends)
    unless_first = lambda old, new: _xla.where(state.first, old, new).astype(size.dtype)
    return accepted, unless_first(state.trust, trust), unless_first(state.growth, growth)
