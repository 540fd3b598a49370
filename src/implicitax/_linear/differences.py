"""Tangents of a function that has none: by differences."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import _tree, _xla
from .._tree import Leaves


def has_tangent(residual: Callable[[Leaves, Any], Leaves], x: Leaves, theta: Any) -> bool:
    """Whether JAX can differentiate R by x in forward mode. It cannot where R has a rule for reverse mode only, or is a
    callback; what it then raises is not of one class."""

    def tangent(x: Leaves, v: Leaves, theta: Any) -> Leaves:
        return jax.jvp(lambda x: residual(x, theta), (x,), (v,))[1]

    try:
        # With `vmap`, or a rule for reverse mode only is not noticed before it is lowered.
        jax.eval_shape(jax.vmap(tangent, (None, 0, None)), x, tuple(leaf[None] for leaf in x), theta)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def by_differences(residual: Callable[[Leaves], Leaves]) -> Callable[[Leaves], Leaves]:
    """The same R, with the tangent `(R(x + h v) − R(x − h v)) / 2h`, right to two thirds of the digits.

    h moves the unknown that moves most by eps^(1/3) of its size, or of the largest of its leaf if it is 0.
    """

    @jax.custom_jvp
    def R(x: Leaves) -> Leaves:
        return residual(x)

    @R.defjvp
    def tangent(primals: tuple[Leaves], tangents: tuple[Leaves]) -> tuple[Leaves, Leaves]:
        (x,), (v,) = primals, tangents
        eps = float(jnp.finfo(_tree.work_dtype(x)).eps)
        relative = tuple(map(_relative, v, x))
        most = _tree.largest(relative)
        h = eps ** (1 / 3) / _xla.where((most > 0) & jnp.isfinite(most), most, 1)
        up, down = residual(_tree.axpy(h, v, x)), residual(_tree.axpy(-h, v, x))
        return residual(x), tuple(((a - b) / (2 * h)).astype(a.dtype) for a, b in zip(up, down))

    return R


def _relative(v: Any, x: Any) -> Any:
    largest = _xla.max_abs(x)
    size = _xla.where(x == 0, _xla.where(largest > 0, largest, 1), jnp.abs(x))
    return v / size
