"""Whether the answer of a linear solve is one.

An answer y of A y = b may satisfy the equation and still be arbitrary: where A is singular and b happens to be in its
range, as in forward mode it always is. So the same solver is asked for a second answer z, of a right-hand side that no
singular A has in its range. With A in units in which its entries are of the order of 1, rounding changes the row i of A
by up to eps Σⱼ|Aᵢⱼ|, and so y by up to

    eps max |z| max |y|,    A z = v ∘ Σⱼ|Aᵢⱼ|,

with random signs and sizes v in place of the worst ones. Measured on 100 matrices each with n = 2, 3, 5, 10, 30, and
20 with n = 100, in float64 (float32): refused are all of conserved totals and of rank lost to rounding, none with a
condition up to 10¹⁰ (10⁴), all with 10¹⁴ (8 of 10 with 10⁶); no error accepted is above 10⁻⁴ (3·10⁻²). With each
row and column in a unit of its own, which no scaling undoes entirely: at most 1 in 10 with 10⁸ (10³), none with 10.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import _xla
from .._problem import Kind
from .._tree import Leaves

COLUMNS = 2  # right-hand sides for a matrix: the price of each is a back-substitution
_ROUNDING = 64  # times eps ‖A‖ ‖y‖ is the residual that a direct solve may leave


def is_certain(z: Array) -> Bool[Array, ""]:
    """Whether rounding of A changes y by less than eps^(1/3) of its largest component, z being the answer above."""
    eps = float(jnp.finfo(z.dtype).eps)
    return eps * _xla.max_abs(z) <= eps ** (1 / 3)


def columns(like: Float[Array, " n"]) -> list[Float[Array, " n"]]:
    """The random signs and sizes of the right-hand sides for a matrix."""
    rng = np.random.default_rng(0)
    draw = lambda: rng.uniform(0.5, 1, like.shape) * rng.choice((-1, 1), like.shape)
    return [jnp.asarray(draw(), like.dtype) for _ in range(COLUMNS)]


def direction(like: Leaves) -> Leaves:
    """The same for pytrees of any size, of which A makes the sums, too."""
    keys = jax.random.split(jax.random.key(0), len(like))
    draw = lambda key, leaf: jax.random.uniform(key, leaf.shape, leaf.dtype, -1, 1)
    return tuple(v + jnp.copysign(1.0, v) for v in map(draw, keys, like))


def right_side(v: Leaves, product: Leaves, kind: Kind) -> Leaves:
    """v ∘ Σⱼ|Aᵢⱼ|, with |A v| in place of the sum, and of a fixed point also the 1 whose rounding is in A."""
    least = 1 if kind == "fixed_point" else 0
    return tuple(vi * (jnp.abs(each) + least) for vi, each in zip(v, product))


def probing(product: Callable[[Leaves], Leaves], like: Leaves) -> Leaves:
    """The same for the A of a root, at once; not finite if a row of A is 0."""
    v = direction(like)
    spread = product(v)
    bad = _xla.where(has_zero(spread), jnp.inf, 1)
    return tuple((bad * leaf).astype(leaf.dtype) for leaf in right_side(v, spread, "root"))


def solves(product: Array, b: Array, of_direct: Any) -> Bool[Array, ""]:
    """Whether A y = b holds to half the digits: what a solver that failed, and does not know it, never reaches.

    Where A is ill-conditioned no solver reaches it, but a direct one solves a system close to this one, to rounding of
    `of_direct` = ‖A‖ ‖y‖ (Rigal and Gaches, J. ACM 14 (1967) 543, doi:10.1145/321406.321416).
    """
    eps = float(jnp.finfo(b.dtype).eps)
    return _xla.max_abs(product - b) <= jnp.maximum(eps**0.5 * _xla.max_abs(b), _ROUNDING * eps * of_direct)


def has_zero(leaves: Leaves) -> Bool[Array, ""]:
    """Whether a component is 0: of A times a random vector, whether a row of A is, as where F passes a component
    through. A Krylov method does not see it if the right-hand side is 0 there too, and leaves that unknown at 0."""
    return jnp.any(jnp.stack([jnp.any(leaf == 0) for leaf in leaves]))
