"""Every work-around for XLA, for the typing of JAX, and every door of theirs that is not quite public.

Each says what it is for and for which versions it was measured; `tests/test_xla.py` has a test for each that fails when
the reason is gone. Measured with JAX 0.10.2 on CPU, 2026-11.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import equinox.internal as eqxi
import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool

# What XLA on CPU makes of a small program ---------------------------------------------------------------------------

WRITTEN_OUT = 8  # entries over which a reduction is written out
COPIED = 1000  # unknowns up to which what a branch copies costs less than what it saves


def fold(op: Callable[[Array, Array], Array], a: Array, reduction: Callable[[Array], Array]) -> Array:
    """`reduction(a)`, which is `op` over all entries.

    Written out if they are few. XLA on CPU reserves memory for each reduction of a program, on every call: 0.1 µs.
    """
    if not 1 <= a.size <= WRITTEN_OUT:
        return reduction(a)
    entries = a.reshape(-1)
    return functools.reduce(op, [entries[i] for i in range(a.size)])


def once(flag: Bool[Array, "..."]) -> Bool[Array, "..."]:
    """The same. XLA on CPU repeats cheap operations in every kernel that uses their result, but not a division: so what
    the flag depends on is computed, and compiled, once."""
    return 1 / (2 - flag.astype(jnp.float32)) > 0.75  # 1 or 1/2


def where(condition: Any, a: Any, b: Any) -> Array:
    """`jnp.where(condition, a, b)`, which is a jitted function: a call of its own in every program, at every use, that
    JAX differentiates, batches and lowers by itself: of a root of two unknowns 146, a sixth of the time to lower it."""
    values, dtype = (jnp.asarray(a), jnp.asarray(b)), jnp.result_type(a, b)
    decides = [value.dtype == dtype and not jax.typeof(value).weak_type for value in values]
    if values[0].dtype != values[1].dtype and not any(decides):
        return jnp.where(condition, a, b)  # 1 and 0.0: a type as weak as theirs
    shape = jnp.broadcast_shapes(*map(jnp.shape, (condition, *values)))
    condition = jnp.asarray(condition, bool)
    condition = condition if condition.ndim == 0 else jnp.broadcast_to(condition, shape)
    a, b = (jnp.broadcast_to(value if value.dtype == dtype else value.astype(dtype), shape) for value in values)
    return jax.lax.select(condition, a, b)


def select(conditions: Sequence[Any], values: Sequence[Any], default: Any) -> Any:
    """The value at the first condition that is true. `jnp.select` finds it by a reduction, which costs (see `fold`)."""
    for condition, value in reversed(list(zip(conditions, values, strict=True))):
        default = where(condition, value, default)
    return default


def one_more(count: Array, running: Bool[Array, "..."]) -> Array:
    """`count + 1`, where `running` is true. XLA on CPU reserves memory for a constant 1 on every call: 0.1 µs."""
    return count + running


def evaluated_once(needed: Bool[Array, "..."], evaluate: Callable[[Any], Any], otherwise: Any, x: Any) -> Any:
    """`evaluate(x)`, behind a branch that is always taken where it counts.

    Without it XLA on CPU compiles F, and its tangents, once for each kernel that uses the result: for Newton's method
    20 times, of which it computes several.
    """
    return jax.lax.cond(eqxi.unvmap_any(needed), evaluate, lambda _: otherwise, x)


def max_abs(a: Array) -> Array:
    """max |aᵢ|; NaN if one is NaN, which XLA's own maximum of a long array on CPU is not (JAX 0.10)."""
    return fold(jnp.maximum, jnp.abs(a), lambda a: where(jnp.any(jnp.isnan(a)), jnp.nan, jnp.max(a)))


def largest(a: Array) -> Array:
    """max |aᵢ|; infinite or NaN if one is: in one pass, where `max_abs` takes two."""
    return fold(jnp.maximum, jnp.abs(a), lambda a: jnp.max(where(a == a, a, jnp.inf)))


# Branches under `vmap`: one predicate for all lanes, or JAX makes a `select` of the branch and takes both -------------


