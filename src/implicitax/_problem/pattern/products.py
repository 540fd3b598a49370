"""Dependences through products of arrays, of which one may be known, and have zeros."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .dependence import Dependence, Maybe, Numbers, Shape, Space
from .local import Abstract, depends, value_of
from .moves import pad
from .reductions import window_taps


def dot(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`dot_general`: out[b, i, j] = Σ_c lhs[b, i, c] rhs[b, c, j]."""
    contract, batch = eqn.params["dimension_numbers"]
    sides = [_Side(tuple(batch[k]), tuple(contract[k])) for k in (0, 1)]
    found: list[Maybe] = []
    for k, part in enumerate(depends(ins)):
        if part is None:
            continue
        value, pair = value_of(ins[1 - k]), (sides[k], sides[1 - k])
        if value is not None and not (value != 0).all():
            found.append(_nonzeros(space, part, _Entries.of(value, pair[1]), pair[0], k == 1))
        else:
            other = eqn.invars[1 - k].aval.shape
            free = tuple(other[d] for d in pair[1].free(len(other)))
            found.append(_all(space, part, pair, free, k == 1))
    return [space.union(found, eqn.outvars[0].aval.shape)]


class _Side(NamedTuple):
    """The batch and the contracted dimensions of an operand."""

    batch: tuple[int, ...]
    contract: tuple[int, ...]

    def free(self, rank: int) -> list[int]:
        return [d for d in range(rank) if d not in (*self.batch, *self.contract)]

    def arrange(self, a: np.ndarray) -> np.ndarray:
        """As [batch, free, contracted]."""
        groups = self.batch, self.free(a.ndim), self.contract
        return np.transpose(a, sum(map(tuple, groups), ())).reshape(
            [math.prod(a.shape[d] for d in group) for group in groups]
        )


def _all(space: Space, part: Dependence, sides: tuple[_Side, _Side], free: Shape, second: bool) -> Maybe:
    """The same for each free element of an operand that is not known."""
    own, _ = sides
    left = space.reduce(part, own.contract)
    if left is None:
        return None
    kept = [d for d in range(len(part.shape)) if d not in own.contract]
    order = [kept.index(d) for d in (*own.batch, *own.free(len(part.shape)))]
    batch, rest = (tuple(part.shape[d] for d in dims) for dims in (own.batch, own.free(len(part.shape))))
    through = (*batch, *(1 for _ in free), *rest) if second else (*batch, *rest, *(1 for _ in free))
    shape = (*batch, *free, *rest) if second else (*batch, *rest, *free)
    put = lambda arrays: np.broadcast_to(np.transpose(arrays[0], order).reshape(through), shape)
    return space.move(put, [left], [left.shape], shape)


class _Entries(NamedTuple):
    """Where an operand [batch, free, contracted] is not known to be 0."""

    batch: Numbers
    free: Numbers
    contracted: Numbers
    shape: Shape  # of the free dimensions

    @classmethod
    def of(cls, value: np.ndarray, side: _Side) -> "_Entries":
        batch, free, contracted = np.nonzero(side.arrange(value))
        return cls(batch, free, contracted, tuple(value.shape[d] for d in side.free(value.ndim)))


def _nonzeros(space: Space, part: Dependence, entries: _Entries, own: _Side, second: bool) -> Maybe:
    """Each nonzero of an operand takes an element of the other, for each of its free elements."""
    numbers = own.arrange(np.arange(part.size).reshape(part.shape))
    count, width = math.prod(entries.shape), numbers.shape[1]
    space.spend(len(entries.batch) * width)
    rows = ((entries.batch * count + entries.free) * width)[:, None] + np.arange(width)
    taken = numbers[entries.batch, :, entries.contracted]
    matrix = _matrix(rows, taken, (numbers.shape[0] * count * width, part.size))
    batch, rest = (tuple(part.shape[d] for d in dims) for dims in (own.batch, own.free(len(part.shape))))
    found = space.through(matrix, part, (*batch, *entries.shape, *rest))
    if found is None or second:
        return found
    first, last = len(batch), len(batch) + len(entries.shape)
    order = (*range(first), *range(last, len(found.shape)), *range(first, last))
    return space.move(lambda a: np.transpose(a[0], order), [found], [found.shape], (*batch, *rest, *entries.shape))


def _matrix(rows: Numbers, cols: Numbers, shape: tuple[int, int]) -> Any:
    entries = np.ones(rows.size, bool), (rows.reshape(-1), cols.reshape(-1))
    return sp.coo_array(entries, shape=shape).tocsr()


