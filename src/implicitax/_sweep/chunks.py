"""The compiled program of a sweep: on each device a loop over chunks, in each chunk a `vmap` over lanes."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from .. import _tree
from .._plan import rule_of
from .._problem import Problem
from .._rule import Found, Unrolled, differentiable
from .._solve import Inputs, Job, run
from .lanes import Axes

# What the lanes of a chunk may take, in bytes: `benchmarks/chunks.py` has the table.
_CACHE = 2**20
_DEVICE = 2**30  # elsewhere there is no such cache, and a device wants all the lanes it can get (not measured)


@dataclasses.dataclass(frozen=True)
class Chunked:
    """The compiled program: on each device a loop over chunks, in each chunk a `vmap` over lanes."""

    lanes: int
    axes: tuple[Axes, Axes]  # of theta and of x0
    chunks: int  # on each device
    mesh: Mesh | None

    def __call__(self, job: Job, inputs: Inputs) -> Found:
        problem, options, summary = job
        if self.total > 1:
            summary = dataclasses.replace(summary, noun="solves in one chunk of the sweep")
        if self.mesh is not None:
            options = options._replace(throw=False)  # an error on one device would leave the others waiting for it
        arrays, static = eqx.partition(options, eqx.is_array)
        leaves, treedef = jax.tree.flatten((inputs, arrays))
        axes = (*self.axes[0], *self.axes[1])
        axes = (*axes, *(None for _ in leaves[len(axes) :]))

        solve = jax.jit(lambda arrays, inputs: run(Job(problem, eqx.combine(arrays, static), summary), inputs))

        def one(mapped: list[Any], shared: list[Any]) -> Found:
            pieces = iter(mapped), iter(shared)
            inputs, arrays = jax.tree.unflatten(treedef, [next(pieces[axis is None]) for axis in axes])
            if isinstance(options.adjoint, Unrolled):
                return solve(arrays, inputs)
            return differentiable(rule_of(problem, static, summary), solve, arrays, inputs)

        def many(mapped: list[Any], shared: list[Any]) -> Found:
            if self.chunks > 1:
                return jax.lax.map(lambda mapped: jax.vmap(one, in_axes=(0, None))(mapped, shared), mapped)
            found = jax.vmap(one, in_axes=(0, None))([leaf[0] for leaf in mapped], shared)
            return jax.tree.map(lambda leaf: leaf[None], found)

        if self.mesh is not None:
            split = PartitionSpec(self.mesh.axis_names)
            # All that a solve reads is an argument here: JAX need not find out what differs from device to device.
            many = jax.shard_map(
                many, mesh=self.mesh, in_specs=(split, PartitionSpec()), out_specs=split, check_vma=False
            )
        mapped = [self._cut(leaf, axis) for leaf, axis in zip(leaves, axes) if axis is not None]
        shared = [leaf for leaf, axis in zip(leaves, axes) if axis is None]
        found = many(mapped, shared)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: self.lanes], found)

    @property
    def total(self) -> int:
        return self.chunks * (1 if self.mesh is None else self.mesh.size)

    def _cut(self, leaf: Any, axis: int) -> Any:
        """The lanes of a leaf as (chunks, lanes of one); the last lane is repeated where some are missing.

        A repeated lane takes no longer than the last, and its results are cut off: its cotangent is 0.
        """
        leaf = jnp.moveaxis(leaf, axis, 0)
        size = -(-self.lanes // self.total)
        missing = self.total * size - self.lanes
        if missing:
            leaf = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
        return leaf.reshape(self.total, size, *leaf.shape[1:])


@functools.lru_cache
def count_chunks(lanes: int, devices: int, batch_size: int) -> int:
    """Chunks on each device: a few more than needed if then none has to be filled up, which copies everything."""
    fewest = max(1, -(-lanes // (devices * batch_size)))
    exact = (chunks for chunks in range(fewest, fewest + fewest // 4 + 1) if lanes % (devices * chunks) == 0)
    return next(exact, fewest)


def fitting(problem: Problem, theta: Any, axes: Axes, lanes: int, mesh: Mesh | None) -> int:
    """How many lanes have room in the cache: a power of 2."""
    n, itemsize = problem.size, _tree.work_dtype(problem.x_struct).itemsize
    parameters = sum(np.size(leaf) // max(lanes, 1) for leaf, axis in zip(theta, axes) if axis is not None)
    # The state comes with its residual, step, best point and temporaries; matrices are taken lane by lane.
    words = 8 * (n + parameters)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    room = (_CACHE if platform == "cpu" else _DEVICE) // (words * itemsize)
    return 2 ** max(room.bit_length() - 1, 0)
