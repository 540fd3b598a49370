"""Which form a pattern has: its components, its band, if need be in another order, or what a sparse LU makes of it.

Done once for a problem, in NumPy and SciPy.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .banded import Band
from .block_tridiagonal import BlockTridiagonal
from .blocks import Blocks
from .elimination import Elimination, half_width, place_narrowly
from .sparse import Form
from .sparse_lu import SparseLU
from .tridiagonal import Tridiagonal

DENSE, FEW = 64, 16  # unknowns up to which LAPACK with the whole matrix is as fast; for a tridiagonal one
LARGEST_BLOCK = 32  # unknowns of a component, up to which all are solved at once
WIDEST_BAND = 4  # eliminated in parts
WIDEST_BLOCK = 64  # of a block-tridiagonal form
SPARSE = 500  # unknowns above which a sparse LU is faster than a dense one,
FEW_ENTRIES, WIDE_BLOCK = 16, 32  # and than blocks: with so few entries a column of L, or for blocks as wide as this
_SHARE = 8  # a band wider than this part of n is no band


def choose_form(rows: np.ndarray, cols: np.ndarray, n: int) -> Form | None:
    """The form of the pattern with entries at (rows[k], cols[k]), or None: dense or another way is better."""
    given, order, width = (rows, cols), None, half_width(rows, cols)
    if n <= (FEW if width == 1 else DENSE):
        return None
    graph = csr_array((np.ones(rows.size, bool), (rows, cols)), shape=(n, n))
    count, labels = connected_components(graph, directed=True, connection="weak")
    if count > 1 and np.bincount(labels).max() <= LARGEST_BLOCK:
        return Blocks((rows, cols), labels)
    # A band with gaps may be narrower in another order: two species stacked have half the unknowns between them.
    if width > 1 and rows.size < 0.75 * (2 * width + 1) * n:
        place = place_narrowly(graph + graph.T)
        narrower = half_width(place[rows], place[cols])
        if narrower < width:
            order, width, rows, cols = np.argsort(place), narrower, place[rows], place[cols]
    if width <= 1:
        return Tridiagonal((rows, cols), n, 1, order)
    if width <= WIDEST_BAND:
        return Band((rows, cols), n, width, order)
    block = _block(rows, cols, n, width) if width <= n // _SHARE else n
    elimination = Elimination.of(given, n) if n > SPARSE else None
    if elimination is not None and (elimination.filled < FEW_ENTRIES * n or block > WIDE_BLOCK):
        return SparseLU(given, n, elimination)
    return BlockTridiagonal((rows, cols), n, block, order) if block <= WIDEST_BLOCK else None


def _block(rows: np.ndarray, cols: np.ndarray, n: int, width: int) -> int:
    """The smallest blocks in which the pattern is block-tridiagonal: between half the width and the width."""
    reach = np.arange(n)
    np.maximum.at(reach, rows, cols)
    np.maximum.at(reach, cols, rows)
    unknown = np.arange(n)
    for m in range(width // 2 + 1, width):
        if np.all(reach < (unknown // m + 2) * m):
            return m
    return width
