"""In which order a sparse matrix is eliminated, so that little fills in: found once for a pattern.

Rows are exchanged for a full diagonal, and of A + Aᵀ minimum degree is followed. SciPy's default, which orders columns
for pivots anywhere, fills in 2 times as many entries for grids, and 4 for networks.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array, eye_array, tril
from scipy.sparse.csgraph import maximum_bipartite_matching, reverse_cuthill_mckee
from scipy.sparse.linalg import spilu

MOST_ENTRIES, MOST_PRODUCTS = 2 * 10**7, 10**10  # of L, and for it: some 250 MB, and 2 s
_AS_DENSE = 24  # n³ over this is as much work: that of a dense matrix is n³/3, and eight times as fast
_LARGE, _SHARE = 30_000, 16  # unknowns above which a band as wide as this part of them is none that fills in little
_DENSE_ROW = 16, 10.0  # entries, and times √n, above which a row is eliminated last (as in COLAMD, by Davis et al.)
IN_ORDER = {"SymmetricMode": True, "Equil": False}


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
        dense = is_dense(np.diff(graph.indptr))
        rest = np.flatnonzero(~dense)
        if (n - rest.size) * _SHARE > n:
            return None
        inner = graph if rest.size == n else csc_array(graph[rest][:, rest])
        if n > _LARGE and half_width(*place_narrowly(inner)[np.stack(inner.nonzero())]) > n // _SHARE:
            return None
        columns = np.concatenate([rest[_minimum_degree(inner)], np.flatnonzero(dense)])
        filled = _filled(graph[columns][:, columns])
        if filled is None:
            return None
        return cls(row_of[columns].astype(np.int32), columns.astype(np.int32), filled)


def is_dense(counts: np.ndarray) -> np.ndarray:
    least, times_root = _DENSE_ROW
    return counts > max(least, times_root * np.sqrt(counts.size))


def _minimum_degree(graph: Any) -> np.ndarray:
    """In which order a symmetric matrix is eliminated: of a factorisation that drops all there is off the diagonal only
    this is left."""
    n = graph.shape[0]
    light = csc_array((np.full(graph.nnz, 1 / n), graph.indices, graph.indptr), shape=graph.shape)
    matrix = csc_array(light + 2 * eye_array(n))
    dropped = spilu(matrix, 1, 1, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options=IN_ORDER)
    return np.argsort(dropped.perm_c)


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