def if_any(
    predicate: Bool[Array, "..."], then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any
) -> Any:
    """`then(*operands)` if the predicate is true in any lane of a `vmap`, else `otherwise(*operands)`."""
    return jax.lax.cond(eqxi.unvmap_any(predicate), then, otherwise, *operands)


def if_all(
    predicate: Bool[Array, "..."], then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any
) -> Any:
    """`then(*operands)` if the predicate is true in every lane of a `vmap`, else `otherwise(*operands)`."""
    return jax.lax.cond(eqxi.unvmap_all(predicate), then, otherwise, *operands)


largest_of_lanes = eqxi.unvmap_max

# Threads of several CPU devices --------------------------------------------------------------------------------------


def threads_wanted(mesh: jax.sharding.Mesh) -> int:
    """How many threads XLA should have for a program in which the devices wait for each other, if it has fewer; else 0.

    On CPU a device that waits holds a thread of a pool that all share, as large as there are cores, and the others may
    need that to get where it waits: with two devices on two cores a program of two sweeps and their gradient stood
    still for as long as it was let. It ran with 3 threads for 2 devices, 5 for 4 and 16 for 8, but not with 9 or 10.
    (No test: it would have to wait for what never comes.)
    """
    if mesh.devices.flat[0].platform != "cpu":
        return 0
    wanted = 2 * len(mesh.local_devices)
    given = os.environ.get("NPROC", "")  # which XLA reads in place of the number of cores
    # As XLA counts them: those that this process may use, which in a container are fewer.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if (int(given) if given.isdigit() else cores) >= wanted else wanted


# Types: what differs from device to device of a `shard_map`, or from lane to lane ------------------------------------


def named_axes() -> bool:
    """Whether this is inside a `vmap` or `shard_map` with named axes."""
    return bool(jex_core.unsafe_get_axis_names_DO_NOT_USE())


def staged() -> bool:
    """Whether what is computed here is compiled later: inside `jit`, or a loop or branch of JAX."""
    return isinstance(jax.lax.convert_element_type(0.0, jnp.float32), Tracer)


def varying(values: Any, sources: Sequence[Any]) -> Any:
    """Inside `shard_map`, the values typed as differing from device to device where one of the sources does.

    JAX wants the carry of a loop to have the type that the iteration gives it.
    """
    if not named_axes():
        return values
    zero = sum(jnp.sum(jnp.ravel(leaf)[:0] == 0) for leaf in sources)  # exactly 0, but it depends on all sources
    return jax.tree.map(lambda leaf: where(zero == 0, leaf, leaf), values)


def false_like(flag: Bool[Array, "..."]) -> Bool[Array, "..."]:
    """False, typed as the flag is: `jnp.zeros_like` would be the same on all devices."""
    return flag & False


def linked(tree: Any, sources: Sequence[Any]) -> Any:
    """The tree, every leaf of which depends on all of its leaves and on the sources.

    So all have an axis of lanes if one of them has, and are typed as differing between the devices of a `shard_map` if
    one is. What each was before is then JAX's to sort out: by a sum over lanes in the transpose of `+`.
    """
    nothing = sum((jnp.sum(jnp.ravel(leaf)[:0]) for leaf in (*sources, *jax.tree.leaves(tree))), jnp.zeros(()))
    return jax.tree.map(lambda leaf: leaf + nothing.astype(leaf.dtype), tree)


# Doors --------------------------------------------------------------------------------------------------------------

# A `jax.custom_jvp` is forgotten where JAX splits a loop into what is known and what is not, as reverse mode through a
# `scan` does, and a second derivative would then be silently wrong: the rule of the derivative is made of primitives.
bind = eqxi.filter_primitive_bind
defines_value = eqxi.filter_primitive_def
defines_jvp = eqxi.filter_primitive_jvp
defines_transpose = eqxi.filter_primitive_transpose
create_primitive = eqxi.create_vprim


def shape_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes and dtypes of what a jitted function returns, of arguments that are themselves such."""
    traced = function.trace(*arguments)  # pyright: ignore[reportFunctionMemberAccess]
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), traced.jaxpr.out_avals)
