"""One fixed point of a family: conditions c(x, θ) = 0 on what F leaves undetermined, made part of F.

Where F keeps totals, as reactions, populations and flows do, every value of these has its own fixed point, and A =
∂F/∂x − I is singular: which of them is meant only the conditions say. With C = ∂c/∂x and L = Cᵀ(C Cᵀ)⁻¹, so C L = I,

    F̃(x, θ) = F(x, θ) − L c(x, θ)                                                                   (1)

has as fixed points those of F at which c = 0: if F keeps c, C F̃(x) − C x = −c. Its A is regular, and C A = −C: a
step takes back at once what has been lost of the totals, and all else is as F does it. So solving and differentiating F̃
is solving and differentiating the equations `x = F(x), c(x) = 0`, as long as these contradict each other nowhere,
which is looked at where x and its derivative are: c = 0, and ċ = 0. Where they do not, L c is 0, and L has no part in
the derivative.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree, _xla
from .._tree import Leaves


class Condition(NamedTuple):
    """c at a point, and C there."""

    value: Float[Array, " m"]
    slope: Float[Array, "m n"]


def condition(c: Callable[[Leaves], Float[Array, " m"]], x: Leaves) -> Condition:
    flat = _tree.ravel(x)
    value, pullback = jax.vjp(lambda flat: c(_tree.unravel(flat, x)), flat)
    unit = _xla.varying(jnp.eye(value.size, dtype=value.dtype), (flat,))
    return Condition(value, jax.vmap(lambda row: pullback(row)[0])(unit))


def correction(found: Condition) -> Float[Array, " n"]:
    """L c, by Gram and Schmidt on the rows of C; one that depends on those before it adds nothing."""
    rows = jax.lax.stop_gradient(found.slope)
    size = jnp.sqrt(jnp.sum(rows**2, axis=1))
    inverse = 1 / _xla.where(size > 0, size, 1)
    rows, values = rows * inverse[:, None], found.value * inverse
    total = jnp.zeros_like(rows[0])
    for i in range(len(rows)):
        length = jnp.sqrt(jnp.sum(rows[i] ** 2))
        new = length > jnp.finfo(rows.dtype).eps ** 0.5
        inverse = _xla.where(new, 1 / _xla.where(new, length, 1), 0)
        direction, value = rows[i] * inverse, values[i] * inverse
        total = total + value * direction
        along = jnp.sum(rows * direction, axis=1)
        rows, values = rows - along[:, None] * direction, values - along * value
    return total
