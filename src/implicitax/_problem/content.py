"""What was traced, as a key: two traces that mean the same have equal ones, whatever the function was called.

A jaxpr is walked in order: its primitives, its variables by number, shapes and dtypes, literals by their bytes, inner
jaxprs. What a primitive has beside numbers is compared by value where it has one. A function that runs with the
program, in a callback, is what its code and what it closes over are. The functions of a custom derivative are new in
each trace, and say nothing: what they do is in the jaxpr of the derivative, which then belongs to the key. What is in a
function under `jax.jit` is JAX's to keep or to trace again: if nothing else can be said of it, it is itself.
"""

import enum
import functools
import inspect
import os
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import numpy as np
from jax.core import ShapedArray, Tracer, eval_jaxpr

from .._tree import is_differentiable

_ORDERS = 2  # derivatives of a custom rule that are looked at, where they have such rules themselves
_VALUES = (
    bool,
    int,
    str,
    bytes,
    type(None),
    type,
    np.dtype,
    enum.Enum,
    types.BuiltinFunctionType,
    np.ufunc,
    range,
    slice,
)
# The functions among the parameters of these run with the program, and are not traced.
_CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "debug_print", "implicitax_check")
_CUSTOM = {
    "custom_jvp_call": ("jvp_jaxpr_fun",),
    "custom_vjp_call": ("fwd_jaxpr_thunk", "bwd", "out_trees"),
    "custom_lin": ("bwd", "fwd_jaxpr_thunk", "out_trees"),
}


class Incomparable(Exception):  # noqa: N818
    """Of something that was traced nobody can say whether it is the same as something else."""


class HoldsTracer(Incomparable):
    """It must not be kept, either."""


