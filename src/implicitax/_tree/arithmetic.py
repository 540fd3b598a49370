"""Arithmetic on a state inside a solve: a tuple of real arrays, its leaves.

The user's pytree is taken apart once, at the entry (`_problem/trace.py`), and put together once, at the exit. In
between a complex array is two leaves, its real and its imaginary part.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int

from .. import _xla
from .._xla import WRITTEN_OUT, fold

Leaves: TypeAlias = tuple[Array, ...]


def size(leaves: Sequence[Any]) -> int:
    """How many real unknowns the leaves hold."""
    return sum(math.prod(leaf.shape) for leaf in leaves)


def work_dtype(leaves: Sequence[Any]) -> Any:
    """The dtype in which norms and dense matrices are computed: the widest of the leaves, at least float32."""
    return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))


def dot(a: Leaves, b: Leaves) -> Float[Array, ""]:
    """⟨a, b⟩."""
    dtype = work_dtype(a)

    def each(ai: Array, bi: Array) -> Array:
        ai, bi = ai.astype(dtype), bi.astype(dtype)
        return fold(jnp.add, ai * bi, jnp.sum) if ai.size <= WRITTEN_OUT else jnp.vdot(ai, bi)

    return sum(map(each, a, b), jnp.zeros((), dtype))


def products(rows: tuple[Array, ...], vector: Leaves) -> Float[Array, " m"]:
    """⟨rowⱼ, vector⟩ for every j."""
    dtype = work_dtype(vector)
    terms = [
        jax.lax.dot_general(
            row.reshape(row.shape[0], -1).astype(dtype), v.reshape(-1).astype(dtype), (((1,), (0,)), ((), ()))
        )
        for row, v in zip(rows, vector)
    ]
    return jnp.sum(jnp.stack(terms), axis=0)


def matvec(matrix: Inexact[Array, "m n"], vector: Inexact[Array, " n"]) -> Inexact[Array, " m"]:
    """A v."""
    if vector.size > WRITTEN_OUT:
        return matrix @ vector
    return functools.reduce(jnp.add, [matrix[:, j] * vector[j] for j in range(vector.size)])


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


def where(predicate: Bool[Array, ""], a: Any, b: Any) -> Any:
    """a if predicate else b, leaf by leaf of any two pytrees."""
    return jax.tree.map(lambda ai, bi: _xla.where(predicate, ai, bi), a, b)


def where_seldom(predicate: Bool[Array, ""], a: Callable[[], Leaves], b: Leaves) -> Leaves:
    """a() if predicate else b, without a pass over either where the predicate is false everywhere."""
    if size(b) <= WRITTEN_OUT:
        return where(predicate, a(), b)
    return _xla.if_any(predicate, lambda: where(predicate, a(), b), lambda: b)


def max_norm(a: Leaves) -> Float[Array, ""]:
    """max |aᵢ|; NaN if a component is NaN."""
    dtype = work_dtype(a)
    largest = [_xla.max_abs(leaf).astype(dtype) for leaf in a if leaf.size]
    return _xla.max_abs(jnp.stack(largest)) if largest else jnp.zeros((), dtype)


def largest(a: Leaves) -> Float[Array, ""]:
    """max |aᵢ|; infinite or NaN if a component is: a verdict in one pass, where `max_norm` takes two."""
    return functools.reduce(jnp.maximum, (_xla.largest(leaf) for leaf in a if leaf.size)).astype(work_dtype(a))


def is_zero(a: Sequence[Array]) -> Bool[Array, ""]:
    """Whether every component is exactly 0 (a NaN is not)."""
    each = (fold(jnp.logical_or, leaf != 0, jnp.any) for leaf in a)
    return jnp.logical_not(functools.reduce(jnp.logical_or, each, np.False_))


def has_nan(a: Sequence[Array]) -> Bool[Array, ""]:
    """Whether a component is NaN."""
    each = (fold(jnp.logical_or, leaf != leaf, jnp.any) for leaf in a if leaf.size)
    return functools.reduce(jnp.logical_or, each, jnp.asarray(False))


def first(a: Sequence[Array]) -> Int[Array, ""]:
    """Index of the first component that is true; `size(a)` if there is none."""
    count = size(a)
    found, offset = jnp.asarray(count, jnp.int32), 0
    for leaf in a:
        if leaf.size:
            index = offset + jnp.arange(leaf.size, dtype=jnp.int32).reshape(leaf.shape)
            found = jnp.minimum(found, fold(jnp.minimum, _xla.where(leaf, index, count), jnp.min))
        offset += leaf.size
    return found


def first_bad(a: Leaves) -> Int[Array, ""]:
    """Index of the first component that is NaN or infinite; `size(a)` if there is none."""
    return first(tuple(~jnp.isfinite(leaf) for leaf in a))


def rows_first(a: Leaves, batch_axis: int | None) -> Leaves:
    """The leaves with their rows along axis 0."""
    return a if not batch_axis else tuple(jnp.moveaxis(leaf, batch_axis, 0) for leaf in a)


def rows_back(a: Leaves, batch_axis: int | None) -> Leaves:
    """The inverse of `rows_first`."""
    return a if not batch_axis else tuple(jnp.moveaxis(leaf, 0, batch_axis) for leaf in a)


def each_row(values: Sequence[Any], like: Sequence[Any], batch_axis: int) -> Leaves:
    """Values that broadcast against `like`, with the rows along axis 0; one number a row where that will do."""
    rows = []
    for value, leaf in zip(values, like):
        value, count = jnp.asarray(value), leaf.shape[batch_axis]
        aligned = value.reshape((1,) * (leaf.ndim - value.ndim) + value.shape)
        if aligned.size in (1, aligned.shape[batch_axis]):
            rows.append(jnp.broadcast_to(aligned.reshape(-1), (count,)))
        else:
            rows.append(jnp.moveaxis(jnp.broadcast_to(aligned, leaf.shape), batch_axis, 0))
    return tuple(rows)


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
        count = math.prod(leaf.shape)
        part = jax.lax.slice_in_dim(vector, offset, offset + count)
        leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
        offset += count
    return tuple(leaves)
