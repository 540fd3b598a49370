"""Steps inside a trust region, from the linear model A p + r."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def dogleg(
    A: Float[Array, "n n"], r: Float[Array, " n"], newton: Float[Array, " n"], D: Float[Array, " n"], radius: Array
) -> Float[Array, " n"]:
    """The step that minimises ‖A p + r‖ along steepest descent and on to Newton's step, with ‖D p‖ ≤ radius."""
    gradient = (A.T @ r) / D
    along = A @ (gradient / D)
    tiny = jnp.finfo(r.dtype).tiny
    cauchy = -gradient * (gradient @ gradient) / jnp.maximum(along @ along, tiny)
    length = jnp.linalg.norm(cauchy)
    shortened = cauchy * jnp.minimum(1, radius / jnp.maximum(length, tiny))

    known = jnp.all(jnp.isfinite(newton))
    target = jnp.where(known, D * newton, shortened)
    leg = target - cauchy
    a, b, c = leg @ leg, cauchy @ leg, length**2 - radius**2
    fraction = (-b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0))) / jnp.maximum(a, tiny)
    bent = jnp.where(length < radius, cauchy + jnp.clip(fraction, 0, 1) * leg, shortened)
    step = jnp.where(known & (jnp.linalg.norm(target) <= radius), target, jnp.where(known, bent, shortened))
    return step / D


def marquardt(A: Float[Array, "n n"], r: Float[Array, " n"], D: Float[Array, " n"], parameter: Array) -> Array:
    """The step that minimises ‖A p + r‖² + parameter·‖D p‖², by QR, which does not square the condition of A."""
    stacked = jnp.concatenate([A / D, jnp.sqrt(parameter) * jnp.eye(r.size, dtype=r.dtype)])
    q, upper = jnp.linalg.qr(stacked)
    return jax.scipy.linalg.solve_triangular(upper, q.T @ jnp.concatenate([-r, jnp.zeros_like(r)])) / D
