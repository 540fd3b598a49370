"""Whether a constraint still holds as the parameters change (`_problem/constraint.py`).

The derivative is that of F̃ = F − L c, which is that of `x = F(x), c(x) = 0` only if c stays 0: ċ = C ẋ + c_θ θ̇ = 0. It
does where F keeps c at all parameters, or where all of a family of fixed points differ by what has no equation, as the
potentials of Sinkhorn's method. It does not where F keeps c at these parameters alone, as with a loss whose rate is 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _linear, _tree, _xla
from .._problem import Condition
from .._tree import Leaves

At = tuple[Leaves, Leaves]  # x, and the leaves of θ that move


def stay(condition: Callable[[Leaves, Leaves], Condition], at: At, direction: At) -> Bool[Array, ""]:
    """Whether ċ is 0 beside what it is a sum of, for ẋ and θ̇."""
    (_, slope), (c_dot, _) = jax.jvp(condition, at, direction)
    size = _tree.matvec(jnp.abs(slope), jnp.abs(_tree.ravel(direction[0])))
    return jnp.all(jnp.abs(c_dot) <= _rounding(c_dot) * size)


def stay_for_all(
    condition: Callable[[Leaves, Leaves], Condition],
    at: At,
    solve: Callable[[Leaves], Leaves],
    pullback: Callable[[Leaves], Leaves],
) -> Bool[Array, ""]:
    """The same for every θ̇, by the cotangent of a random sum of c. `solve` is with Aᵀ, `pullback` by −Bᵀ.

    It is beside −Bᵀ of random signs that it has to be 0.
    """
    x, theta = at
    (value, slope), of_condition = jax.vjp(lambda theta: condition(x, theta), theta)
    signs, _ = _linear.trust.columns(value)
    size = jnp.sqrt(jnp.sum(slope**2, axis=1))
    weights = (signs / _xla.where(size > 0, size, 1)).astype(value.dtype)
    of_c = of_condition(Condition(weights, jnp.zeros_like(slope)))[0]
    w = solve(_tree.unravel((weights @ slope).astype(slope.dtype), x))
    good = jnp.asarray(True)
    for a, b, s in zip(pullback(w), of_c, pullback(_tree.mul(w, _linear.trust.direction(x)))):
        good &= _tree.max_norm((a + b,)) <= _rounding(value) * _tree.max_norm((b, s))
    return good


def _rounding(like: Array) -> float:
    return float(jnp.finfo(like.dtype).eps) ** (1 / 3)
