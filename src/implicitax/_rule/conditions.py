"""Whether a constraint still holds as the parameters change (`_problem/constraint.py`).

The derivative is that of F̃ = F − L c, which is that of `x = F(x), c(x) = 0` only if c stays 0: ċ = C ẋ + c_θ θ̇ = 0. It
does where F keeps c at all parameters, or where all of a family of fixed points differ by what has no equation, as the
potentials of Sinkhorn's method. It does not where F keeps c at these parameters alone, as with a loss whose rate is 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _linear, _tree, _xla
from .._tree import Leaves
from .rows import Solve

# x and the leaves of θ that move ↦ R̃, c and C.
Constrained = Callable[[Leaves, Leaves], tuple[Leaves, Array, Array]]


def stay(f: Constrained, at: tuple[Leaves, Leaves], direction: tuple[Leaves, Leaves]) -> Bool[Array, ""]:
    """Whether ċ is 0 beside what it is a sum of, for ẋ and θ̇."""
    (_, _, slope), (_, c_dot, _) = jax.jvp(f, at, direction)
    size = _tree.matvec(jnp.abs(slope), jnp.abs(_tree.ravel(direction[0])))
    return jnp.all(jnp.abs(c_dot) <= _rounding(c_dot) * size)


def stay_for_all(f: Constrained, at: tuple[Leaves, Leaves], A: Any, solve: Solve) -> Bool[Array, ""]:
    """The same for every θ̇, by the cotangent of a random sum of c; `A` is the transpose of A.

    It is beside that of R with random signs that it has to be 0.
    """
    x, theta = at
    (_, value, slope), pullback = jax.vjp(lambda theta: f(x, theta), theta)
    signs, _ = _linear.trust.columns(value)
    size = jnp.sqrt(jnp.sum(slope**2, axis=1))
    weights = (signs / _xla.where(size > 0, size, 1)).astype(value.dtype)
    w, _ = solve._replace(check=None)(A, _tree.unravel((weights @ slope).astype(slope.dtype), x), transpose=True)
    none, no_slope = _tree.zeros_like(x), jnp.zeros_like(slope)
    of_R = pullback((tuple(-leaf for leaf in w), jnp.zeros_like(value), no_slope))[0]
    of_c = pullback((none, weights, no_slope))[0]
    scattered = pullback((_tree.mul(w, _linear.trust.direction(x)), jnp.zeros_like(value), no_slope))[0]
    good = jnp.asarray(True)
    for a, b, s in zip(of_R, of_c, scattered):
        size = _tree.max_norm((b, s))
        good &= _tree.max_norm((a + b,)) <= _rounding(value) * size
    return good


def _rounding(like: Array) -> float:
    return float(jnp.finfo(like.dtype).eps) ** (1 / 3)
