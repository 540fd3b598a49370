"""More equations than unknowns: R(x, θ) of m numbers, x of n < m, of which a root solves all.

With A = ∂R/∂x = Q T, Q of n orthonormal columns, T triangular with a positive diagonal,

    G(x, θ) = Qᵀ R(x, θ)                                                                            (1)

has as many equations as unknowns. Its zeros are where ‖R‖² is stationary: a root is one of them, and R is looked at
there (`constrain`). Q is held constant as G is differentiated, so that ∂G/∂x = T: Newton's step for G is that of Gauss
and Newton for R, −T⁻¹ Qᵀ R = −A⁺ R, and the derivative of x is by the pseudo-inverse, −A⁺ ∂R/∂θ. That is exact, for
where R is 0 Q has no part in it. It has one in a second derivative, unless R stays 0 in the first (`conditions.py`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree, _xla
from .._tree import Leaves
from .constraint import Condition


def linearised(R: Callable[[Leaves], Float[Array, " m"]], x: Leaves) -> Condition:
    """R at x, and A there, by n tangents."""
    flat = _tree.ravel(x)
    of_flat = lambda flat: R(_tree.unravel(flat, x))
    unit = _xla.varying(jnp.eye(flat.size, dtype=flat.dtype), (flat,))
    return Condition(*jax.vmap(lambda column: jax.jvp(of_flat, (flat,), (column,)), out_axes=(None, 1))(unit))


def projected(found: Condition) -> Float[Array, " n"]:
    """G, (1)."""
    Q, T = jnp.linalg.qr(jax.lax.stop_gradient(found.slope))
    # Householder's method leaves the signs to rounding; with those of T's diagonal Q is a continuous function of A.
    signs = _xla.where(jnp.diagonal(T) < 0, -1, 1).astype(Q.dtype)
    return signs * (found.value @ Q)
