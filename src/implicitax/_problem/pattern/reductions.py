"""Dependences through reductions, and through what runs along an axis or over windows."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .dependence import Maybe, Numbers, OverBudgetError, Space, selection
from .local import Abstract, depends
from .moves import pad


def reduce(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`reduce_sum` and the like; `reduce`, of several operands, with a function of its own."""
    axes, shape = tuple(eqn.params.get("axes", eqn.params.get("dimensions"))), eqn.outvars[0].aval.shape
    whole = [part for part in depends(ins) if part is not None and part.shape == eqn.invars[0].aval.shape]
    initial = [part for part in depends(ins) if part is not None and part.shape != eqn.invars[0].aval.shape]
    found = space.union([*(space.reduce(part, axes) for part in whole), *initial], shape)
    return [found] * len(eqn.outvars)


def over_lanes(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`psum` and its like: inside a `vmap` a reduction of each operand, over axes by number."""
    axes = eqn.params["axes"]
    if not all(isinstance(axis, int) for axis in axes) or eqn.params.get("axis_index_groups") is not None:
        return dense(space, eqn, ins)
    return [space.reduce(part, axes) for part in depends(ins)]


def cumulate(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Each element depends on those before it along the axis."""
    (part,) = depends(ins)
    if part is None:
        return [None]
    axis, length = eqn.params["axis"], part.shape[eqn.params["axis"]]
    if part.size * (length + 1) // 2 > space.limit:
        raise OverBudgetError
    lines = np.moveaxis(np.arange(part.size).reshape(part.shape), axis, -1)
    lines = lines[..., ::-1] if eqn.params["reverse"] else lines
    before = np.broadcast_to(lines[..., None, :], (*lines.shape, length))
    before = np.moveaxis(np.where(np.tri(length, dtype=bool), before, -1), -2, axis)
    before = np.flip(before, axis) if eqn.params["reverse"] else before
    before = before.reshape(-1, length)
    there = before >= 0
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(there, axis=1))])
    return [space.through(selection(starts, before[there], part.size), part, part.shape)]


def sort(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Each element may come from anywhere along the axis."""
    shape = eqn.outvars[0].aval.shape
    found = space.smear(space.union(depends(ins), shape), [eqn.params["dimension"]])
    return [found] * len(eqn.outvars)


def top(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`top_k`: some of the elements along an axis."""
    (part,) = depends(ins)
    shape, axis = eqn.outvars[0].aval.shape, eqn.params.get("axis", -1) % len(eqn.outvars[0].aval.shape)
    through = tuple(1 if i == axis else size for i, size in enumerate(shape))
    found = space.broadcast(space.reduce(part, [axis]), through, shape)
    return [found] * len(eqn.outvars)


def windows(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Each element depends on a window of the operand."""
    params, shape = eqn.params, eqn.outvars[0].aval.shape
    rank = len(shape)
    sizes = params["window_dimensions"]
    dilation = params.get("window_dilation") or (1,) * rank
    base = params.get("base_dilation") or (1,) * rank
    config = [(low, high, inner - 1) for (low, high), inner in zip(params["padding"], base)]
    found: list[Maybe] = []
    for part in depends(ins):
        if part is None:
            continue
        if len(part.shape) < rank:  # an initial value
            found.append(space.dense([part], shape))
            continue
        numbers = pad(np.arange(part.size).reshape(part.shape), -1, config)
        space.spend(math.prod(sizes) * math.prod(shape))
        taps = list(window_taps(numbers, sizes, params["window_strides"], dilation, shape))
        found.append(space.taps(part, taps, shape))
    return [space.union(found, shape)] * len(eqn.outvars)


def window_taps(
    numbers: Numbers, sizes: Sequence[int], strides: Sequence[int], dilation: Sequence[int], shape: Sequence[int]
) -> "itertools.chain[Numbers]":
    """The elements at each place of a window, for all windows at once."""

    def at(place: tuple[int, ...]) -> Numbers:
        first = [i * d for i, d in zip(place, dilation)]
        last = [f + (n - 1) * s + 1 for f, n, s in zip(first, shape, strides)]
        return numbers[tuple(map(slice, first, last, strides))]

    return itertools.chain(at(place) for place in itertools.product(*map(range, sizes)))


def matrices(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Each matrix of a batch depends on all of its own elements: decompositions."""
    found: list[Abstract] = []
    batch = eqn.invars[0].aval.shape[:-2]
    left = space.union([_of_batch(space, part, len(batch)) for part in depends(ins)], batch)
    for var in eqn.outvars:
        shape = var.aval.shape
        found.append(space.broadcast(left, (*batch, *(1,) * (len(shape) - len(batch))), shape))
    return found


def _of_batch(space: Space, part: Maybe, rank: int) -> Maybe:
    return None if part is None else space.reduce(part, range(rank, len(part.shape)))


def solve(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`triangular_solve` and `tridiagonal_solve`: a solution depends on all of its right-hand side and, if that has
    dependences, on all of its matrix."""
    shape = eqn.outvars[0].aval.shape
    batch, parts = shape[:-2], depends(ins)
    along = len(shape) - (2 if eqn.params.get("left_side", True) else 1)
    matrix = space.union([_of_batch(space, part, len(batch)) for part in parts[:-1]], batch)
    solution = space.smear(parts[-1], [along])
    return [space.union([solution, space.broadcast(matrix, (*batch, 1, 1), shape)], shape)]


def fft(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    (part,) = depends(ins)
    shape = eqn.outvars[0].aval.shape
    count = len(eqn.params["fft_lengths"])
    batch = shape[: len(shape) - count]
    return [space.broadcast(_of_batch(space, part, len(batch)), (*batch, *(1,) * count), shape)]


def dense(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Of what is not known: all on all."""
    return [space.dense(depends(ins), getattr(var.aval, "shape", ())) for var in eqn.outvars]
