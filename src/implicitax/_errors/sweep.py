"""What can be wrong with the arguments of `sweep` that those of one problem do not have."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from .raising import mistake
from .trees import describe, in_words, prefix_difference


def is_axis(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_function(F: Any) -> None:
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


def check_not_rows(keywords: dict[str, Any]) -> None:
    if "batch_axis" in keywords:
        raise TypeError(
            mistake(
                "sweep(batch_axis=...)",
                "none",
                repr(keywords["batch_axis"]),
                "That is for an F written for a batch of coupled rows; here F is written for one problem.",
                "Use `in_axes` for the axis of the problems, or `fixed_point(batch_axis=...)` for coupled rows.",
            )
        )


def check_batch_size(batch_size: Any) -> None:
    if batch_size is not None and (not is_axis(batch_size) or batch_size < 1):
        raise ValueError(
            mistake(
                "sweep(batch_size=...)",
                "an integer of at least 1",
                repr(batch_size),
                "It is the most problems that are solved side by side, and is fixed when the sweep is compiled.",
                "Leave it out: the default fits into the cache.",
            )
        )


def check_mesh(mesh: Any) -> None:
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


def check_threads(devices: int, wanted: int) -> None:
    if wanted:
        raise ValueError(
            mistake(
                "sweep(mesh=...)",
                f"{wanted} threads for {devices} CPU devices inside of `jit` or a derivative",
                "fewer",
                "XLA has the devices wait for each other there, each in a thread that another may need, and then ends "
                "the process.",
                f"Set the variable NPROC={wanted} in the environment before JAX is first used, call `sweep` outside of "
                "`jit` and `grad`, or leave `mesh` out: it is then solved on one device.",
            )
        )


def check_in_axes(in_axes: Any, args: int) -> None:
    """Whether there is an entry for F, for x0, and for each of args."""
    count = 2 + args
    if not isinstance(in_axes, tuple | list) or len(in_axes) != count:
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                f"an integer, or a tuple of {count}, one entry for each of (F, x0, *args)",
                repr(in_axes),
                "F and x0 have an entry too: None where they are the same in every problem.",
                f"Write for instance in_axes={(None, None, *(0,) * args)}, which is the default.",
            )
        )


def check_axis(name: str, path: Any, axis: Any) -> None:
    if axis is not None and not is_axis(axis):
        raise TypeError(
            mistake(
                "sweep(in_axes=...)",
                "integers, and None for what is the same in every problem",
                f"{axis!r} for {name}{jax.tree_util.keystr(path)}",
                "Each entry is an axis, or a pytree of axes that begins like the argument it stands for.",
                "Use 0 for arrays that have the problems along their first axis.",
            )
        )


def wrong_axes(name: str, tree: Any, axes: Any) -> ValueError:
    """Of axes that do not have the structure of what they stand for."""
    without_none = jax.tree.map(lambda axis: 0 if axis is None else axis, axes, is_leaf=lambda leaf: leaf is None)
    where = prefix_difference(without_none, tree, "axes", name)
    return ValueError(
        mistake(
            "sweep(in_axes=...)",
            f"one axis, or axes in a pytree prefix of {name}, which is {in_words(tree, name)}",
            f"{axes!r}" + (f" ({where})" if where else ""),
            "Each axis stands for everything below the same place of the argument.",
            f"Give one axis for {name}, or one for each entry of it.",
        )
    )


def check_leaf(path: str, axis: int, shape: tuple[int, ...], is_array: bool) -> None:
    """Whether the leaf at this path has the axis."""
    if not is_array or not -len(shape) <= axis < len(shape):
        raise ValueError(
            mistake(
                "sweep(in_axes=...)",
                f"an array with an axis {axis} at {path}",
                f"the shape {shape}",
                "By default every one of args has the problems along axis 0, and F and x0 are the same in all.",
                "Give None as the axis of what is the same in every problem, as in `in_axes=(None, None, 0, None)`.",
            )
        )


def check_lengths(lengths: dict[str, int], in_axes: Any) -> None:
    """Whether there are problems at all, and equally many in each array."""
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


def check_progress(traced: bool) -> None:
    if traced:
        raise ValueError(
            mistake(
                "sweep(progress=...)",
                "False inside `jit`, `grad` and `vmap`",
                "True",
                "There the sweep is a part of a larger computation, and Python does not see how far that is.",
                "Leave it out, or show a bar of your own around calls for a part of the problems.",
            )
        )
