"""Sparse matrices of no simpler form, as of grids and networks: by SuperLU, the elimination that SciPy has.

It runs on the host, as a callback. (Demmel, Eisenstat, Gilbert, Li and Liu, SIAM J. Matrix Anal. Appl. 20 (1999) 720,
doi:10.1137/S0895479895291765.) The order of the pivots is found once, for the pattern: rows are exchanged for a full
diagonal, and of A + Aᵀ minimum degree is followed as long as the pivots on the diagonal are large enough. SciPy's
default, which orders columns for pivots anywhere, fills in 2 times as many entries for grids, and 4 for networks.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csc_array, csr_array, eye_array, tril
from scipy.sparse.csgraph import maximum_bipartite_matching, reverse_cuthill_mckee
from scipy.sparse.linalg import spilu, splu

from .sparse import Factors, Form, Reduction, take

MOST_ENTRIES, MOST_PRODUCTS = 2 * 10**7, 10**10  # of L, and for it: some 250 MB, and 2 s
_AS_DENSE = 24  # n³ over this is as much work: that of a dense matrix is n³/3, and eight times as fast
_PIVOT = 0.1  # of the largest entry in its column, above which an entry on the diagonal is the pivot
_LARGE, _SHARE = 30_000, 16  # unknowns above which a band as wide as this part of them is none that fills in little
_SAMPLE = 64  # entries by which a matrix is looked up
_PADDED = 4  # times as many places as entries
_KEPT = 3 * 10**7  # entries of all the factors that are remembered
_IN_ORDER = {"SymmetricMode": True, "Equil": False}


class Elimination(NamedTuple):
    """In which order a matrix is eliminated: row `rows[i]` and column `columns[i]` are the ith."""

    rows: np.ndarray
    columns: np.ndarray
    filled: int  # entries of L below its diagonal

    @classmethod
    def of(cls, entries: tuple[np.ndarray, np.ndarray], n: int) -> "Elimination | None":
        """None if it fills in too much, or the matrix is singular whatever its entries are."""
        pattern = csr_array((np.ones(entries[0].size), entries), shape=(n, n))
        row_of = np.arange(n)
        if np.unique(entries[0][entries[0] == entries[1]]).size < n:
            row_of = maximum_bipartite_matching(pattern, perm_type="row")
        if np.any(row_of < 0):
            return None
        pattern = pattern[row_of]
        graph = csc_array(pattern + pattern.T)
        if n > _LARGE and half_width(*place_narrowly(graph)[np.stack(graph.nonzero())]) > n // _SHARE:
            return None
        graph.data[:] = 1 / n
        # Of a factorisation that drops all there is off the diagonal only the order is left.
        order = spilu(
            graph + 2 * eye_array(n), 1, 1, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options=_IN_ORDER
        )
        columns = np.argsort(order.perm_c)
        filled = _filled(graph[columns][:, columns])
        if filled is None:
            return None
        return cls(row_of[columns].astype(np.int32), columns.astype(np.int32), filled)


def place_narrowly(graph: Any) -> np.ndarray:
    """The place of each unknown in the order of Cuthill and McKee, in which a symmetric pattern is a narrow band."""
    return np.argsort(reverse_cuthill_mckee(csr_array(graph), symmetric_mode=True)).astype(np.int32)


def half_width(rows: np.ndarray, cols: np.ndarray) -> int:
    """Of the band."""
    return int(np.abs(rows - cols).max(initial=0))


def _filled(graph: Any) -> int | None:
    """How many entries L has where a symmetric matrix is eliminated in order; None if they are too many.

    Row i of L has entries in the columns on the paths from those of its entries in A to i in the elimination tree, in
    which the parent of a column is the first row below it that it has an entry in (Liu, doi:10.1137/0611010).
    """
    lower: Any = csr_array(tril(graph, -1))
    starts, columns = lower.indptr.tolist(), lower.indices.tolist()
    n = len(starts) - 1
    parent, seen, below, filled = [-1] * n, [-1] * n, [0] * n, 0
    for i in range(n):
        seen[i] = i
        for k in columns[starts[i] : starts[i + 1]]:
            while seen[k] != i:
                parent[k] = i if parent[k] < 0 else parent[k]
                seen[k], below[k], filled = i, below[k] + 1, filled + 1
                k = parent[k]
        if filled > MOST_ENTRIES:
            return None
    products = float(np.sum(np.square(below, dtype=float)))
    return filled if products <= min(MOST_PRODUCTS, n**3 / _AS_DENSE) else None


class SparseLU(Form):
    """The layout is (nnz,): the entries in the order of `csc_array`, of the matrix in its order of elimination."""

    def __init__(self, entries: tuple[np.ndarray, np.ndarray], n: int, elimination: Elimination):
        rows, cols = entries
        place_of_row, place_of_column = np.argsort(elimination.rows), np.argsort(elimination.columns)
        index = np.lexsort((place_of_row[rows], place_of_column[cols])).astype(np.int32)
        self.elimination, self.rows, self.cols = elimination, rows[index], cols[index]
        starts = np.searchsorted(place_of_column[self.cols], np.arange(n + 1))
        self.indices, self.starts = place_of_row[self.rows].astype(np.int32), starts.astype(np.int32)
        self.by_row, self.by_column = _gathered(self.rows, n), _gathered(self.cols, n)
        digest = hashlib.blake2b(self.rows.tobytes() + self.cols.tobytes(), digest_size=16).digest()
        super().__init__(n, None, index, (digest,))

    def describe(self) -> str:
        return "sparse LU"

    def factor(self, data: Array) -> "SparseLUFactors":
        return SparseLUFactors(data, self)

    def on_host(self, data: Any, b: Any) -> np.ndarray:
        """A⁻¹ b, in bits (see `_bits`), of every lane; NaN where A is singular."""
        return self._on_host(_numbers(data), _numbers(b), transpose=False)

    def on_host_transposed(self, data: Any, b: Any) -> np.ndarray:
        return self._on_host(_numbers(data), _numbers(b), transpose=True)

    def _on_host(self, data: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        lanes = np.broadcast_shapes(data.shape[:-1], b.shape[:-1])
        right = np.broadcast_to(b, (*lanes, self.n)).reshape(-1, self.n)
        if data.size == data.shape[-1]:  # one matrix, and its right-hand sides
            x = self._solve(data.reshape(-1), right, transpose)
        else:
            matrices = np.broadcast_to(data, (*lanes, data.shape[-1])).reshape(len(right), -1)
            x = np.concatenate([self._solve(*each, transpose) for each in zip(matrices, right[:, None])])
        return np.ascontiguousarray(x.reshape(*lanes, self.n, 1)).view(np.uint32)

    def _solve(self, data: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        lu = _remembered.factorise(self, data)
        if lu is None:
            return np.full_like(b, np.nan)
        enter, leave = self.elimination[1::-1] if transpose else self.elimination[:2]
        x = np.empty_like(b)
        x[:, leave] = lu.solve(np.ascontiguousarray(b[:, enter].T), "T" if transpose else "N").T
        return x

    @property
    def _length(self) -> int:
        return self.n

    def _beside_rows(self, v: Array) -> Array:
        return take(v, self.rows)

    def _beside_columns(self, v: Array) -> Array:
        return take(v, self.cols)

    def _over_rows(self, reduction: Reduction, data: Array) -> Array:
        return self._over(reduction, data, self.rows, self.by_row)

    def _over_columns(self, reduction: Reduction, data: Array) -> Array:
        return self._over(reduction, data, self.cols, self.by_column)

    def _over(self, reduction: Reduction, data: Array, index: np.ndarray, places: np.ndarray | None) -> Array:
        if places is not None:
            return reduction(take(jnp.append(data, jnp.zeros((), data.dtype)), places), axis=0)
        into = jnp.zeros(self.n, data.dtype).at[jax.lax.optimization_barrier(jnp.asarray(index))]
        combine = into.add if reduction is jnp.sum else into.max  # of sizes, none of which is below 0
        return combine(data, mode="promise_in_bounds", wrap_negative_indices=False)


def _gathered(index: np.ndarray, n: int) -> np.ndarray | None:
    """Where the entries of each row stand, one below the other, and `index.size` for none: to gather is ten times as
    fast on a CPU as to scatter. None where a few rows have many more than the rest."""
    counts = np.bincount(index, minlength=n)
    if counts.max(initial=1) * n > _PADDED * index.size:
        return None
    order = np.argsort(index, kind="stable")
    places = np.full((counts.max(initial=1), n), index.size, np.int32)
    first = np.cumsum(counts) - counts
    places[np.arange(index.size) - np.repeat(first, counts), index[order]] = order
    return places


class SparseLUFactors(Factors):
    """The entries: the factors stay on the host, which knows them by these."""

    data: Float[Array, " nnz"]
    form: SparseLU = eqx.field(static=True)

    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        form = self.form
        product = form.rmatvec if transpose else form.matvec
        hosts = (form.on_host, form.on_host_transposed)[:: -1 if transpose else 1]
        solve, solve_transposed = (lambda _, b, host=host: _call(host, self.data, b) for host in hosts)
        return jax.lax.custom_linear_solve(lambda x: product(self.data, x), b, solve, solve_transposed)


def _call(host: Callable[[Any, Any], np.ndarray], data: Array, b: Array) -> Array:
    bits = _bits(b)
    x = jax.pure_callback(
        host, jax.ShapeDtypeStruct(bits.shape, bits.dtype), _bits(data), bits, vmap_method="expand_dims"
    )
    return jax.lax.bitcast_convert_type(x if b.dtype.itemsize > 4 else x[..., 0], b.dtype)


def _bits(v: Array) -> Array:
    """As integers of 32 bits, in an axis more: under `jax.enable_x64` the host would be handed numbers in float32."""
    bits = jax.lax.bitcast_convert_type(v, jnp.uint32)
    return bits if v.dtype.itemsize > 4 else bits[..., None]


def _numbers(bits: Any) -> np.ndarray:
    bits = np.ascontiguousarray(bits)
    return bits.view(np.float64 if bits.shape[-1] == 2 else np.float32)[..., 0]


class _Memory:
    """The last factors: the solves with one matrix are calls of their own, the adjoint's in another program."""

    def __init__(self):
        self._lock, self._kept = threading.Lock(), OrderedDict()

    def factorise(self, form: SparseLU, data: np.ndarray) -> Any:
        """By threshold pivoting; None where A is singular."""
        key = form, data[:: data.size // _SAMPLE + 1].tobytes()  # of few entries: a digest of all takes far longer
        with self._lock:
            of, lu = self._kept.get(key, (None, None))
        if of is None or not np.array_equal(of, data):
            of, lu = data.copy(), _factorised(form, data)
        with self._lock:
            self._kept[key] = of, lu
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(each.nnz for _, each in self._kept.values() if each) > _KEPT:
                self._kept.popitem(last=False)
        return lu


_remembered = _Memory()


def _factorised(form: SparseLU, data: np.ndarray) -> Any:
    if not np.all(np.isfinite(data)):
        return None
    matrix = csc_array((data, form.indices, form.starts), shape=(form.n, form.n))
    try:
        return splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=_PIVOT, options=_IN_ORDER)
    except RuntimeError:  # "Factor is exactly singular"
        return None
