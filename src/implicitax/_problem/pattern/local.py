"""Dependences through primitives that work element by element, or put elements elsewhere."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from .dependence import Dependence, Maybe, Space, selection
from .indexing import Windows
from .moves import MOVES, split
from .values import Known

Abstract: TypeAlias = Dependence | Known | None  # None: a value that is not known, and depends on no unknown


def depends(values: Sequence[Abstract]) -> list[Maybe]:
    return [value if isinstance(value, Dependence) else None for value in values]


def value_of(value: Abstract) -> np.ndarray | None:
    return value.value if isinstance(value, Known) else None


def elementwise(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    return [space.union(depends(ins), eqn.outvars[0].aval.shape)]


def multiply(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """A product with a coefficient that is known depends on nothing where that is 0."""
    shape = eqn.outvars[0].aval.shape
    product = space.union(depends(ins), shape)
    for coefficient in map(value_of, ins):
        if coefficient is not None and product is not None and not _distinct(coefficient).all():
            here = np.broadcast_to(coefficient != 0, shape)
            keep = lambda arrays, here=here: np.where(here, arrays[0], -1)
            product = space.move(keep, [product], [shape], shape)
    return [product]


def _distinct(value: np.ndarray) -> np.ndarray:
    """The elements of an array that was broadcast, each once."""
    return np.asarray(value[tuple(slice(0, 1) if step == 0 else slice(None) for step in value.strides)])


def move(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """As the primitive moves values, if it is known where; else wherever it might."""
    name, params, shape = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.shape
    how = MOVES[name]
    values = [value_of(value) if how.decides(i) else None for i, value in enumerate(ins)]
    if any(how.decides(i) and value is None for i, value in enumerate(values)):
        return [_ANYWHERE[name](space, eqn, ins)]
    data = [i for i in range(len(ins)) if not how.decides(i)]

    def put(arrays: list[np.ndarray]) -> np.ndarray:
        given = iter(arrays)
        every = [next(given) if value is None else value for value in values]
        return how.how({**params, "fill_value": None}, every, -1)

    parts = depends(ins)
    shapes = [eqn.invars[i].aval.shape for i in data]
    return [space.move(put, [parts[i] for i in data], shapes, shape)]


def split_up(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    found: list[Abstract] = []
    for k, var in enumerate(eqn.outvars):
        how = lambda arrays, k=k: split(k).how(eqn.params, arrays, -1)
        found.append(space.move(how, depends(ins), [eqn.invars[0].aval.shape], var.aval.shape))
    return found


def hand_on(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    return list(ins[len(ins) - len(eqn.outvars) :])


def _select_anywhere(space: Space, eqn: Any, ins: Sequence[Abstract]) -> Maybe:
    return space.union(depends(ins), eqn.outvars[0].aval.shape)


def _gather_anywhere(space: Space, eqn: Any, ins: Sequence[Abstract]) -> Maybe:
    """Along the dimensions in which the index decides an element may be any."""
    operand, indices = (var.aval for var in eqn.invars)
    moving = Windows.of_gather(eqn.params).moving(operand.shape)
    anywhere = np.zeros(indices.shape, np.int64)
    how = lambda arrays: MOVES["gather"].how({**eqn.params, "fill_value": None}, [arrays[0], anywhere], -1)
    smeared = space.smear(depends(ins)[0], moving)
    return space.move(how, [smeared], [operand.shape], eqn.outvars[0].aval.shape)


def _slice_anywhere(space: Space, eqn: Any, ins: Sequence[Abstract]) -> Maybe:
    shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    smeared = space.smear(depends(ins)[0], [i for i, size in enumerate(sizes) if size < shape[i]])
    first = tuple(slice(0, size) for size in sizes)
    return space.move(lambda arrays: arrays[0][first], [smeared], [shape], sizes)


def _update_anywhere(space: Space, eqn: Any, ins: Sequence[Abstract]) -> Maybe:
    shape, update = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape
    part, new, *_ = depends(ins)
    moving = [i for i, size in enumerate(update) if size < shape[i]]
    through = tuple(1 if i in moving else size for i, size in enumerate(shape))
    return space.union([part, space.broadcast(space.reduce(new, moving), through, shape)], shape)


_ANYWHERE = {
    "select_n": _select_anywhere,
    "gather": _gather_anywhere,
    "dynamic_slice": _slice_anywhere,
    "dynamic_update_slice": _update_anywhere,
}


def scatter(space: Space, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """Updates go to known elements, which they replace (`scatter`) or join."""
    shape, updates = eqn.invars[0].aval.shape, eqn.invars[2].aval.shape
    part, _, new = depends(ins)
    windows = Windows.of_scatter(eqn.params, shape, updates)
    indices = value_of(ins[1])
    if indices is None:
        return [space.union([part, _scattered_anywhere(space, windows, new, shape)], shape)]
    numbers = windows.numbers(shape, indices).reshape(-1)
    there = numbers >= 0
    targets = numbers[there]
    hit = np.bincount(targets, minlength=math.prod(shape))
    once, replaces = hit.max(initial=0) <= 1, eqn.primitive.name == "scatter"

    def put(arrays: list[np.ndarray]) -> np.ndarray:
        old, update = arrays
        out = old.reshape(-1).copy()
        out[targets] = update.reshape(-1)[there] if once else -1
        return out.reshape(shape)

    if once and replaces:
        return [space.move(put, [part, new], [shape, updates], shape)]
    if replaces:
        part = space.move(put, [part, None], [shape, updates], shape)
    if new is None:
        return [part]
    if once:
        joined = space.move(put, [None, new], [shape, updates], shape)
    else:
        starts = np.concatenate([[0], np.cumsum(hit)])
        joined = space.through(selection(starts, np.flatnonzero(there)[_by_target(targets)], new.size), new, shape)
    return [space.union([part, joined], shape)]


def _by_target(targets: np.ndarray) -> np.ndarray:
    return np.argsort(targets, kind="stable")


def _scattered_anywhere(space: Space, windows: Windows, new: Maybe, shape: tuple[int, ...]) -> Maybe:
    """Along the dimensions in which the index decides an update may go to any element."""
    if new is None:
        return None
    moving = windows.moving(shape)
    if windows.operand_batching_dims or [d for d in range(len(shape)) if windows.slice_sizes[d] not in (1, shape[d])]:
        return space.dense([new], shape)
    # What stays is the dimensions that a window has whole, in the order of the operand.
    whole = {d: sorted(windows.offset_dims)[k] for k, d in enumerate(windows.kept) if d not in moving}
    left = space.reduce(new, [i for i in range(len(new.shape)) if i not in whole.values()])
    through = tuple(size if d in whole else 1 for d, size in enumerate(shape))
    return space.broadcast(left, through, shape)
