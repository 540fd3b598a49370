"""The exceptions, and raising them from inside a compiled computation."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Shaped

from .. import _xla

# Raised by JAX where Python needs the value of something traced.
needs_value = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class ConvergenceError(RuntimeError):
    """A solve, or the linear solve of its derivative, failed under `throw=True`.

    Raised as it is outside `jit`, from a derivative and under `vmap` too. Inside, and from the derivative of a `sweep`,
    JAX wraps the same text in its own `jax.errors.JaxRuntimeError`.
    """


def mistake(argument: str, expected: str, got: str, cause: str, remedy: str) -> str:
    """The text of an error about an argument: where, expected what, got what, why likely, what to do."""
    return f"`{argument}`: expected {expected}, got {got}. {cause} {remedy}".rstrip()


def raise_where(
    failed: Shaped[Array, "*rows"],
    values: Any,
    text: Callable[..., str],
    *numbers: Array,
    name: str = "solve",
    mesh: Mesh | None = None,
) -> Any:
    """`values` unchanged, but an error if `failed` is not 0 in any lane.

    `text(failed, *numbers)` is called on the host, with NumPy arrays that have one leading axis for each enclosing
    `vmap`, and one for the rows of a batch. Outside `jit` that is at once. Inside, a callback does it, behind a branch:
    a run that does not fail pays for one predicate. With a `mesh` the rows are split over its devices, and an error on
    one of them is one on all at once: else the program would end there while the others wait for what that has to send.
    """
    if not isinstance(failed, Tracer):  # whatever the values are part of
        _complain(text, failed, *numbers)
        return values
    leaves, treedef = jax.tree.flatten(values)
    if mesh is not None:
        passed = _on_all_devices(mesh, functools.partial(_call, text), (failed, *numbers))
        leaves = [_xla.where(passed, leaf, jnp.zeros_like(leaf)) for leaf in leaves]
    else:
        leaves = _check.bind(failed, *numbers, *leaves, text=text, name=name, count=1 + len(numbers))
    return jax.tree.unflatten(treedef, leaves)


# An operation of its own, so that outside `jit` Python sees the numbers, whatever transforms what is around it.
_check = jex_core.Primitive("implicitax_check")
_check.multiple_results = True


@_check.def_impl
def _check_now(*arrays: Any, text: Callable[..., str], name: str, count: int) -> list[Any]:
    _complain(text, *arrays[:count])
    return list(arrays[count:])


def _complain(text: Callable[..., str], failed: Any, *numbers: Any) -> None:
    if on_host(failed).any():
        raise ConvergenceError(text(*map(on_host, (failed, *numbers))))


@_check.def_abstract_eval
def _unchanged(*avals: Any, text: Callable[..., str], name: str, count: int) -> Any:
    return avals[count:]


def _check_later(*arrays: Array, text: Callable[..., str], name: str, count: int) -> list[Array]:
    with jax.named_scope(f"implicitax_check_{name}"):
        # The values must depend on the check, or the compiler drops it.
        wrong = jnp.any(arrays[0] != 0)
        passed = jax.lax.cond(wrong, functools.partial(_call, text), lambda *_: jnp.ones((), bool), *arrays[:count])
        return [_xla.where(passed, leaf, jnp.zeros_like(leaf)) for leaf in arrays[count:]]


def _call(text: Callable[..., str], *arrays: Array) -> Array:
    def complain(*arrays: Any) -> Any:
        _complain(text, *map(np.asarray, arrays))
        return np.ones(arrays[0].shape, bool)

    struct = jax.ShapeDtypeStruct(arrays[0].shape, jnp.bool_)
    return jnp.all(jax.pure_callback(complain, struct, *arrays, vmap_method="broadcast_all"))


def _check_derivative(primals: Any, tangents: Any, **parameters: Any) -> tuple[Any, Any]:
    return _check.bind(*primals, **parameters), list(tangents[parameters["count"] :])


def _check_lanes(arrays: Any, axes: Any, *, count: int, **parameters: Any) -> tuple[Any, Any]:
    """The numbers of all lanes; the values as they are."""
    lanes = next(array.shape[axis] for array, axis in zip(arrays, axes) if axis is not None)

    def leading(array: Array, axis: int | None) -> Array:
        if axis is None:
            return jnp.broadcast_to(array, (lanes, *jnp.shape(array)))
        return jnp.moveaxis(array, axis, 0)

    numbers = map(leading, arrays[:count], axes[:count])
    return _check.bind(*numbers, *arrays[count:], count=count, **parameters), axes[count:]


ad.primitive_jvps[_check] = _check_derivative
batching.primitive_batchers[_check] = _check_lanes
mlir.register_lowering(_check, mlir.lower_fun(_check_later, multiple_results=True))


def on_host(array: Any) -> np.ndarray:
    """The numbers; those of other processes are sent, for which all of these ask, since all run the same program."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _on_all_devices(mesh: Mesh, call: Callable[..., Array], arrays: tuple[Array, ...]) -> Array:
    """`call(*arrays)` with all rows on each device, if the first of the arrays is true in a row on any."""
    axes, rows = mesh.axis_names, len(arrays[0])
    missing = -rows % mesh.size

    def part(*arrays: Array) -> Array:
        whole = lambda: call(*(jax.lax.all_gather(array, axes, tiled=True)[:rows] for array in arrays))
        anywhere = jax.lax.psum(jnp.any(arrays[0]).astype(jnp.int32), axes) > 0
        return _xla.if_any(anywhere, whole, lambda: jnp.ones((), bool))

    split = PartitionSpec(axes)
    check = jax.shard_map(part, mesh=mesh, in_specs=split, out_specs=PartitionSpec(), check_vma=False)
    return check(*(jnp.pad(array, (0, missing)) for array in arrays))
