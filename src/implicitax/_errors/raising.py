"""The exceptions, and raising them from inside a compiled computation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool

from .. import _xla

# Raised by JAX where Python needs the value of something traced.
needs_value = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class ConvergenceError(RuntimeError):
    """A solve, or the linear solve of its derivative, failed under `throw=True`.

    Raised as it is from a solve outside `jit` and `vmap`. Inside, and from a derivative, which always runs compiled,
    JAX wraps the same text in its own `jax.errors.JaxRuntimeError`.
    """


def mistake(argument: str, expected: str, got: str, cause: str, remedy: str) -> str:
    """The text of an error about an argument: where, expected what, got what, why likely, what to do."""
    return f"`{argument}`: expected {expected}, got {got}. {cause} {remedy}"


def raise_where(
    failed: Bool[Array, "*rows"],
    values: Any,
    text: Callable[..., str],
    *numbers: Array,
    name: str = "solve",
    mesh: Mesh | None = None,
) -> Any:
    """`values` unchanged, but a run-time error if `failed` in any lane.

    `text(failed, *numbers)` is called on the host, with NumPy arrays that have one leading axis for each enclosing
    `vmap`, and one for the rows of a batch. The callback is behind a branch: a run that does not fail pays for one
    predicate. With a `mesh` the rows are split over its devices, and an error on one of them is one on all at once:
    else the program would end there while the others wait for what that has to send.
    """

    def complain(*arrays: Any) -> Any:
        failed, *numbers = (np.asarray(array) for array in arrays)
        if failed.any():
            raise ConvergenceError(text(failed, *numbers))
        return np.ones(failed.shape, bool)

    def call(*arrays: Array) -> Array:
        struct = jax.ShapeDtypeStruct(arrays[0].shape, jnp.bool_)
        return jnp.all(jax.pure_callback(complain, struct, *arrays, vmap_method="broadcast_all"))

    with jax.named_scope(f"implicitax_check_{name}"):
        # The value must depend on the check, or the compiler drops it.
        if mesh is None:
            passed = _xla.if_any(failed, call, lambda failed, *_: jnp.all(jnp.ones_like(failed)), failed, *numbers)
        else:
            passed = _on_all_devices(mesh, call, (failed, *numbers))
        return jax.tree.map(lambda leaf: _xla.where(passed, leaf, jnp.zeros_like(leaf)), values)


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
