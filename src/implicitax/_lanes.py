"""Many problems in one call: which arrays have them along which axis, and what one of them looks like."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from . import _tree
from ._checks import describe
from ._errors import mistake
from ._layout import Layout, is_array, is_dynamic, path_names

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
    if isinstance(leaf, np.ndarray) or (not isinstance(leaf, Tracer) and isinstance(leaf.dtype, np.dtype)):
        # Nothing is computed: a call outside `jit` costs as little as can be.
        return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape[:axis] + leaf.shape[axis + 1 :])
    return jax.lax.index_in_dim(leaf, 0, axis, keepdims=False)


def find_lanes(F: Any, x0: Any, args: tuple[Any, ...], in_axes: Any) -> tuple[int, Mapped, Mapped]:
    """The number of lanes; `(F, args)` and x0 with their axes."""
    count = 2 + len(args)
    if in_axes is None:
        in_axes = (None, None, *(0,) * len(args))
    elif _is_axis(in_axes):
        in_axes = (in_axes,) * count
    if not isinstance(in_axes, tuple | list) or len(in_axes) != count:
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                f"an integer, or a tuple of {count}, one entry for each of (F, x0, *args)",
                repr(in_axes),
                "F and x0 have an entry too: None where they are the same in every problem.",
                f"Write for instance in_axes={(None, None, *(0,) * len(args))}, which is the default.",
            )
        )
    names = ("F", "x0", *(f"args[{i}]" for i in range(len(args))))
    axes: list[Axes] = []
    lengths: dict[str, int] = {}
    for name, tree, prefix in zip(names, (F, x0, *args), in_axes):
        spread = _spread(name, tree, prefix)
        leaves = zip(path_names(tree, name), jax.tree.leaves(tree), spread)
        checked = [_check_leaf(path, leaf, axis) for path, leaf, axis in leaves]
        axes.append(tuple(checked))
        for path, leaf, axis in zip(path_names(tree, name), jax.tree.leaves(tree), checked):
            if axis is not None:
                lengths[path] = leaf.shape[axis]
    return _check_lengths(lengths, in_axes), Mapped((F, args), axes[0] + sum(axes[2:], ())), Mapped(x0, axes[1])


def _is_axis(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_none(value: Any) -> bool:
    return value is None


def _spread(name: str, tree: Any, prefix: Any) -> list[Any]:
    """One axis for each leaf of `tree`."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(prefix, is_leaf=_is_none)[0]:
        if leaf is not None and not _is_axis(leaf):
            raise TypeError(
                mistake(
                    "sweep(in_axes=...)",
                    "integers, and None for what is the same in every problem",
                    f"{leaf!r} for {name}{jax.tree_util.keystr(path)}",
                    "Each entry is an axis, or a pytree of axes that begins like the argument it stands for.",
                    "Use 0 for arrays that have the problems along their first axis.",
                )
            )
    try:
        below = lambda axis, subtree: [axis] * len(jax.tree.leaves(subtree))
        spread = jax.tree.map(below, prefix, tree, is_leaf=_is_none)
    except ValueError as error:
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                f"one axis, or a pytree prefix of {name}, {jax.tree.structure(tree)}",
                str(jax.tree.structure(prefix, is_leaf=_is_none)),
                "Each axis stands for everything below the same place of the argument.",
                f"Give one axis for {name}, or one for each entry of it.",
            )
        ) from error
    return jax.tree.leaves(spread, is_leaf=_is_none)


def _check_leaf(path: str, leaf: Any, axis: int | None) -> int | None:
    """The axis counted from the front; None also for a leaf that is no array at all, as the name of a function."""
    if axis is None or not is_dynamic(leaf):
        return None
    shape = jnp.shape(leaf)
    if not is_array(leaf) or not -len(shape) <= axis < len(shape):
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                f"an array with an axis {axis} at {path}",
                f"the shape {shape}",
                "By default every one of args has the problems along axis 0, and F and x0 are the same in all.",
                "Give None as the axis of what is the same in every problem, as in `in_axes=(None, None, 0, None)`.",
            )
        )
    return int(axis) % len(shape)


