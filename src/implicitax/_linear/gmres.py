"""GMRES that stops within a cycle, as inexact Newton methods need it.

Lineax's GMRES, which solves with A for the derivative, does whole cycles only, and at least two; the incremental
variant of `jax.scipy.sparse.linalg.gmres` (JAX 0.10) does not return the minimiser when it stops within a cycle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import _tree, _xla
from .._tree import Leaves


class _Cycle(NamedTuple):
    """After k steps of Arnoldi: `A V_k = V_{k+1} H`, and the QR decomposition `Q H = R`, `Q β e₁ = g`."""

    k: Int[Array, ""]
    basis: tuple[Float[Array, "m+1 ..."], ...]
    Q: Float[Array, "m+1 m+1"]
    R: Float[Array, "m+1 m"]
    g: Float[Array, " m+1"]

    @classmethod
    def start(cls, residual: Leaves, norm: Float[Array, ""], m: int) -> "_Cycle":
        first = tuple(jnp.zeros((m + 1, *r.shape), r.dtype).at[0].set((r / norm).astype(r.dtype)) for r in residual)
        dtype = norm.dtype
        return cls(
            k=jnp.zeros((), jnp.int32),
            basis=first,
            Q=jnp.eye(m + 1, dtype=dtype),
            R=jnp.zeros((m + 1, m), dtype),
            g=jnp.zeros((m + 1,), dtype).at[0].set(norm),
        )


class _Progress(NamedTuple):
    """After some cycles."""

    x: Leaves
    residual: Leaves
    norm: Float[Array, ""]
    cycles: Int[Array, ""]


def gmres(
    product: Callable[[Leaves], Leaves], b: Leaves, tolerance: Any, restart: int, max_restarts: int
) -> tuple[Leaves, Float[Array, ""]]:
    """x with `‖A x − b‖ ≤ tolerance·‖b‖`, or the best there is after so many cycles; and ‖A x − b‖ / ‖b‖.

    Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856, doi:10.1137/0907058; each new vector is made orthogonal
    to the others twice, by classical Gram-Schmidt.
    """
    size = _tree.norm(b)
    goal = tolerance * size

    def unfinished(cycle: _Cycle) -> Array:
        # The last entry of g is the norm of the residual.
        return (cycle.k < restart) & (jnp.abs(cycle.g[cycle.k]) > goal)

    def once_more(progress: _Progress) -> _Progress:
        start = _xla.varying(_Cycle.start(progress.residual, progress.norm, restart), progress.residual)
        end = jax.lax.while_loop(unfinished, lambda cycle: _extend(product, cycle), start)
        x = _minimise(end, progress.x)
        residual = _tree.sub(b, product(x))
        return _Progress(x, residual, _tree.norm(residual), progress.cycles + 1)

    def again(progress: _Progress) -> Array:
        return (progress.norm > goal) & (progress.cycles < max_restarts)

    start = _xla.varying(_Progress(_tree.zeros_like(b), b, size, jnp.zeros((), jnp.int32)), b)
    end = jax.lax.while_loop(again, once_more, start)
    return end.x, end.norm / _xla.where(size > 0, size, 1)


def _extend(product: Callable[[Leaves], Leaves], cycle: _Cycle) -> _Cycle:
    """One step of Arnoldi, and the rotation that makes the new column of H triangular."""
    k, basis = cycle.k, cycle.basis
    w = product(tuple(leaf[k] for leaf in basis))
    h = jnp.zeros_like(cycle.g)
    for _ in range(2):
        # Rows of the basis beyond k are 0, and so are their coefficients.
        coefficients = _tree.products(basis, w)
        w = tuple(wi - jnp.tensordot(coefficients.astype(wi.dtype), v, axes=1) for wi, v in zip(w, basis))
        h = h + coefficients
    length = _tree.norm(w)
    inverse = _xla.where(length > 0, 1 / _xla.where(length > 0, length, 1), 0)
    basis = tuple(v.at[k + 1].set((inverse * wi).astype(v.dtype)) for v, wi in zip(basis, w))

    # The rotations so far, then the one of the rows k and k + 1.
    column = cycle.Q @ h.at[k + 1].set(length)
    a, c = column[k], column[k + 1]
    hypotenuse = jnp.hypot(a, c)
    safe = _xla.where(hypotenuse > 0, hypotenuse, 1)
    cosine, sine = _xla.where(hypotenuse > 0, a / safe, 1), c / safe
    turn = jnp.stack([jnp.stack([cosine, sine]), jnp.stack([-sine, cosine])])
    rows = jnp.stack([k, k + 1])
    return _Cycle(
        k=k + 1,
        basis=basis,
        Q=cycle.Q.at[rows].set(turn @ cycle.Q[rows]),
        R=cycle.R.at[:, k].set(column.at[k].set(hypotenuse).at[k + 1].set(0)),
        g=cycle.g.at[rows].set(turn @ cycle.g[rows]),
    )


def _minimise(cycle: _Cycle, x: Leaves) -> Leaves:
    """x moved to where the residual is smallest in the Krylov space: `R y = g`, `x + V y`."""
    m = cycle.R.shape[1]
    # Columns that have not been reached, and those of a singular A, get the coefficient 0.
    diagonal = jnp.diagonal(cycle.R)
    used = (jnp.arange(m) < cycle.k) & (diagonal > 0)
    R = cycle.R[:m] + jnp.diag(_xla.where(used, 0, 1 - diagonal))
    y = jax.scipy.linalg.solve_triangular(R, _xla.where(used, cycle.g[:m], 0))
    return tuple(
        (xi + jnp.tensordot(y.astype(v.dtype), v[:m], axes=1)).astype(xi.dtype) for xi, v in zip(x, cycle.basis)
    )
