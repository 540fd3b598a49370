"""Columns that share no row have one colour: one tangent a colour gives the whole matrix.

A row far denser than the rest would take a colour for each of its entries, and is had by one cotangent instead; a
column far denser than the rest, by a tangent of its own. They are the border of the matrix, and not coloured.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from .pattern import Pattern

MOST_COLOURS, _PER_COLOUR = 64, 8  # and at least so many unknowns a colour, if the unknowns are more than `_FEW`
_FEW = 64
MOST_BORDER, _DENSER = 16, 4  # how many rows or columns, and how many times denser than the rest
_WORTH = 16  # entries below which a row or column is not dense
_GRID, _TRIED = 40, 6  # differences of columns of a grid, and colourings that are looked at
_SHRINK = 1.5  # how much larger than the last set of columns the rest may be, with hope for all in time
_ROUNDS, _TOUCHED = 8, 5 * 10**6  # to improve a colouring, and entries that are touched for it
_LONGEST = 10**8  # entries that are touched for the sets: of a million unknowns, some seconds
_COMPARED = 2 * 10**8  # pairs of entries of a row that are looked at for a colouring by remainders


@dataclass(frozen=True, eq=False)
class Colouring:
    """A pattern, entry k of which is at (rows[k], cols[k]), and a colour for each column, 0 ≤ colour < count."""

    rows: Int[np.ndarray, " nnz"]
    cols: Int[np.ndarray, " nnz"]
    colours: Int[np.ndarray, " n"]
    count: int
    border_rows: Int[np.ndarray, " r"]  # in which columns of one colour may meet
    border_cols: Int[np.ndarray, " c"]  # with a colour of their own, the last ones

    @property
    def cost(self) -> int:
        """Tangents and cotangents for the matrix."""
        return self.count + self.border_rows.size


class _Entries(NamedTuple):
    """Those of a matrix without its border, by row."""

    rows: Int[np.ndarray, " m"]
    cols: Int[np.ndarray, " m"]


def colour(pattern: Pattern) -> Colouring | None:
    """None where it takes more than 64 colours, or more than n/8 of more than 64 unknowns."""
    n = pattern.shape[1]
    limit = MOST_COLOURS if n <= _FEW else min(MOST_COLOURS, n // _PER_COLOUR)
    border_rows, border_cols = (_border(pattern.per(axis)) for axis in (0, 1))
    entries = _without(pattern, border_rows, border_cols)
    least = int(np.bincount(entries.rows).max(initial=1))
    if least > limit:
        return None
    colours = _by_remainder(entries, n, least, limit)
    if colours is None:
        colours = _by_sets(entries, n, limit)
    if colours is None:
        return None
    colours[border_cols] = -1
    count = int(colours.max(initial=-1)) + 1
    colours[border_cols] = count + np.arange(border_cols.size)
    return Colouring(pattern.rows, pattern.cols, colours, count + border_cols.size, border_rows, border_cols)


def _border(counts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " b"]:
    """The few that are far denser than the rest, if there are any."""
    if len(counts) <= MOST_BORDER:
        return np.zeros(0, np.int32)
    last = np.partition(counts, len(counts) - MOST_BORDER - 1)[len(counts) - MOST_BORDER - 1 :]
    top = np.sort(last)[::-1]  # and the densest of the rest, if all of them are of the border
    jumps = np.flatnonzero((top[:-1] >= _DENSER * top[1:]) & (top[:-1] >= _WORTH))
    if len(jumps) == 0:
        return np.zeros(0, np.int32)
    return np.flatnonzero(counts >= top[jumps[-1]]).astype(np.int32)


def _without(pattern: Pattern, border_rows: np.ndarray, border_cols: np.ndarray) -> _Entries:
    rows, cols = pattern.rows, pattern.cols
    if len(border_rows) == 0 and len(border_cols) == 0:
        return _Entries(rows, cols)
    inside = [np.ones(length, bool) for length in pattern.shape]
    inside[0][border_rows], inside[1][border_cols] = False, False
    kept = inside[0][rows] & inside[1][cols]
    return _Entries(rows[kept], cols[kept])


def _by_remainder(entries: _Entries, n: int, least: int, limit: int) -> np.ndarray | None:
    """j mod k, which suits a line: valid where k divides no difference of columns in a row. Or the like for a grid."""
    rows, cols = entries
    if least * len(rows) > _COMPARED:
        return None
    differs = np.zeros(n, bool)
    for step in range(1, least):
        same = rows[step:] == rows[:-step]
        differs[(cols[step:] - cols[:-step])[same]] = True
    fits = (k for k in range(least, min(limit, least + least // 2 + 2) + 1) if not differs[k::k].any())
    count = next(fits, None)
    if count == least:
        return (np.arange(n) % least).astype(np.int32)
    most = min(limit, 2 * least) if count is None else count - 1
    differences = np.flatnonzero(differs)
    found = (
        _by_two(entries, n, differences, range(least, most + 1)) if len(differences) <= min(3 * least, _GRID) else None
    )
    return (np.arange(n) % count).astype(np.int32) if found is None and count is not None else found


def _by_two(entries: _Entries, n: int, differences: np.ndarray, counts: range) -> np.ndarray | None:
    """(column + t·line) mod k of a grid whose lines have a length that is one of the differences."""
    tried = 0
    for k in counts:
        for length in differences[differences > 2][:_GRID]:
            lines = np.rint(differences / length)
            for t in range(1, k):
                if ((differences - lines * length + t * lines) % k == 0).any() or tried >= _TRIED:
                    continue
                tried += 1
                colours = ((np.arange(n) % length + t * (np.arange(n) // length)) % k).astype(np.int32)
                if _valid(entries, colours, counts.start):
                    return colours
    return None


def _valid(entries: _Entries, colours: np.ndarray, longest: int) -> bool:
    rows, found = entries.rows, colours[entries.cols]
    steps = range(1, longest)
    return not any(((rows[i:] == rows[:-i]) & (found[i:] == found[:-i])).any() for i in steps)


def _by_sets(entries: _Entries, n: int, limit: int) -> np.ndarray | None:
    """One maximal set of columns that share no row after another; then each column in the first colour that is free."""
    rows, cols = entries
    rank = _rank(entries, n)
    colours = np.full(n, -1, np.int32)
    colours[np.bincount(cols, minlength=n) == 0] = 0
    uncoloured, touched = int(np.count_nonzero(colours < 0)), 0
    for k in range(limit):
        if len(rows) == 0:
            return _improved(entries, colours, k)
        chosen, work = _independent(rows, cols, rank)
        touched += work
        colours[chosen] = k
        uncoloured -= len(chosen)
        if uncoloured > _SHRINK * len(chosen) * (limit - k - 1) or touched > _LONGEST:
            return None
        left = colours[cols] < 0
        rows, cols = rows[left], cols[left]
    return None if len(rows) else _improved(entries, colours, limit)


def _rank(entries: _Entries, n: int) -> np.ndarray:
    """An order of columns: those that share rows with many come last, others at random."""
    rows, cols = entries
    shared = np.bincount(cols, weights=np.bincount(rows)[rows], minlength=n) if len(rows) else np.zeros(n)
    order = np.random.default_rng(0).permutation(n)
    rank = np.empty(n, np.int32)
    rank[order[np.argsort(np.minimum(shared[order], 2**15 - 1).astype(np.int16), kind="stable")]] = np.arange(n)
    return rank


def _independent(rows: np.ndarray, cols: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, int]:
    """A maximal set of columns that share no row, and how many entries were touched for it.

    By rounds in which those columns are taken that are last in all of their rows: Luby, SIAM J. Comput. 15 (1986) 1036,
    doi:10.1137/0215074.
    """
    chosen = np.zeros(len(rank), bool)
    taken = np.zeros(int(rows.max(initial=0)) + 1, bool)  # rows in which one has been chosen
    own, touched = rank[cols], 0
    while len(rows):
        touched += len(rows)
        starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
        last = np.repeat(np.maximum.reduceat(own, starts), np.diff(np.append(starts, len(rows))))
        wins = np.zeros(len(rank), bool)
        wins[cols] = True
        wins[cols[own < last]] = False
        chosen |= wins
        taken[rows[wins[cols]]] = True
        gone = wins
        gone[cols[taken[rows]]] = True
        left = ~gone[cols]
        rows, cols, own = rows[left], cols[left], own[left]
    return np.flatnonzero(chosen), touched


def _improved(entries: _Entries, colours: np.ndarray, count: int) -> np.ndarray:
    """The same with as many colours or fewer: colour after colour from the last, each column in the first that is free.

    Culberson and Luo, in DIMACS Ser. 26 (1996) 245, doi:10.1090/dimacs/026/12.
    """
    by_column = np.argsort(entries.cols, kind="stable")
    rows, cols = entries.rows[by_column], entries.cols[by_column]
    for _ in range(min(_ROUNDS, _TOUCHED // max(1, len(rows)))):
        of_entry = colours[cols].astype(np.uint8)
        order = np.argsort(count - 1 - of_entry if count else of_entry, kind="stable")
        ends = np.cumsum(np.bincount(of_entry, minlength=count)[::-1])
        used = np.zeros(int(rows.max(initial=0)) + 1, np.uint64)  # a bit a colour
        for first, end in zip([0, *ends[:-1]], ends):
            here = order[first:end]
            if len(here) == 0:
                continue
            row, column = rows[here], cols[here]
            starts = np.flatnonzero(np.append(True, column[1:] != column[:-1]))
            free = ~np.bitwise_or.reduceat(used[row], starts)
            bit = free & (~free + np.uint64(1))  # the lowest
            colours[column[starts]] = np.log2(bit.astype(np.float64)).astype(np.int32)
            used[row] |= np.repeat(bit, np.diff(np.append(starts, len(row))))
        count = int(colours.max(initial=-1)) + 1
    return colours