class Same:
    """An object that is equal to itself only. It is held, so that no other can take its place."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Content(NamedTuple):
    """What two traces have to have in common."""

    structure: Any
    same: tuple[Same, ...]  # what can be compared by identity only


def content(closed: Any) -> Content:
    """The key of a closed jaxpr, whose constants count by their shapes and dtypes only. Raises `Incomparable`.

    With a custom rule in it, it is followed by the jaxprs of its derivatives, until one has no such rule.
    """
    walk = _Walk()
    found = [walk.jaxpr(closed.jaxpr)]
    for _ in range(_ORDERS):
        if not walk.rules:
            break
        try:
            closed = _derivative(closed, reverse="custom_vjp_call" in walk.rules)
        except Exception:  # whatever a rule raises: what has no derivative has none that could be another one
            break
        walk.rules = set()
        found.append(walk.closed(closed))
    return Content(tuple(found), tuple(walk.same))


def _derivative(closed: Any, reverse: bool) -> Any:
    """The jaxpr of the derivative by all that has one, at fresh inputs and in a fresh direction."""
    inputs = [*closed.consts, *(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars)]
    moving = [i for i, leaf in enumerate(inputs) if is_differentiable(leaf)]
    count = len(closed.consts)

    def function(smooth: list[Any], inputs: list[Any]) -> list[Any]:
        inputs = list(inputs)
        for i, leaf in zip(moving, smooth):
            inputs[i] = leaf
        out = eval_jaxpr(closed.jaxpr, inputs[:count], *inputs[count:])
        return [leaf for leaf in out if is_differentiable(leaf)]

    def derivative(inputs: list[Any], direction: list[Any]) -> Any:
        smooth = [inputs[i] for i in moving]
        if reverse:
            return jax.vjp(lambda smooth: function(smooth, inputs), smooth)[1](direction)
        return jax.jvp(lambda smooth: function(smooth, inputs), (smooth,), (direction,))

    directions = [var.aval for var in closed.jaxpr.outvars] if reverse else [jax.typeof(inputs[i]) for i in moving]
    structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in directions if is_differentiable(aval)]
    return jax.make_jaxpr(derivative)(inputs, structs)


class _Walk:
    """One walk of a jaxpr, and what was met on the way."""

    def __init__(self) -> None:
        self.same: list[Same] = []
        self.rules: set[str] = set()  # the primitives with a derivative of their own

    def closed(self, closed: Any) -> Any:
        return self.jaxpr(closed.jaxpr), tuple(map(self.value, closed.consts))

    def jaxpr(self, jaxpr: Any) -> Any:
        numbers: dict[Any, int] = {}

        def number(var: Any) -> Any:
            if isinstance(var, jex_core.Literal):
                return _aval(var.aval), _bytes(var.val)
            return numbers.setdefault(var, len(numbers))

        given = (*jaxpr.constvars, *jaxpr.invars)
        head = tuple(map(number, given)), tuple(_aval(var.aval) for var in given)
        body = tuple(self._equation(eqn, number) for eqn in jaxpr.eqns)
        return head, body, tuple(map(number, jaxpr.outvars))

    def _equation(self, eqn: Any, number: Callable[[Any], Any]) -> Any:
        name = eqn.primitive.name
        inputs = tuple(map(number, eqn.invars))
        outputs = tuple((number(var), _aval(var.aval)) for var in eqn.outvars)
        rule = _of_jax(eqn) if name in _CUSTOM else None
        if name in _CUSTOM and rule is None:
            self.rules.add(name)
        skipped = _CUSTOM.get(name, ("flatten",))  # `flatten`: where Equinox keeps the structure of an output
        params = [(key, value) for key, value in eqn.params.items() if key not in skipped]
        if name == "jit":
            found = tuple((key, self._jitted(value) if key == "jaxpr" else self.value(value)) for key, value in params)
        else:
            runs = name in _CALLBACKS
            found = tuple((key, self.value(value, runs)) for key, value in params)
        # How random numbers are made, and where: by settings of JAX which the equation keeps.
        settings = tuple(str(getattr(eqn.ctx, each, None)) for each in ("threefry_partitionable", "compute_type"))
        return eqn.primitive, inputs, outputs, found, frozenset(eqn.effects), settings, rule

    def _jitted(self, closed: Any) -> Any:
        known = _JITTED.get(closed)
        if known is None:
            known = _JITTED[closed] = _within_jit(closed)
        if known is _ITSELF:
            return self._held(closed)
        self.same += known.same
        return known.structure

    def _held(self, value: Any) -> Any:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            raise HoldsTracer
        self.same.append(Same(value))
        return Same

    def value(self, value: Any, runs: bool = False) -> Any:
        """A parameter. `runs`: whether functions in it are only called when the program runs; they may change what they
        close over, which then is what it is, and not what is in it."""
        if runs and isinstance(value, list | dict | set | np.ndarray):
            return self._held(value)
        if isinstance(value, float | complex):
            return type(value), repr(value)
        if isinstance(value, _VALUES):
            return type(value), value
        if isinstance(value, tuple | list):
            return type(value), tuple(self.value(item, runs) for item in value)
        if isinstance(value, dict):
            return dict, tuple((self.value(key), self.value(item, runs)) for key, item in value.items())
        if isinstance(value, jex_core.ClosedJaxpr):
            return self.closed(value)
        if isinstance(value, jex_core.Jaxpr):
            return self.jaxpr(value)
        if isinstance(value, ShapedArray):
            return _aval(value)
        if isinstance(value, Tracer):
            raise HoldsTracer
        if isinstance(value, jax.Array):
            return self._held(value)  # nobody can change it
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            return _bytes(value)
        return self._object(value, runs)

    def _object(self, value: Any, runs: bool) -> Any:
        if type(value).__name__ in _SINGLE:
            return Same(value)
        if runs and isinstance(value, types.FunctionType):
            return self._function(value)
        if runs and hasattr(value, "__func__"):  # a bound method
            return self._function(value.__func__), self.value(value.__self__, runs)
        if runs and isinstance(value, functools.partial):
            return self.value((value.func, value.args, tuple(value.keywords.items())), runs)
        fields = getattr(type(value), "__dataclass_fields__", None)
        if fields is not None and _room(value) in _TRUSTED:
            return type(value), tuple(self.value(getattr(value, name), runs) for name in fields)
        room = _room(value)
        of_jax = room in ("jax", "jaxlib", "numpy")
        if type(value).__hash__ not in (None, object.__hash__) and (
            of_jax or (room in _TRUSTED and not callable(value))
        ):
            return type(value), value  # with an equality of its own: shardings, meshes, structures of pytrees
        if callable(value) and not runs:
            raise Incomparable(f"a function ({getattr(value, '__name__', type(value).__name__)})")
        if runs:
            return self._held(value)
        raise Incomparable(f"a {type(value).__name__}")

    def _function(self, function: types.FunctionType) -> Any:
        """Equal if a call does the same, as long as what it closes over is bound to the same."""
        read = inspect.getclosurevars(function).nonlocals
        if any(value is function for value in read.values()):
            return self._held(function)  # it calls itself
        keywords = tuple((function.__kwdefaults__ or {}).items())
        defaults = self.value((function.__defaults__, keywords), True)
        return function.__code__, Same(function.__globals__), self.value(tuple(read.items()), True), defaults


def _within_jit(closed: Any) -> Any:
    try:
        walk = _Walk()
        structure, same = content(closed)
        consts = tuple(map(walk.value, closed.consts))
    except HoldsTracer:
        raise
    except Incomparable:
        return _ITSELF
    same = (*same, *walk.same)
    arrays = all(isinstance(item.value, jax.Array) for item in same)
    return Content((structure, consts), same) if arrays else _ITSELF


_TRUSTED = ("jax", "jaxlib", "numpy", "equinox", "lineax", "implicitax")
_SINGLE = (
    "Problem",
    "Rule",
    "PjitFunction",
    "Mesh",
    "AbstractMesh",
    "UnspecifiedValue",
    "object",
)  # of which each is what it is
_JAX = f"{os.path.dirname(jax.__file__)}{os.sep}_src{os.sep}"
_ITSELF = object()
_JITTED: Any = weakref.WeakKeyDictionary()  # what the jaxprs of functions under `jax.jit` come to


def _of_jax(eqn: Any) -> str | None:
    """The function to which the rule belongs, if it is one of JAX's own, as `jax.nn.relu`: its rule does not change.
    (What `jax.custom_gradient` makes of a function of the user's has its place in JAX, too, but not there.)"""
    jaxpr = getattr(eqn.params.get("call_jaxpr"), "jaxpr", None)
    function = getattr(getattr(jaxpr, "debug_info", None), "func_src_info", None) or ""
    return function if any(f"{_JAX}{room}{os.sep}" in function for room in ("nn", "numpy", "scipy")) else None


def _room(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _aval(aval: Any) -> Any:
    return aval if isinstance(aval, ShapedArray) else str(aval)


def _bytes(value: Any) -> Any:
    array = np.asarray(value)
    return array.dtype, array.shape, array.tobytes()