def sparse_dot(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`bcoo_dot_general`: the first operand is a sparse matrix, as data and indices."""
    contract, batch = eqn.params["dimension_numbers"]
    sides = [_Side(tuple(batch[k]), tuple(contract[k])) for k in (0, 1)]
    full, shape = tuple(eqn.params["lhs_spinfo"].shape), eqn.outvars[0].aval.shape
    (data, _, part), indices = depends(ins), value_of(ins[1])
    free = sides[0].free(len(full))
    if indices is None or indices.ndim != 2 or indices.shape[1] != len(full) or batch[0]:
        every = [_all(space, part, (sides[1], sides[0]), tuple(full[d] for d in free), True)] if part else []
        return [space.union([*every, space.dense([data], shape)], shape)]
    inside = (indices < np.asarray(full)).all(axis=1)
    strides = lambda dims: np.cumprod([1, *(full[d] for d in dims[:0:-1])])[::-1] if dims else np.zeros(0, int)
    rows, cols = (indices[inside][:, list(dims)] @ strides(dims) for dims in (free, sides[0].contract))
    found: list[Maybe] = []
    if part is not None:
        entries = _Entries(np.zeros_like(rows), rows, cols, tuple(full[d] for d in free))
        found.append(_nonzeros(space, part, entries, sides[1], True))
    if data is not None:
        width = math.prod(shape) // max(1, math.prod(full[d] for d in free))
        space.spend(len(rows) * width)
        out = (rows * width)[:, None] + np.arange(width)
        taken = np.broadcast_to(np.flatnonzero(inside)[:, None], out.shape)
        found.append(space.through(_matrix(out, taken, (math.prod(shape), data.size)), data, shape))
    return [space.union(found, shape)]


def convolve(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`conv_general_dilated`: each element depends on a window of its group's channels, and on its channel's kernel."""
    params, shape = eqn.params, eqn.outvars[0].aval.shape
    spec = params["dimension_numbers"]
    image, kernel = depends(ins)
    if params["batch_group_count"] != 1:
        return [space.dense([image, kernel], shape)]
    sizes = [eqn.invars[1].aval.shape[d] for d in spec.rhs_spec]
    space.spend(math.prod(sizes[1:]) * math.prod(shape))
    found = []
    back = np.argsort(spec.out_spec)
    if image is not None:
        weights = value_of(ins[1])
        weights = None if weights is None else np.transpose(weights, spec.rhs_spec)
        numbers = np.transpose(np.arange(image.size).reshape(image.shape), spec.lhs_spec)
        places = [np.transpose(tap, back) for tap in _image_taps(params, numbers, weights, sizes, shape)]
        found.append(space.taps(image, places, shape))
    if kernel is not None:
        numbers = np.transpose(np.arange(kernel.size).reshape(kernel.shape), spec.rhs_spec)
        inner = [shape[d] for d in spec.out_spec]
        column = lambda place: numbers[(slice(None), *place)].reshape(1, -1, *(1,) * (len(inner) - 2))
        every = itertools.product(*map(range, sizes[1:]))
        places = [np.transpose(np.broadcast_to(column(place), inner), back) for place in every]
        found.append(space.taps(kernel, places, shape))
    return [space.union(found, shape)]


def _image_taps(params: Any, numbers: np.ndarray, weights: Any, sizes: Sequence[int], shape: Sequence[int]) -> Any:
    """For each input channel of a group and each place of the kernel: [batch, output channel, ...]."""
    inner = [shape[d] for d in params["dimension_numbers"].out_spec]
    config = [(low, high, step - 1) for (low, high), step in zip(params["padding"], params["lhs_dilation"])]
    padded = pad(numbers, -1, [(0, 0, 0), (0, 0, 0), *config])
    group = np.arange(sizes[0]) // (sizes[0] // params["feature_group_count"])
    strides, dilation = (1, 1, *params["window_strides"]), (1, 1, *params["rhs_dilation"])
    size = (1, 1, *sizes[2:])
    taps = window_taps(padded, size, strides, dilation, (*padded.shape[:2], *inner[2:]))
    for tap, place in zip(taps, itertools.product(*map(range, sizes[2:]))):
        for channel in range(sizes[1]):
            source = tap[:, group * sizes[1] + channel]
            if weights is not None:
                used = weights[(slice(None), channel, *place)] != 0
                source = np.where(used.reshape(1, -1, *(1,) * (source.ndim - 2)), source, -1)
            yield source
