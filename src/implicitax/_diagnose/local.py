"""F near the solution: eigenvalues, condition, and what of x it looks at."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from .. import _tree
from .._methods import typical_size
from .._tree import Leaves
from .problem import Case
from .record import Local

DENSE = 500  # unknowns up to which the matrix is built
_KRYLOV = 40  # products with it beyond that
_SHOWN = 6  # of the eigenvalues that it leads to
_PROBES = 2


def look(case: Case, x: Leaves, good: Any, tangent: Leaves | None) -> Local:
    """The local picture at x, of the rows that were solved; `tangent` is how x moves when all parameters do."""
    keep = case.each_row(good)
    residual, forward, back = _products(case, x, keep)
    n, rng = case.problem.size, np.random.default_rng(0)
    fixed = case.problem.kind == "fixed_point"
    # A random tangent, seen by F in no component, or returned in the same one.
    probes = rng.normal(size=(_PROBES, n))
    images = np.array([forward(v) for v in probes])
    cotangents = np.array([back(u) for u in probes])
    # Exactly so, not up to rounding: (v − v) + v is v, and (0 − v) + v is 0.
    identity = np.all(images == probes, axis=0) if fixed else np.all(images == 0, axis=0)
    ignored = np.all(cotangents == 0, axis=0)
    unreached = np.zeros(n, bool) if tangent is None else np.asarray(_tree.ravel(tangent)) == 0
    solved = np.asarray(_tree.ravel(keep)) != 0
    found = lambda marked: _parts(case, marked & solved)
    if n <= DENSE:
        J = np.array([forward(v) for v in np.eye(n)]).T.reshape(n, n)
        eigenvalues = np.linalg.eigvals(J) if np.all(np.isfinite(J)) else np.full(n, np.nan)
        A = np.eye(n) - J if fixed else J
        condition, scaled = _conditions(A, np.asarray(_tree.ravel(typical_size(x, case.tolerance, residual))))
        nonzeros = int(np.count_nonzero(J))
        blocks = int(scipy.sparse.csgraph.connected_components(scipy.sparse.csr_matrix(J != 0), directed=False)[0])
    else:
        eigenvalues, condition, scaled, nonzeros, blocks = _leading(n, forward), None, None, None, None
    eigenvalues = eigenvalues.astype(complex)[np.argsort(-np.abs(eigenvalues))]
    radius = float(np.abs(eigenvalues[0])) if eigenvalues.size else 0.0
    return Local(
        eigenvalues if n <= DENSE else eigenvalues[:_SHOWN],
        n <= DENSE,
        radius,
        condition,
        scaled,
        found(ignored),
        found(identity),
        found(unreached),
        nonzeros,
        blocks,
    )


def _products(
    case: Case, x: Leaves, keep: Leaves
) -> tuple[Leaves, Callable[[Any], np.ndarray], Callable[[Any], np.ndarray]]:
    """v ↦ ∂F/∂x v and u ↦ (∂F/∂x)ᵀ u on vectors, or with ∂R/∂x for a root; compiled once.

    In the rows that were not solved F is held constant: v ↦ 0.
    """
    plus = 1 if case.problem.kind == "fixed_point" else 0

    def residual(x: Leaves) -> Leaves:
        return case.problem.residual(x, case.theta)

    def masked(v: jax.Array) -> jax.Array:
        return jnp.where(_tree.ravel(keep) != 0, v, 0)

    @jax.jit
    def forward(v: jax.Array) -> jax.Array:
        v = masked(v)
        tangent = jax.jvp(residual, (x,), (_tree.unravel(v, x),))[1]
        return masked(_tree.ravel(tangent) + plus * v)

    @jax.jit
    def back(u: jax.Array) -> jax.Array:
        u = masked(u)
        cotangent = jax.vjp(residual, x)[1](_tree.unravel(u, x))[0]
        return masked(_tree.ravel(cotangent) + plus * u)

    wrap = lambda product: lambda v: np.asarray(product(jnp.asarray(v, _tree.work_dtype(x))))
    return residual(x), wrap(forward), wrap(back)


def _parts(case: Case, marked: np.ndarray) -> tuple[str, ...]:
    """The marked components by name: a leaf as a whole, or with how many of its components."""
    names, offset = [], 0
    for path, struct in zip(case.problem.paths, case.problem.x_struct):
        count = int(np.prod(struct.shape))
        part = marked[offset : offset + count]
        if count and part.all():
            names.append(path)
        elif part.any():
            first = case.locate(offset + int(np.argmax(part)))
            more = int(part.sum()) - 1
            names.append(f"{first} and {more} more of {path}" if more else first)
        offset += count
    return tuple(names)


def _conditions(A: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Of A as it is, and with its rows and columns in units of x."""
    if not np.all(np.isfinite(A)):
        return np.inf, np.inf
    return float(np.linalg.cond(A)), float(np.linalg.cond(A * size / size[:, None]))


def _leading(n: int, forward: Callable[[Any], np.ndarray]) -> np.ndarray:
    """The largest eigenvalues, by `_KRYLOV` steps of Arnoldi's method: those of the matrix projected on Krylov's space.

    They approach the outer ones first. Restarting until they have converged takes too long where they are close.
    """
    basis = np.zeros((_KRYLOV + 1, n))
    H = np.zeros((_KRYLOV + 1, _KRYLOV))
    start = np.random.default_rng(1).normal(size=n)
    basis[0] = start / np.linalg.norm(start)
    for k in range(_KRYLOV):
        v = forward(basis[k])
        for _ in range(2):  # the second time against rounding errors
            parts = basis[: k + 1] @ v
            H[: k + 1, k] += parts
            v = v - parts @ basis[: k + 1]
        H[k + 1, k] = np.linalg.norm(v)
        if not H[k + 1, k] > 1e-12 * np.abs(H).max():
            return np.linalg.eigvals(H[: k + 1, : k + 1]) if np.all(np.isfinite(H)) else np.full(1, np.nan)
        basis[k + 1] = v / H[k + 1, k]
    return np.linalg.eigvals(H[:_KRYLOV])
