"""Sparse matrices of no simpler form, as of grids and networks: by SuperLU, the elimination that SciPy has.

It runs on the host, as a callback. (Demmel, Eisenstat, Gilbert, Li and Liu, SIAM J. Matrix Anal. Appl. 20 (1999) 720,
doi:10.1137/S0895479895291765.) The order of the pivots is that of the pattern (`elimination.py`), as long as they are
large enough.
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
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from .elimination import IN_ORDER, Elimination, is_dense
from .sparse import Factors, Form, Reduction, take

_PIVOT = 0.1  # of the largest entry in its column, above which an entry on the diagonal is the pivot
_SAMPLE = 64  # entries by which a matrix is looked up
_PADDED = 4  # times as many places as entries
_KEPT = 3 * 10**7  # entries of all the factors that are remembered
_FILLED, _ROUNDED = 4000, 1000  # unknowns for which all may fill in; times eps is the error of a good elimination


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
        self.dense = np.flatnonzero(is_dense(np.bincount(rows, minlength=n)))
        self.in_dense = np.flatnonzero(np.isin(self.rows, self.dense))
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
        return np.full_like(b, np.nan) if lu is None else lu.solve(b, transpose)

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
    # A dense row that is a pivot early on fills in everything: so small, it is one only where no other is left.
    lu = _eliminated(form, data, float(np.finfo(data.dtype).eps) ** (1 / 3) if form.dense.size else 1.0)
    if form.dense.size and form.n <= _FILLED and not (lu and lu.holds(data)):
        return _eliminated(form, data, 1.0)
    return lu


class _Eliminated(NamedTuple):
    """L U of A, with its dense rows multiplied by a weight."""

    lu: Any
    form: SparseLU
    weight: float

    @property
    def nnz(self) -> int:
        return self.lu.nnz

    def solve(self, b: np.ndarray, transpose: bool) -> np.ndarray:
        """Of right-hand sides in rows."""
        rows, columns = self.form.elimination[:2]
        enter, leave = (columns, rows) if transpose else (rows, columns)
        x = np.empty_like(b)
        right = self._weighted(b, not transpose)[:, enter].T
        x[:, leave] = self.lu.solve(np.ascontiguousarray(right), "T" if transpose else "N").T
        return self._weighted(x, transpose)

    def _weighted(self, v: np.ndarray, applies: bool) -> np.ndarray:
        if applies and self.weight != 1:
            v = v.copy()
            v[:, self.form.dense] *= self.weight
        return v

    def holds(self, data: np.ndarray) -> bool:
        """Whether what it solves are equations with A."""
        form = self.form
        b = np.cos(np.arange(form.n, dtype=data.dtype))
        x = self.solve(b[None], False)[0]
        entries = data * x[form.cols]
        found = np.bincount(form.rows, entries, form.n)
        size = np.bincount(form.rows, np.abs(entries), form.n)
        return bool(np.all(np.abs(found - b) <= _ROUNDED * np.finfo(data.dtype).eps * (size + 1)))


def _eliminated(form: SparseLU, data: np.ndarray, weight: float) -> _Eliminated | None:
    if weight != 1:
        data = data.copy()
        data[form.in_dense] *= weight
    matrix = csc_array((data, form.indices, form.starts), shape=(form.n, form.n))
    try:
        lu = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=_PIVOT, options=IN_ORDER)
    except RuntimeError:  # "Factor is exactly singular"
        return None
    return _Eliminated(lu, form, weight)
