"""Which element each index of a gather, a scatter or a dynamic slice means: XLA's rules, in NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Integer


class Windows(NamedTuple):
    """How a gather, or a scatter, lays windows of its operand out; the names are those of `GatherDimensionNumbers`."""

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...]
    start_indices_batching_dims: tuple[int, ...]
    slice_sizes: tuple[int, ...]
    drops: bool  # windows that do not lie inside; else they are moved inside

    @classmethod
    def of_gather(cls, params: dict[str, Any]) -> "Windows":
        d = params["dimension_numbers"]
        return cls(
            *(d.offset_dims, d.collapsed_slice_dims, d.start_index_map),
            *(d.operand_batching_dims, d.start_indices_batching_dims),
            params["slice_sizes"],
            _mode(params) == jax.lax.GatherScatterMode.FILL_OR_DROP,
        )

    @classmethod
    def of_scatter(cls, params: dict[str, Any], operand: Sequence[int], updates: Sequence[int]) -> "Windows":
        d = params["dimension_numbers"]
        inside = [i for i in range(len(operand)) if i not in (*d.inserted_window_dims, *d.operand_batching_dims)]
        sizes = [1] * len(operand)
        for i, k in zip(inside, d.update_window_dims):
            sizes[i] = updates[k]
        return cls(
            *(d.update_window_dims, d.inserted_window_dims, d.scatter_dims_to_operand_dims),
            *(d.operand_batching_dims, d.scatter_indices_batching_dims),
            tuple(sizes),
            _mode(params) != jax.lax.GatherScatterMode.CLIP,
        )

    @property
    def kept(self) -> list[int]:
        """The dimensions of the operand that a window has in the result."""
        gone = (*self.collapsed_slice_dims, *self.operand_batching_dims)
        return [i for i in range(len(self.slice_sizes)) if i not in gone]

    def moving(self, operand: Sequence[int]) -> list[int]:
        """The dimensions along which the index decides."""
        return [int(i) for i in self.start_index_map if self.slice_sizes[i] < operand[i]]

    def numbers(self, operand: Sequence[int], indices: Integer[np.ndarray, "..."]) -> Integer[np.ndarray, "..."]:
        """For each element of the result the number of one of the operand, or −1 for one outside."""
        batch = indices.shape[:-1]
        rank = len(batch) + len(self.kept)
        offsets = sorted(self.offset_dims)
        outer = [i for i in range(rank) if i not in offsets]
        along = lambda length, axis: np.arange(length).reshape([length if i == axis else 1 for i in range(rank)])
        over = lambda a: np.expand_dims(a, tuple(offsets))
        total: Any = np.zeros((1,) * rank, np.int64)
        inside: Any = np.ones((1,) * rank, bool)
        strides = np.cumprod([1, *operand[:0:-1]])[::-1]
        for d, (length, size) in enumerate(zip(operand, self.slice_sizes)):
            position: Any = 0
            if d in self.start_index_map:
                start = over(indices[..., self.start_index_map.index(d)].astype(np.int64))
                if self.drops:
                    inside = inside & (start >= 0) & (start <= length - size)
                position = np.clip(start, 0, max(length - size, 0))
            elif d in self.operand_batching_dims:
                axis = self.start_indices_batching_dims[self.operand_batching_dims.index(d)]
                position = along(length, outer[axis])
            if d in self.kept:
                position = position + along(size, offsets[self.kept.index(d)])
            total = total + position * int(strides[d])
        shape = [0] * rank
        for axis, length in zip(outer, batch):
            shape[axis] = length
        for axis, d in zip(offsets, self.kept):
            shape[axis] = self.slice_sizes[d]
        return np.broadcast_to(np.where(inside, total, -1), shape)


def _mode(params: dict[str, Any]) -> Any:
    return jax.lax.GatherScatterMode.from_any(params["mode"])


def starts(indices: Sequence[Any], shape: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    """The window of a dynamic slice, which lies inside."""
    first = [int(np.clip(int(i), 0, length - size)) for i, length, size in zip(indices, shape, sizes)]
    return tuple(slice(i, i + size) for i, size in zip(first, sizes))