def _check_lengths(lengths: dict[str, int], in_axes: Any) -> int:
    if not lengths:
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                "at least one array that has the problems along an axis",
                f"{tuple(in_axes)}, under which there is none",
                "Without one there is a single problem.",
                "Give what varies as one of args, or its axis in `in_axes`; for one problem use `ix.fixed_point`.",
            )
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                "arrays with equally many problems along their axes",
                ", ".join(f"{length} in {path}" for path, length in lengths.items()),
                "Perhaps one of them is the same in every problem, or has the problems along another axis.",
                "Give None or another number as its axis.",
            )
        )
    return next(iter(lengths.values()))


def check_keywords(F: Any, kind: Any, batch_size: Any, keywords: dict[str, Any], known: tuple[str, ...]) -> None:
    """What can be wrong with the keywords of a sweep that does not need its arrays."""
    if not callable(F):
        raise TypeError(
            mistake(
                "sweep(F=...)",
                "a function F(x, *args)",
                describe(F),
                "The function comes first, then the initial guess.",
                "Call `sweep(F, x0, *args)`.",
            )
        )
    if kind not in ("fixed_point", "root"):
        raise ValueError(
            mistake(
                "sweep(kind=...)",
                '"fixed_point" or "root"',
                repr(kind),
                "It says whether x = F(x, *args) or F(x, *args) = 0 is to be solved.",
                "Leave it out for a fixed point.",
            )
        )
    if batch_size is not None and (not _is_axis(batch_size) or batch_size < 1):
        raise ValueError(
            mistake(
                "sweep(batch_size=...)",
                "an integer of at least 1",
                repr(batch_size),
                "It is the most problems that are solved side by side, and is fixed when the sweep is compiled.",
                "Leave it out: the default fits into the cache.",
            )
        )
    unknown = [name for name in keywords if name not in known]
    if "batch_axis" in unknown:
        raise TypeError(
            mistake(
                "sweep(batch_axis=...)",
                "none",
                repr(keywords["batch_axis"]),
                "That is for an F written for a batch of coupled rows; here F is written for one problem.",
                "Use `in_axes` for the axis of the problems, or `fixed_point(batch_axis=...)` for coupled rows.",
            )
        )
    if unknown:
        raise TypeError(
            mistake(
                f"sweep({unknown[0]}=...)",
                f"one of the keywords {', '.join(known)}",
                f"the keyword {unknown[0]}",
                "They are those of `fixed_point`; what F reads goes into `*args`.",
                "Look for a misspelt name.",
            )
        )


def check_mesh(mesh: Any, arrays: tuple[Any, ...]) -> Mesh | None:
    """The devices over which to split the lanes; None to leave the computation where its arrays are."""
    if mesh is not None:
        if not isinstance(mesh, Mesh):
            raise TypeError(
                mistake(
                    "sweep(mesh=...)",
                    "a `jax.sharding.Mesh`",
                    f"a {type(mesh).__name__}",
                    "It names the devices over which the problems are split.",
                    'Use for instance jax.sharding.Mesh(jax.devices(), ("lanes",)), or leave it out for all devices.',
                )
            )
        # Axes of type Explicit would want every array to be laid out beforehand.
        return None if mesh.size == 1 else Mesh(mesh.devices, mesh.axis_names)
    devices = jax.local_devices()
    # Somebody else has already decided where this runs.
    decided = _tree.named_axes() or not jax.sharding.get_abstract_mesh().empty or jax.process_count() > 1
    if len(devices) == 1 or decided or jax.config.values["jax_default_device"] is not None:
        return None
    placed = [leaf for leaf in arrays if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)]
    if any(leaf.committed and leaf.sharding.device_set != set(devices) for leaf in placed):
        return None
    return Mesh(np.array(devices), ("lanes",))
