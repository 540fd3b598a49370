"""Steps inside a trust region, from the linear model A p + r."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree, _xla


def dogleg(
    A: Float[Array, "n n"], r: Float[Array, " n"], newton: Float[Array, " n"], D: Float[Array, " n"], radius: Array
) -> Float[Array, " n"]:
    """The step that minimises ‖A p + r‖ along steepest descent and on to Newton's step, with ‖D p‖ ≤ radius."""
    dot = lambda a, b: _tree.dot((a,), (b,))
    inverse = 1 / D  # XLA would make one quotient of (a / D) / D, of which D² may be too large, or too small
    gradient = inverse * _tree.matvec(A.T, r)
    along = _tree.matvec(A, inverse * gradient)
    tiny = jnp.finfo(r.dtype).tiny
    cauchy = -gradient * dot(gradient, gradient) / jnp.maximum(dot(along, along), tiny)
    length = jnp.sqrt(dot(cauchy, cauchy))
    shortened = cauchy * jnp.minimum(1, radius / jnp.maximum(length, tiny))

    known = jnp.isfinite(_tree.largest((newton,)))
    target = _xla.where(known, D * newton, shortened)
    leg = target - cauchy
    a, b, c = dot(leg, leg), dot(cauchy, leg), length**2 - radius**2
    fraction = (-b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0))) / jnp.maximum(a, tiny)
    bent = _xla.where(length < radius, cauchy + jnp.clip(fraction, 0, 1) * leg, shortened)
    step = _xla.where(known & (dot(target, target) <= radius**2), target, _xla.where(known, bent, shortened))
    return inverse * step


def marquardt(A: Float[Array, "n n"], r: Float[Array, " n"], D: Float[Array, " n"], parameter: Array) -> Array:
    """The step that minimises ‖A p + r‖² + parameter·‖D p‖², by QR, which does not square the condition of A."""
    stacked = jnp.concatenate([A / D, jnp.sqrt(parameter) * jnp.eye(r.size, dtype=r.dtype)])
    q, upper = jnp.linalg.qr(stacked)
    return jax.scipy.linalg.solve_triangular(upper, q.T @ jnp.concatenate([-r, jnp.zeros_like(r)])) / D
