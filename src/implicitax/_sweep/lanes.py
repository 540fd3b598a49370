"""Many problems in one call: which arrays have them along which axis, and what one of them looks like."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from .. import _xla
from .._errors import sweep as check
from .._tree import Layout, is_array, is_dynamic, path_names

Axes = tuple[int | None, ...]


class Mapped(NamedTuple):
    """A pytree, and for each leaf the axis that has the lanes; None where it is the same in all of them."""

    tree: Any
    axes: Axes

    def one(self) -> Any:
        """The pytree of one lane: shapes and dtypes are right, the numbers of mapped leaves mean nothing."""
        leaves, treedef = jax.tree.flatten(self.tree)
        return jax.tree.unflatten(treedef, [_one(leaf, axis) for leaf, axis in zip(leaves, self.axes)])

    def real(self, dynamic: Callable[[Any], bool]) -> tuple[tuple[Any, ...], Axes]:
        """The arrays as real leaves, each with its axis."""
        layout, leaves = Layout.take(self.tree, dynamic)
        return leaves, layout.repeat(self.axes)


def _one(leaf: Any, axis: int | None) -> Any:
    if axis is None:
        return leaf
    shape = leaf.shape[:axis] + leaf.shape[axis + 1 :]
    if not isinstance(leaf.dtype, np.dtype):  # random keys
        return jax.lax.index_in_dim(leaf, 0, axis, keepdims=False)
    # Nothing is computed, so that a call outside `jit` costs as little as can be; nor does it know on which devices the
    # leaf is, which F would be traced with, and its derivative then be refused inside a `shard_map`.
    return (
        jnp.zeros(shape, leaf.dtype) if isinstance(leaf, Tracer) else np.broadcast_to(np.zeros((), leaf.dtype), shape)
    )


def find_lanes(F: Any, x0: Any, args: tuple[Any, ...], in_axes: Any) -> tuple[int, Mapped, Mapped]:
    """The number of lanes; `(F, args)` and x0 with their axes."""
    if in_axes is None:
        in_axes = (None, None, *(0,) * len(args))
    elif check.is_axis(in_axes):
        in_axes = (in_axes,) * (2 + len(args))
    check.check_in_axes(in_axes, len(args))
    names = ("F", "x0", *(f"args[{i}]" for i in range(len(args))))
    axes: list[Axes] = []
    lengths: dict[str, int] = {}
    for name, tree, prefix in zip(names, (F, x0, *args), in_axes):
        leaves = list(zip(path_names(tree, name), jax.tree.leaves(tree), _spread(name, tree, prefix)))
        counted = tuple(_from_the_front(path, leaf, axis) for path, leaf, axis in leaves)
        axes.append(counted)
        lengths |= {path: leaf.shape[axis] for (path, leaf, _), axis in zip(leaves, counted) if axis is not None}
    check.check_lengths(lengths, in_axes)
    return next(iter(lengths.values())), Mapped((F, args), axes[0] + sum(axes[2:], ())), Mapped(x0, axes[1])


def _is_none(value: Any) -> bool:
    return value is None


def _spread(name: str, tree: Any, prefix: Any) -> list[Any]:
    """One axis for each leaf of `tree`."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(prefix, is_leaf=_is_none)[0]:
        check.check_axis(name, path, leaf)
    try:
        below = lambda axis, subtree: [axis] * len(jax.tree.leaves(subtree))
        spread = jax.tree.map(below, prefix, tree, is_leaf=_is_none)
    except ValueError as error:
        raise check.wrong_axes(name, tree, prefix) from error
    return jax.tree.leaves(spread, is_leaf=_is_none)


def _from_the_front(path: str, leaf: Any, axis: int | None) -> int | None:
    """The axis counted from the front; None also for a leaf that is no array at all, as the name of a function."""
    if axis is None or not is_dynamic(leaf):
        return None
    shape = jnp.shape(leaf)
    check.check_leaf(path, axis, shape, is_array(leaf))
    return int(axis) % len(shape)


def choose_mesh(mesh: Any, arrays: tuple[Any, ...]) -> Mesh | None:
    """The devices over which to split the lanes; None to leave the computation where its arrays are."""
    if mesh is not None:
        check.check_mesh(mesh)
        if mesh.size == 1:
            return None
        if _is_traced(arrays):
            check.check_threads(len(mesh.local_devices), _xla.threads_wanted(mesh))
        # Axes of type Explicit would want every array to be laid out beforehand.
        return Mesh(mesh.devices, mesh.axis_names)
    devices = jax.local_devices()
    # Somebody else has already decided where this runs.
    decided = _xla.named_axes() or not jax.sharding.get_abstract_mesh().empty or jax.process_count() > 1
    if len(devices) == 1 or decided or jax.config.values["jax_default_device"] is not None:
        return None
    placed = [leaf for leaf in arrays if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)]
    if any(leaf.committed and leaf.sharding.device_set != set(devices) for leaf in placed):
        return None
    mesh = Mesh(np.array(devices), ("lanes",))
    # JAX wants one mesh in a program with callbacks: that of arrays which are on one already.
    for known in (jax.typeof(leaf).sharding.mesh for leaf in arrays if isinstance(leaf, Tracer)):
        if not known.empty and known.size != mesh.size:
            return None
        if not known.empty:
            mesh = Mesh(np.array(devices).reshape(known.axis_sizes), known.axis_names)
    return None if _is_traced(arrays) and _xla.threads_wanted(mesh) else mesh


def _is_traced(arrays: tuple[Any, ...]) -> bool:
    """Whether the sweep is part of a larger program, or of a derivative, in which devices may wait for each other."""
    return any(isinstance(leaf, Tracer) for leaf in (*arrays, jnp.zeros(())))
