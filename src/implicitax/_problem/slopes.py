"""The derivatives that F has; and others in their place where a method wants those that it has not.

Forward mode is missing where a part of F has a rule for reverse mode only (`jax.custom_vjp`), or is no code of JAX
(`jax.pure_callback`); reverse mode where a loop runs as long as its values say, and there too.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.interpreters import ad

from .. import _tree, _xla
from .._tree import Leaves, is_differentiable

_SUSPECTS = ("while", "custom_vjp_call", "pure_callback", "io_callback", "ffi_call")  # which have a rule that raises

Function = Callable[[Leaves, Any], tuple[Leaves, Any]]  # (x, theta) -> (residual, aux)


class Slopes(enum.Enum):
    """What stands for ∂R/∂x v."""

    TANGENTS = "tangents"  # the derivative itself
    COTANGENTS = "cotangents"  # the transpose of what reverse mode gives, which is exact too
    ROWS = "rows"  # the same, from all rows of the Jacobian: what reverse mode runs has itself no transpose
    DIFFERENCES = "differences"  # good enough for the steps of a method, and for a verdict, but no derivative


def unusual(jaxpr: Any) -> set[str]:
    """The names of the primitives, in inner functions too, because of which F may lack a derivative."""
    found: set[str] = set()
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "custom_jvp_call":
            continue  # which has a rule, whatever it is made of
        if name in _SUSPECTS or eqn.primitive not in ad.primitive_jvps:
            found.add(name)
        if name != "custom_vjp_call":
            found.update(*map(unusual, jex_core.jaxprs_in_params(eqn.params)))
    return found


def slopes_of(function: Function, x: Any, theta: Any) -> Slopes:
    """What can be had, in order of preference."""
    if has_tangents(function, x, theta):
        return Slopes.TANGENTS
    for kind in (Slopes.COTANGENTS, Slopes.ROWS):
        if has_tangents(with_slopes(function, kind), x, theta):
            return kind
    return Slopes.DIFFERENCES


def has_tangents(function: Function, x: Any, theta: Any) -> bool:
    """Whether JAX can differentiate F by x in forward mode; what it raises if not is not of one class."""

    def tangent(x: Leaves, v: Leaves, theta: Any) -> Leaves:
        return jax.jvp(lambda x: function(x, theta)[0], (x,), (v,))[1]

    # With `vmap`, or a rule for reverse mode only is not noticed before it is lowered.
    lanes = tuple(jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype) for leaf in x)
    return runs(jax.vmap(tangent, (None, 0, None)), x, lanes, theta)


def has_derivative(function: Function, moving: Sequence[int], reverse: bool, x: Any, theta: Any) -> bool:
    """Whether JAX can differentiate F by x and by those leaves of theta."""

    def part(x: Leaves, smooth: Leaves, theta: Any) -> Any:
        moved = dict(zip(moving, smooth))
        value, aux = function(x, tuple(moved.get(i, leaf) for i, leaf in enumerate(theta)))
        return value, tuple(filter(is_differentiable, aux))

    def derivative(x: Leaves, smooth: Leaves, theta: Any) -> Any:
        if reverse:
            out, pullback = jax.vjp(lambda x, smooth: part(x, smooth, theta), x, smooth)
            return pullback(jax.tree.map(jnp.zeros_like, out))
        return jax.jvp(lambda x, smooth: part(x, smooth, theta), (x, smooth), (x, smooth))[1]

    return runs(derivative, x, tuple(theta[i] for i in moving), theta)


def runs(function: Callable[..., Any], *structs: Any) -> bool:
    """Whether JAX can trace the function; what it raises if not is not of one class."""
    try:
        jax.eval_shape(function, *structs)
    except Exception:  # whatever a rule of the user raises
        return False
    return True


def with_slopes(function: Function, kind: Slopes) -> Function:
    """The same function with tangents by x, and where they are derivatives by theta."""
    if kind is Slopes.TANGENTS:
        return function
    if kind is Slopes.DIFFERENCES:
        return lambda x, theta: by_differences(lambda x: function(x, theta))(x)
    return by_cotangents(function, kind is Slopes.ROWS)


def by_cotangents(function: Function, by_row: bool) -> Function:
    """J v as the transpose of w ↦ Jᵀ w; or with J, one cotangent for each of its rows."""

    @jax.custom_jvp
    def F(x: Leaves, theta: Any) -> tuple[Leaves, Any]:
        return function(x, theta)

    @F.defjvp
    def tangent(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
        leaves, treedef = jax.tree.flatten(primals)
        floats = _Floats(function, leaves, treedef)
        out, pullback = jax.vjp(floats, [leaf for leaf in leaves if is_differentiable(leaf)])
        dots = [leaf for leaf in jax.tree.leaves(tangents) if is_differentiable(leaf)]
        push = _by_row if by_row else _transposed
        moved = iter(push(lambda cotangent: pullback(cotangent)[0], out, dots))
        value = F(*primals)
        return value, jax.tree.map(lambda leaf: next(moved) if is_differentiable(leaf) else _float0(leaf), value)

    return F


class _Floats(NamedTuple):
    """That of a function which can be differentiated."""

    function: Function
    inputs: list[Any]
    treedef: Any

    def __call__(self, smooth: list[Any]) -> list[Any]:
        moving = iter(smooth)
        inputs = [next(moving) if is_differentiable(leaf) else leaf for leaf in self.inputs]
        out = jax.tree.leaves(self.function(*self.treedef.unflatten(inputs)))
        return [leaf for leaf in out if is_differentiable(leaf)]


def _transposed(pull: Callable[[Any], Any], out: Any, dots: Any) -> Any:
    return jax.linear_transpose(pull, out)(dots)[0]


def _by_row(pull: Callable[[Any], Any], out: Any, dots: Any) -> Any:
    flat, unravel = ravel_pytree(out)
    rows = jax.lax.map(lambda unit: pull(unravel(unit)), jnp.eye(flat.size, dtype=flat.dtype))
    products = (jnp.sum(row * dot, axis=range(1, row.ndim)) for row, dot in zip(rows, dots))
    return unravel(sum(products, jnp.zeros_like(flat)).astype(flat.dtype))


def _float0(leaf: Any) -> Any:
    return np.zeros(leaf.shape, jax.dtypes.float0)


def by_differences(function: Callable[[Leaves], tuple[Leaves, Any]]) -> Callable[[Leaves], tuple[Leaves, Any]]:
    """The same, with the tangent of R `(R(x + h v) − R(x − h v)) / 2h`, right to two thirds of the digits.

    h moves the unknown that moves most by eps^(1/3) of its size, or of the largest of its leaf if it is 0.
    """

    @jax.custom_jvp
    def R(x: Leaves) -> Leaves:
        return _for_lanes(function, x)(x)[0]

    @R.defjvp
    def tangent(primals: tuple[Leaves], tangents: tuple[Leaves]) -> tuple[Leaves, Leaves]:
        (x,), (v,) = primals, tangents
        eps = float(jnp.finfo(_tree.work_dtype(x)).eps)
        relative = tuple(map(_relative, v, x))
        most = _tree.largest(relative)
        h = eps ** (1 / 3) / _xla.where((most > 0) & jnp.isfinite(most), most, 1)
        up, down = R(_tree.axpy(h, v, x)), R(_tree.axpy(-h, v, x))
        return R(x), tuple(((a - b) / (2 * h)).astype(a.dtype) for a, b in zip(up, down))

    return lambda x: (R(x), jax.lax.stop_gradient(function(jax.lax.stop_gradient(x))[1]))


def _for_lanes(function: Callable[[Leaves], Any], x: Leaves) -> Callable[[Leaves], Any]:
    """Under `vmap` lane after lane, if it cannot be otherwise: as a rule a callback is written for one."""
    lanes = tuple(jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype) for leaf in x)
    return function if runs(jax.vmap(function), lanes) else jax.custom_batching.sequential_vmap(function)


def _relative(v: Any, x: Any) -> Any:
    largest = _xla.max_abs(x)
    size = _xla.where(x == 0, _xla.where(largest > 0, largest, 1), jnp.abs(x))
    return v / size
