"""Primitives that only put elements elsewhere: each as a function of arrays, be they values or numbers of elements."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .indexing import Windows, starts

Params = dict[str, Any]
Arrays = list[np.ndarray]


class Move(NamedTuple):
    """A primitive as `how(params, arrays, fill)`, in which `fill` is what stands where nothing is taken from.

    The operands at `deciding` are values that must be known; negative numbers, if `rest`, are those from there on.
    """

    how: Callable[[Params, Arrays, Any], np.ndarray]
    deciding: tuple[int, ...] = ()
    rest: int | None = None

    def decides(self, i: int) -> bool:
        return i in self.deciding or (self.rest is not None and i >= self.rest)


def _reshape(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    a, order = arrays[0], params.get("dimensions")
    return (a if order is None else np.transpose(a, order)).reshape(params["new_sizes"])


def _broadcast_in_dim(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    shape, dims = params["shape"], params["broadcast_dimensions"]
    through = [1] * len(shape)
    for i, d in enumerate(dims):
        through[d] = arrays[0].shape[i]
    return np.broadcast_to(arrays[0].reshape(through), shape)


def _slice(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    start, limit = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(start)
    return arrays[0][tuple(map(slice, start, limit, strides))]


def _rev(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    return np.flip(arrays[0], params["dimensions"])


def pad(a: np.ndarray, value: Any, config: Sequence[Any]) -> np.ndarray:
    """XLA's: (low, high, inner) by dimension, with gaps between the elements, and negative numbers that cut off."""
    gaps = [length + max(length - 1, 0) * inner for length, (_, _, inner) in zip(a.shape, config)]
    out = np.full([max(low, 0) + n + max(high, 0) for n, (low, high, _) in zip(gaps, config)], value, a.dtype)
    steps = zip(gaps, config)
    out[tuple(slice(max(low, 0), max(low, 0) + n, inner + 1) for n, (low, _, inner) in steps)] = a
    return out[tuple(slice(max(-low, 0), n - max(-high, 0)) for n, (low, high, _) in zip(out.shape, config))]


def _pad(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    return pad(arrays[0], arrays[1][()], params["padding_config"])


def _concatenate(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    return np.concatenate(arrays, axis=params["dimension"])


def _select_n(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    which, *cases = arrays
    if len(cases) == 2 and which.dtype == bool:
        return np.where(which, cases[1], cases[0])
    out = cases[0]
    for k, case in enumerate(cases[1:], 1):
        out = np.where(which == k, case, out)
    return out


def _dynamic_slice(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    a, *indices = arrays
    return a[starts(indices, a.shape, params["slice_sizes"])]


def _dynamic_update_slice(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    a, update, *indices = arrays
    out = a.copy()
    out[starts(indices, a.shape, update.shape)] = update
    return out


def _gather(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    a, indices = arrays
    numbers = Windows.of_gather(params).numbers(a.shape, indices)
    if a.size == 0:
        return np.full(numbers.shape, fill, a.dtype)
    given = params.get("fill_value")
    taken = a.reshape(-1)[numbers]
    return taken if numbers.min(initial=0) >= 0 else np.where(numbers < 0, fill if given is None else given, taken)


def _split(params: Params, arrays: Arrays, k: int) -> np.ndarray:
    sizes, axis = params["sizes"], params["axis"]
    first = sum(sizes[:k])
    return arrays[0][(slice(None),) * axis + (slice(first, first + sizes[k]),)]


def _tile(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    return np.tile(arrays[0], params["reps"])


def _same(params: Params, arrays: Arrays, fill: Any) -> np.ndarray:
    return arrays[0]


def split(k: int) -> Move:
    """The k-th output of `split`."""
    return Move(lambda params, arrays, fill: _split(params, arrays, k))


MOVES: dict[str, Move] = {
    "reshape": Move(_reshape),
    "broadcast_in_dim": Move(_broadcast_in_dim),
    "transpose": Move(lambda params, arrays, fill: np.transpose(arrays[0], params["permutation"])),
    "squeeze": Move(lambda params, arrays, fill: np.squeeze(arrays[0], tuple(params["dimensions"]))),
    "expand_dims": Move(lambda params, arrays, fill: np.expand_dims(arrays[0], tuple(params["dimensions"]))),
    "slice": Move(_slice),
    "rev": Move(_rev),
    "pad": Move(_pad),
    "concatenate": Move(_concatenate),
    "stack": Move(lambda params, arrays, fill: np.stack(arrays, axis=params["axis"])),
    "tile": Move(_tile),
    "select_n": Move(_select_n, deciding=(0,)),
    "dynamic_slice": Move(_dynamic_slice, rest=1),
    "dynamic_update_slice": Move(_dynamic_update_slice, rest=2),
    "gather": Move(_gather, deciding=(1,)),
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "sharding_constraint", "name", "pvary"), Move(_same)),
}
