"""Arithmetic on a state inside a solve: a tuple of real arrays, its leaves.

The user's pytree is taken apart once, at the entry (`_problem.py`), and put together once, at the exit. In between a
complex array is two leaves, its real and its imaginary part.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

Leaves: TypeAlias = tuple[Array, ...]


def size(leaves: Sequence[Any]) -> int:
    """How many real unknowns the leaves hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in leaves)


def work_dtype(leaves: Sequence[Any]) -> Any:
    """The dtype in which norms and dense matrices are computed: the widest of the leaves, at least float32."""
    return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))


def dot(a: Leaves, b: Leaves) -> Float[Array, ""]:
    """⟨a, b⟩."""
    dtype = work_dtype(a)
    return sum((jnp.vdot(ai.astype(dtype), bi.astype(dtype)) for ai, bi in zip(a, b)), jnp.zeros((), dtype))


def norm(a: Leaves) -> Float[Array, ""]:
    """‖a‖₂."""
    return jnp.sqrt(dot(a, a))


def axpy(alpha: Any, x: Leaves, y: Leaves) -> Leaves:
    """alpha·x + y, each leaf in the dtype of y."""
    return tuple((yi + alpha * xi).astype(yi.dtype) for xi, yi in zip(x, y))


def sub(a: Leaves, b: Leaves) -> Leaves:
    """a − b."""
    return tuple(ai - bi for ai, bi in zip(a, b))


def mul(a: Leaves, b: Leaves) -> Leaves:
    """a·b, component by component."""
    return tuple(ai * bi for ai, bi in zip(a, b))


def zeros_like(a: Sequence[Any]) -> Leaves:
    """0, shaped like a."""
    return tuple(jnp.zeros(leaf.shape, leaf.dtype) for leaf in a)


def where(predicate: Bool[Array, ""], a: Leaves, b: Leaves) -> Leaves:
    """a if predicate else b."""
    return tuple(jnp.where(predicate, ai, bi) for ai, bi in zip(a, b))


def max_norm(a: Leaves) -> Float[Array, ""]:
    """max |aᵢ|; NaN if a component is NaN."""
    dtype = work_dtype(a)
    largest = [jnp.max(jnp.abs(leaf)).astype(dtype) for leaf in a if leaf.size]
    return jnp.max(jnp.stack(largest)) if largest else jnp.zeros((), dtype)


def is_zero(a: Sequence[Array]) -> Bool[Array, ""]:
    """Whether every component is exactly 0 (a NaN is not)."""
    return jnp.logical_not(sum((jnp.any(leaf != 0) for leaf in a), jnp.zeros((), bool)))


def first_bad(a: Leaves) -> Array:
    """Index of the first component that is NaN or infinite; `size(a)` if there is none."""
    count = size(a)
    first, offset = jnp.asarray(count, jnp.int32), 0
    for leaf in a:
        if leaf.size:
            index = offset + jnp.arange(leaf.size, dtype=jnp.int32).reshape(leaf.shape)
            first = jnp.minimum(first, jnp.min(jnp.where(jnp.isfinite(leaf), count, index)))
        offset += leaf.size
    return first


def ravel(a: Leaves) -> Inexact[Array, " n"]:
    """All leaves in one vector."""
    dtype = work_dtype(a)
    if len(a) == 1:
        return a[0].reshape(-1).astype(dtype)
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in a])


def unravel(vector: Inexact[Array, " n"], like: Sequence[Any]) -> Leaves:
    """The inverse of `ravel`."""
    leaves, offset = [], 0
    for leaf in like:
        count = int(np.prod(leaf.shape))
        part = jax.lax.slice_in_dim(vector, offset, offset + count)
        leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
        offset += count
    return tuple(leaves)


def named_axes() -> bool:
    """Whether this is inside a `vmap` or `shard_map` with named axes."""
    return bool(jex_core.unsafe_get_axis_names_DO_NOT_USE())


def varying(values: Any, sources: Sequence[Any]) -> Any:
    """Inside `shard_map`, the values typed as differing from device to device where one of the sources does.

    JAX wants the carry of a loop to have the type that the iteration gives it.
    """
    if not named_axes():
        return values
    zero = sum(jnp.sum(jnp.ravel(leaf)[:0] == 0) for leaf in sources)  # exactly 0, but it depends on all sources
    return jax.tree.map(lambda leaf: jnp.where(zero == 0, leaf, leaf), values)
