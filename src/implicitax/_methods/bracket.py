"""One unknown between bounds: Newton's method, and bisection where R changes its sign."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import _linear, _xla
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Needs, Proposal, Tolerance

_FREE, _LOWER, _UPPER, _INSIDE = range(4)  # Newton's steps; the ends are looked at; between points of other signs
_FAR = 4.0  # ratio of the ends from which on the middle is that of their logarithms
_ROUNDING = 4  # eps: the width of a bracket in which there is no other point,
_SHORT = 1e-2  # and tolerances: one in which no other point would be another root


class _State(NamedTuple):
    phase: Int[Array, ""]
    a: Float[Array, ""]  # the bracket; before there is one, the last point at which R was finite, twice
    b: Float[Array, ""]
    sign: Float[Array, ""]  # of R at a
    size: Float[Array, ""]  # of R at the last point


class Bracket(AbstractMethod):
    """For a root of one unknown between bounds: Newton's method while |R| falls to half in each step, then bisection.

    The ends, which are just inside the bounds, are evaluated only where Newton's method gets on no more. An infinite
    R has a sign too. Newton's step is taken where it stays in the bracket and |R| has fallen to half since the last
    point; else the middle, of the logarithms if the ends differ by more than a factor of 4. So a bracket that holds a
    root, and no jump over 0, leads to it.

    **Source:** Press et al., Numerical Recipes (2007), section 9.4.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    linear_solver: _linear.SmallLU = eqx.field(default=_linear.SmallLU(), static=True)
    needs = Needs.MATRIX
    kinds = ("root",)
    corrects = True
    recovers = True

    @classmethod
    def between(cls, lower: Array, upper: Array) -> "Bracket":
        """Strictly between two bounds."""
        tiny = float(jnp.finfo(lower.dtype).tiny)
        up, down = jnp.nextafter(lower, upper), jnp.nextafter(upper, lower)
        # Numbers too small to be normal are 0 to XLA.
        up, down = _xla.where(jnp.abs(up) < tiny, tiny, up), _xla.where(jnp.abs(down) < tiny, -tiny, down)
        return cls(up.astype(lower.dtype), down.astype(lower.dtype))

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        at = x[0].reshape(())
        infinite = jnp.full_like(at, jnp.inf)
        return _State(jnp.zeros_like(setting) + _FREE, at, at, jnp.zeros_like(at), infinite)

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        correction, regular = _linear.correct(at.A, at.residual, self.linear_solver, ())
        x, r = at.x[0].reshape(()), at.residual[0].reshape(())
        newton = x + correction[0].reshape(())
        following = self._bracketed(x, r, state)
        a, b, phase = following.a, following.b, following.phase

        between = _xla.where(
            phase == _INSIDE, (a < newton) & (newton < b), (self.lower < newton) & (newton < self.upper)
        )
        good = at.finite & regular & between & (jnp.abs(r) <= state.size / 2)
        falls = good & ((phase == _FREE) | (phase == _INSIDE))
        phase = _xla.where((phase == _FREE) & ~good, _LOWER, phase)
        elsewhere = _xla.select([phase == _LOWER, phase == _UPPER], [self.lower, self.upper], _middle(a, b))
        proposed = _xla.where(falls, newton, elsewhere).astype(x.dtype)

        eps = float(jnp.finfo(x.dtype).eps)
        least = jnp.maximum(_ROUNDING * eps * jnp.abs(x), _SHORT * tolerance.at(at.x)[0].reshape(()))
        narrow = (phase == _INSIDE) & (b - a <= least)
        nothing = (phase == _UPPER) & (x == self.upper)
        status = _xla.where(narrow | nothing, Status.STALLED, Status.RUNNING)
        following = following._replace(phase=phase)
        known = tuple(_xla.where(regular, leaf, jnp.inf).astype(leaf.dtype) for leaf in correction)
        return Proposal((proposed.reshape(at.x[0].shape),), following, status, known, falls)

    def _bracketed(self, x: Float[Array, ""], r: Float[Array, ""], state: _State) -> _State:
        """The state with what R at x says of the bracket."""
        sign = _xla.where(jnp.isnan(r), 0, jnp.sign(r)).astype(x.dtype)
        phase, a, b, s = state.phase, state.a, state.b, state.sign
        opposite = sign * s < 0
        # Before there is a bracket a point of another sign than the last makes one, with it.
        made = (phase != _INSIDE) & opposite
        inside = (phase == _INSIDE) & (a < x) & (x < b) & (sign != 0)
        low, high = jnp.minimum(a, x), jnp.maximum(a, x)
        looked_at = ((phase == _LOWER) & (x == self.lower)) & ~opposite
        alone = (phase != _INSIDE) & ~opposite & (sign != 0)
        new_a = _xla.select([made, inside & ~opposite, alone], [low, x, x], a)
        new_b = _xla.select([made, inside & opposite, alone], [high, x, x], b)
        new_sign = _xla.select([made, alone], [_xla.where(a < x, s, sign), sign], s)
        new_phase = _xla.select([made, looked_at], [_INSIDE, _UPPER], phase)
        size = jnp.abs(r)
        return _State(
            new_phase.astype(phase.dtype),
            new_a.astype(x.dtype),
            new_b.astype(x.dtype),
            new_sign.astype(x.dtype),
            _xla.where(jnp.isfinite(size), size, jnp.inf).astype(x.dtype),
        )


def _middle(a: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, ""]:
    """Of a and b, or, if these are far apart and of one sign, that of their logarithms."""
    small, large = jnp.minimum(jnp.abs(a), jnp.abs(b)), jnp.maximum(jnp.abs(a), jnp.abs(b))
    apart = (a * b > 0) & (large > _FAR * small)
    of_logarithms = jnp.sign(a) * jnp.sqrt(small) * jnp.sqrt(large)
    return _xla.where(apart, of_logarithms, a / 2 + b / 2)
