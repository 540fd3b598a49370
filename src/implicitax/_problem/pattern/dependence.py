"""On which of the n unknowns each element of an array depends, and the few operations that all primitives need.

Most elements of most models depend on few unknowns, and each operation of NumPy on an array of unknowns' numbers does
to all elements at once what the primitive does to values: that form is `planes`. Rows that are longer, or very unequal,
are a sparse boolean matrix: `rows`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

Shape: TypeAlias = tuple[int, ...]
Numbers: TypeAlias = Int[np.ndarray, "..."]

MOST_PLANES = 32  # unknowns of an element up to which it is kept by planes
_EQUATION = 1000  # what an equation costs in Python, in entries
_EMPTY = 4  # how many times more elements than entries an array may have


class OverBudgetError(Exception):
    """More entries than the pattern of a sparse matrix is worth."""


@dataclass(frozen=True, eq=False)
class Dependence:
    """The dependence of the elements of one array, at least one of which depends on an unknown."""

    shape: Shape
    planes: tuple[Numbers, ...]  # each of that shape: the number of an unknown, or −1 for none
    rows: Any = None  # or, in their place, a CSR matrix of one row an element

    @property
    def size(self) -> int:
        return math.prod(self.shape)


Maybe: TypeAlias = Dependence | None  # None: on no unknown
Move: TypeAlias = Callable[[list[Numbers]], Numbers]


class Space:
    """The n unknowns, and how many entries may be spent on them."""

    def __init__(self, n: int, limit: int) -> None:
        self.n, self.limit = n, limit
        self._left = max(10**8, 1000 * n)

    def spend(self, entries: int) -> None:
        """Counts the work done; raises if that, or an intermediate, is more than is worth it."""
        self._left -= entries + _EQUATION
        if entries > self.limit or self._left < 0:
            raise OverBudgetError

    def fits(self, shape: Shape) -> None:
        """Raises before an array of that shape is looked at, if it is too large even with most of it empty."""
        if math.prod(shape) > _EMPTY * self.limit:
            raise OverBudgetError

    @property
    def share(self) -> int:
        """The entries that a loop may spend when it is written out: half of what is left."""
        return self._left // 2

    def identity(self, shape: Shape, first: int) -> Maybe:
        """Each element is an unknown, by number from `first`."""
        size = math.prod(shape)
        numbers = np.arange(first, first + size, dtype=np.int32).reshape(shape)
        return Dependence(shape, (numbers,)) if size else None

    def of_planes(self, shape: Shape, planes: Sequence[Numbers]) -> Maybe:
        """Planes that say the same are kept once, those that say nothing not at all."""
        self.fits(shape)
        kept: dict[Any, list[Numbers]] = {}
        size = math.prod(shape)
        if size == 0:
            return None
        probes = {tuple(np.unravel_index(i, shape)) for i in (0, size // 2, size - 1)}
        for plane in planes:
            key = tuple(int(plane[i]) for i in probes)
            if max(key) < 0 and (plane < 0).all():
                continue
            same = kept.setdefault(key, [])
            if not any(other is plane or np.array_equal(other, plane) for other in same):
                same.append(plane)
        found = tuple(plane for same in kept.values() for plane in same)
        if not found:
            return None
        if len(found) > MOST_PLANES:
            return self.of_rows(shape, self._stacked(np.stack([plane.reshape(-1) for plane in found], axis=1)))
        entries = len(found) * size
        if entries > self.limit:  # are they, or are most of them −1?
            entries = sum(int(np.count_nonzero(plane >= 0)) for plane in found)
        self.spend(entries)
        return Dependence(shape, found)

    def of_rows(self, shape: Shape, rows: Any) -> Maybe:
        """By planes, if the rows are short and of similar length."""
        if rows.nnz == 0:
            return None
        self.spend(rows.nnz)
        counts = np.diff(rows.indptr)
        most = int(counts.max())
        if most > MOST_PLANES or most * len(counts) > 4 * rows.nnz:
            return Dependence(shape, (), rows)
        planes = []
        for k in range(most):
            plane, has = np.full(len(counts), -1, np.int32), counts > k
            plane[has] = rows.indices[rows.indptr[:-1][has] + k]
            planes.append(plane.reshape(shape))
        return Dependence(shape, tuple(planes))

    def _stacked(self, numbers: Numbers) -> Any:
        """Rows, of the unknowns in the rows of a matrix."""
        there = numbers >= 0
        counts = np.count_nonzero(there, axis=1)
        self.spend(int(counts.sum()) // 4)  # an unknown may be named several times
        return self._csr(np.concatenate([[0], np.cumsum(counts)]), numbers[there], merge=True)

    def _csr(self, starts: Numbers, unknowns: Numbers, merge: bool = False) -> Any:
        shape = (len(starts) - 1, self.n)
        rows = sp.csr_array((np.ones(len(unknowns), bool), unknowns.astype(np.int32), starts), shape=shape)
        if merge:
            rows.sum_duplicates()
        return rows

    def as_rows(self, part: Dependence) -> Any:
        if part.rows is not None:
            return part.rows
        return self._stacked(np.stack([plane.reshape(-1) for plane in part.planes], axis=1))

    def _take(self, rows: Any, numbers: Numbers) -> Any:
        """The rows of those numbers; −1: an empty one."""
        numbers = numbers.reshape(-1)
        counts = np.append(np.diff(rows.indptr), 0)[numbers]
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.spend(int(starts[-1]))
        places = np.repeat(rows.indptr[numbers] - starts[:-1], counts) + np.arange(starts[-1])
        return self._csr(starts, rows.indices[places])

    def union(self, parts: Sequence[Maybe], shape: Shape) -> Maybe:
        """Element by element; what is smaller is broadcast."""
        self.fits(shape)
        given = [part for part in parts if part is not None]
        if len(given) == 1 and given[0].shape == shape:
            return given[0]
        if all(part.rows is None for part in given):
            return self.of_planes(shape, [np.broadcast_to(plane, shape) for part in given for plane in part.planes])
        total: Any = None
        for part in given:
            rows = self.as_rows(part)
            if part.shape != shape:
                rows = self._take(rows, np.broadcast_to(_numbers(part.shape), shape))
            total = rows if total is None or total is rows else total + rows
        return self.of_rows(shape, total)

    def move(self, how: Move, parts: Sequence[Maybe], shapes: Sequence[Shape], shape: Shape) -> Maybe:
        """What becomes of elements that a primitive puts elsewhere: `how` is the primitive, in NumPy, of arrays of
        those shapes in which −1 is what depends on nothing."""
        self.fits(shape)
        given = [part for part in parts if part is not None]
        if all(part.rows is None for part in given):
            planes = []
            for k in range(max((len(part.planes) for part in given), default=0)):
                arrays = [
                    _nothing(s) if part is None or k >= len(part.planes) else part.planes[k]
                    for part, s in zip(parts, shapes)
                ]
                planes.append(np.asarray(how(arrays)))
            return self.of_planes(shape, planes)
        arrays, matrices, first = [], [], 0
        for part, s in zip(parts, shapes):
            arrays.append(_nothing(s) if part is None else _numbers(s, first))
            if part is not None:
                matrices.append(self.as_rows(part))
                first += part.size
        rows = matrices[0] if len(matrices) == 1 else sp.vstack(matrices, format="csr")
        return self.of_rows(shape, self._take(rows, how(arrays)))

    def broadcast(self, part: Maybe, through: Shape, shape: Shape) -> Maybe:
        """Reshaped to one shape, and broadcast to another."""
        if part is None:
            return None
        return self.move(lambda a: np.broadcast_to(a[0].reshape(through), shape), [part], [part.shape], shape)

    def reduce(self, part: Maybe, axes: Sequence[int]) -> Maybe:
        """The union along axes, which vanish."""
        if part is None:
            return None
        kept = [i for i in range(len(part.shape)) if i not in axes]
        shape = tuple(part.shape[i] for i in kept)
        size, length = math.prod(shape), math.prod(part.shape[i] for i in axes)
        arrange = lambda a: np.transpose(a, (*kept, *axes)).reshape(size, length)
        if part.rows is None:
            columns = [arrange(plane) for plane in part.planes]
            if length * len(columns) <= MOST_PLANES:
                return self.of_planes(shape, [a[:, i].reshape(shape) for a in columns for i in range(length)])
            return self.of_rows(shape, self._stacked(np.concatenate(columns, axis=1)))
        rows = self._take(part.rows, arrange(_numbers(part.shape)))
        return self.of_rows(shape, self._csr(rows.indptr[:: max(length, 1)], rows.indices, merge=True))

    def smear(self, part: Maybe, axes: Sequence[int]) -> Maybe:
        """Along axes every element depends on what one of them depends on."""
        if part is None or not axes:
            return part
        through = tuple(1 if i in axes else length for i, length in enumerate(part.shape))
        return self.broadcast(self.reduce(part, axes), through, part.shape)

    def taps(self, part: Dependence, sources: Sequence[Numbers], shape: Shape) -> Maybe:
        """Each element of the result depends on one element, or none, in each of the sources."""
        if part.rows is None and len(part.planes) * len(sources) <= 2 * MOST_PLANES:
            flat = [np.append(plane.reshape(-1), np.int32(-1)) for plane in part.planes]
            return self.of_planes(shape, [plane[source].reshape(shape) for source in sources for plane in flat])
        stacked = np.stack([np.broadcast_to(source, shape).reshape(-1) for source in sources], axis=1)
        there = stacked >= 0
        starts = np.concatenate([[0], np.cumsum(np.count_nonzero(there, axis=1))])
        return self.through(selection(starts, stacked[there], part.size), part, shape)

    def through(self, matrix: Any, part: Dependence, shape: Shape) -> Maybe:
        """A product with a matrix that has a row for each element of the result."""
        rows = self.as_rows(part)
        self.spend(int(np.diff(rows.indptr)[matrix.indices].sum(dtype=np.int64)) // 4)  # counted before the product
        product = matrix @ rows
        product.sort_indices()
        return self.of_rows(shape, product)

    def dense(self, parts: Sequence[Maybe], shape: Shape) -> Maybe:
        """Every element depends on every unknown that there is."""
        unknowns = [part.rows.indices for part in parts if part is not None and part.rows is not None]
        unknowns += [plane[plane >= 0] for part in parts if part is not None for plane in part.planes]
        named = np.zeros(self.n, bool)
        for some in unknowns:
            named[some] = True
        found = np.flatnonzero(named).astype(np.int32)
        size = math.prod(shape)
        if len(found) == 0 or size == 0:
            return None
        self.spend(size * len(found))
        if len(found) <= MOST_PLANES:
            return self.of_planes(shape, [np.broadcast_to(np.int32(unknown), shape) for unknown in found])
        rows = self._csr(np.arange(size + 1) * len(found), np.tile(found, size))
        return Dependence(shape, (), rows)

    def same(self, a: Maybe, b: Maybe) -> bool:
        if a is None or b is None or a is b:
            return a is b
        if len(a.planes) == len(b.planes) > 0 and all(map(np.array_equal, a.planes, b.planes)):
            return True
        first, second = self.as_rows(a), self.as_rows(b)
        first.sort_indices()
        second.sort_indices()
        return np.array_equal(first.indptr, second.indptr) and np.array_equal(first.indices, second.indices)


def selection(starts: Numbers, numbers: Numbers, size: int) -> Any:
    """The matrix whose rows are those numbers of elements of an array of that size."""
    return sp.csr_array((np.ones(len(numbers), bool), numbers, starts), shape=(len(starts) - 1, size))


def _numbers(shape: Shape, first: int = 0) -> Numbers:
    return np.arange(first, first + math.prod(shape)).reshape(shape)


def _nothing(shape: Shape) -> Numbers:
    return np.broadcast_to(np.int32(-1), shape)
