"""F near the solution: eigenvalues, condition, and what of x it looks at."""

from collections.abc import Callable
from typing import Any, NamedTuple

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
_ILL, _SCALINGS = 1e8, 10  # condition beyond which the matrix is scaled further, and how often
_SINGULAR = 1e-12  # smallest of the singular values, relative to the largest


def look(case: Case, x: Leaves, good: Any, tangent: Leaves | None) -> Local:
    """The local picture at x, of the rows that were solved; `tangent` is how x moves when all parameters do."""
    keep = case.each_row(good)
    residual, forward, back = _products(case, x, keep)
    n, rng = case.problem.size, np.random.default_rng(0)
    fixed = case.problem.kind == "fixed_point"
    # A random tangent, seen by F in no component, or returned in the same one.
    probes = rng.normal(size=(_PROBES, n))
    images = np.array([forward(v) for v in probes])
    cotangents = _pulled(back, probes)
    # Exactly so, not up to rounding: (v − v) + v is v, and (0 − v) + v is 0.
    identity = np.all(images == probes, axis=0) if fixed else np.all(images == 0, axis=0)
    ignored = np.zeros(n, bool) if cotangents is None else np.all(cotangents == 0, axis=0)
    unreached = np.zeros(n, bool) if tangent is None else np.asarray(_tree.ravel(tangent)) == 0
    solved = np.asarray(_tree.ravel(keep)) != 0
    found = lambda marked: _parts(case, marked & solved)
    seen = _of_products(n, forward)
    if n <= DENSE:
        J = np.array([forward(v) for v in np.eye(n)]).T.reshape(n, n)
        ignored = ignored if cotangents is not None else np.all(J == 0, axis=0)
        size = np.asarray(_tree.ravel(typical_size(x, case.tolerance, residual)))
        seen = _of_matrix(case, J, size)
        seen = seen._replace(off=_correction(seen.A, residual, x, solved))
    eigenvalues = seen.eigenvalues.astype(complex)[np.argsort(-np.abs(seen.eigenvalues))]
    return Local(
        eigenvalues=eigenvalues if n <= DENSE else eigenvalues[:_SHOWN],
        complete=n <= DENSE,
        radius=float(np.abs(eigenvalues[0])) if eigenvalues.size else 0.0,
        condition=seen.condition,
        condition_scaled=seen.scaled,
        ignored=found(ignored),
        passed=found(identity),
        unreached=found(unreached),
        nonzeros=seen.nonzeros,
        blocks=seen.blocks,
        total=seen.total,
        off=seen.off,
    )


class _Seen(NamedTuple):
    """What of it is to be had; None where there is no matrix."""

    A: np.ndarray
    eigenvalues: np.ndarray
    condition: float | None = None
    scaled: float | None = None
    nonzeros: int | None = None
    blocks: int | None = None
    total: tuple[str, ...] = ()
    off: float | None = None


def _of_products(n: int, forward: Callable[[Any], np.ndarray]) -> _Seen:
    return _Seen(np.zeros((0, 0)), np.zeros(0) if n <= DENSE else _leading(n, forward))


def _of_matrix(case: Case, J: np.ndarray, size: np.ndarray) -> _Seen:
    n = len(J)
    A = np.eye(n) - J if case.problem.kind == "fixed_point" else J
    condition, scaled = _conditions(A, size)
    return _Seen(
        A,
        eigenvalues=np.linalg.eigvals(J) if np.all(np.isfinite(J)) else np.full(n, np.nan),
        condition=condition,
        scaled=scaled,
        nonzeros=int(np.count_nonzero(J)),
        blocks=int(scipy.sparse.csgraph.connected_components(scipy.sparse.csr_matrix(J != 0), directed=False)[0]),
        total=_total(A, case, size),
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


def _pulled(back: Callable[[Any], np.ndarray], probes: np.ndarray) -> np.ndarray | None:
    """Their cotangents; None where F has no reverse mode."""
    try:
        return np.array([back(u) for u in probes])
    except Exception:  # whatever JAX, or a rule of the user, raises
        return None


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
    scaled = float(np.linalg.cond(A * size / size[:, None]))
    if scaled > _ILL:  # a leaf may hold units of many decades, which its size does not tell
        scaled = min(scaled, float(np.linalg.cond(_equilibrated(A))))
    return float(np.linalg.cond(A)), scaled


def _correction(A: np.ndarray, residual: Leaves, at: Leaves, solved: np.ndarray) -> float | None:
    """The largest of Newton's correction, relative to the largest x; in the rows that were solved."""
    r, x = (np.asarray(_tree.ravel(leaves)) for leaves in (residual, at))
    if not np.all(np.isfinite(A)) or not np.any(x[solved]):
        return None
    try:
        step = np.linalg.solve(A, np.where(solved, r, 0))
    except np.linalg.LinAlgError:
        return None
    return float(np.max(np.abs(step[solved])) / np.max(np.abs(x[solved])))


def _equilibrated(A: np.ndarray) -> np.ndarray:
    """With rows and columns scaled so that the largest entry of each is about 1 (Ruiz, RAL-TR-2001-034)."""
    for _ in range(_SCALINGS):
        rows, columns = (np.sqrt(np.max(np.abs(A), axis=axis)) for axis in (1, 0))
        A = A / np.where(rows > 0, rows, 1)[:, None] / np.where(columns > 0, columns, 1)
    return A


def _total(A: np.ndarray, case: Case, size: np.ndarray) -> tuple[str, ...]:
    """The unknowns whose total F keeps: those of which the sum of the equations is 0 = 0."""
    if case.problem.kind == "root" or not np.all(np.isfinite(A)):
        return ()
    u, values, _ = np.linalg.svd(A * size / size[:, None])
    if values[-1] > _SINGULAR * values[0]:
        return ()
    weights = u[:, -1] / size
    weights = weights / weights[np.argmax(np.abs(weights))]
    parts = np.abs(weights) > 1e-6
    if parts.sum() < 2 or not np.allclose(weights[parts], 1, rtol=1e-6):
        return ()
    return _parts(case, parts)


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
