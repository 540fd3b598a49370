"""The pattern as the user gives it: `sparsity`, read so that it can be looked up, and its entries."""

import hashlib
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse

from ..._errors import sparsity as check
from .colour import MOST_COLOURS
from .pattern import Pattern


class Given:
    """A pattern, with arrays of its own. Equal where its entries are, in one order."""

    def __init__(self, rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]):
        self.rows, self.cols, self.shape = rows, cols, shape
        digest = hashlib.sha256(rows.tobytes())
        digest.update(cols.tobytes())
        self._key = shape, rows.dtype, cols.dtype, digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<pattern of {len(self.cols)} entries, {self.shape[0]} by {self.shape[1]}>"


Sparsity: TypeAlias = Given | tuple[int, int] | str | None


def read(caller: str, sparsity: Any) -> Sparsity:
    """A pattern, a band (lower, upper), "dense", or None."""
    if sparsity is None or isinstance(sparsity, Given):
        return sparsity
    if isinstance(sparsity, str):
        check.check_word(caller, sparsity)
        return sparsity
    if isinstance(sparsity, tuple | list):
        check.check_band(caller, sparsity)
        return int(sparsity[0]), int(sparsity[1])
    is_sparse = scipy.sparse.issparse(sparsity)
    check.check_matrix(caller, sparsity, is_sparse)
    if is_sparse:
        stored = sparsity.tocoo()
        values, rows, cols = stored.data, stored.row, stored.col
        there = values != 0
        rows, cols = rows[there], cols[there]
    else:
        values = np.asarray(sparsity)
        rows, cols = np.nonzero(values)
    check.check_known(caller, values)
    return Given(rows, cols, tuple(sparsity.shape))


def pattern_of(given: Given | tuple[int, int], n: int, diagonal: bool) -> Pattern | None:
    """The entries, with those of the diagonal if A has them besides; None of a band that is too wide to be coloured."""
    if isinstance(given, Given):
        rows, cols = given.rows, given.cols
    else:
        lower, upper = (min(width, n - 1) for width in given)
        if lower + upper >= MOST_COLOURS:
            return None
        rows = np.repeat(np.arange(n), lower + upper + 1)
        cols = rows + np.tile(np.arange(-lower, upper + 1), n)
        inside = (cols >= 0) & (cols < n)
        rows, cols = rows[inside], cols[inside]
    if diagonal:
        rows, cols = (np.concatenate([part, np.arange(n)]) for part in (rows, cols))
    entries = np.unique(rows.astype(np.int64) * n + cols)
    return Pattern((entries // n).astype(np.int32), (entries % n).astype(np.int32), (n, n))
