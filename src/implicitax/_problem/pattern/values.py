"""Values that are known without running F: constants, and what is computed from them alone, such as indices.

They are computed where they are needed, which most are not. A coefficient that is exactly 0 in them counts as 0: XLA
may round it otherwise, in the last digit of what it is a difference of.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .indexing import Windows
from .moves import MOVES, split
from .names import BY_XLA, ELEMENTWISE

MOST = 10**7  # elements of a value
_AT_ONCE = 64  # elements up to which a value is computed at once: a chain of counters would be too deep to follow


class UnknownError(Exception):
    """A value that cannot be computed here."""


class Known:
    """A value, computed when it is asked for."""

    def __init__(self, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> None:
        self.shape = shape
        self._compute: Callable[[], np.ndarray] | None = compute
        self._value: np.ndarray | None = None

    @classmethod
    def of(cls, value: Any) -> "Known":
        return cls(tuple(np.shape(value)), lambda: np.asarray(value))

    @property
    def value(self) -> np.ndarray | None:
        """None, where it cannot be computed."""
        if self._compute is not None:
            compute, self._compute = self._compute, None
            with contextlib.suppress(Exception):  # of whatever NumPy, XLA or an array on other devices raises
                self._value = compute() if math.prod(self.shape) <= 10 * MOST else None
        return self._value


def computed(eqn: Any, operands: Sequence[Known]) -> list[Known]:
    """The outputs of an equation whose operands are all known."""
    results: list[list[np.ndarray]] = []

    def compute(i: int) -> np.ndarray:
        if not results:
            values = [operand.value for operand in operands]
            known = [value for value in values if value is not None]
            if len(known) < len(values) or math.prod(eqn.outvars[0].aval.shape) > MOST:
                raise UnknownError
            results.append(_evaluate(eqn, known))
        aval = eqn.outvars[i].aval
        return np.asarray(results[0][i]).astype(aval.dtype, copy=False).reshape(aval.shape)

    known = []
    for i, var in enumerate(eqn.outvars):
        value = Known(var.aval.shape, lambda i=i: compute(i))
        if math.prod(value.shape) <= _AT_ONCE and eqn.primitive.name not in BY_XLA:
            _ = value.value
        known.append(value)
    return known


def _evaluate(eqn: Any, values: list[np.ndarray]) -> list[Any]:
    name, params, aval = eqn.primitive.name, eqn.params, eqn.outvars[0].aval
    if name in MOVES:
        return [MOVES[name].how(params, values, _filling(aval.dtype))]
    if name == "split":
        return [split(k).how(params, values, k) for k in range(len(eqn.outvars))]
    if name in _NUMPY:
        return [_NUMPY[name](*values)]
    if name in _WITH_PARAMS:
        return [_WITH_PARAMS[name](params, *values)]
    if name == "sort":
        return _sort(params, values)
    if name.startswith("scatter"):
        return [_scatter(name, params, *values)]
    if name in BY_XLA or name in ELEMENTWISE:
        with jax.ensure_compile_time_eval():
            out = eqn.primitive.bind(*values, **params)
        return list(map(np.asarray, out if eqn.primitive.multiple_results else [out]))
    raise UnknownError


def _filling(dtype: Any) -> Any:
    """What a gather reads outside."""
    if np.issubdtype(dtype, np.inexact):
        return np.nan
    if np.issubdtype(dtype, np.bool_):
        return True
    return np.iinfo(dtype).min if np.issubdtype(dtype, np.signedinteger) else np.iinfo(dtype).max


def _scatter(name: str, params: Any, operand: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    numbers = Windows.of_scatter(params, operand.shape, updates.shape).numbers(operand.shape, indices)
    there = numbers >= 0
    targets, values, out = numbers[there], updates[there], operand.copy().reshape(-1)
    once = np.bincount(targets).max(initial=0) <= 1
    if name == "scatter-add" and once:
        out[targets] += values
    elif name == "scatter-add":
        np.add.at(out, targets, values)
    elif name == "scatter" and once:  # else it is XLA's to say which one is kept
        out[targets] = values
    else:
        raise UnknownError
    return out.reshape(operand.shape)


def _sort(params: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    if params["num_keys"] != 1 or not (params["is_stable"] or len(values) == 1):
        raise UnknownError
    order = np.argsort(values[0], axis=params["dimension"], kind="stable")
    return [np.take_along_axis(value, order, params["dimension"]) for value in values]


def _div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.inexact):
        return a / b
    if np.any(b == 0):
        raise UnknownError
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))  # towards 0


def _rem(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not np.issubdtype(a.dtype, np.inexact) and np.any(b == 0):
        raise UnknownError
    return np.fmod(a, b)


def _convert(params: Any, a: np.ndarray) -> np.ndarray:
    dtype = np.dtype(params["new_dtype"])
    if (
        np.issubdtype(a.dtype, np.inexact)
        and not np.issubdtype(dtype, np.inexact)
        and not np.issubdtype(dtype, np.bool_)
    ):
        limits = np.iinfo(dtype)
        a = np.nan_to_num(a, nan=0, posinf=limits.max, neginf=limits.min).clip(limits.min, limits.max)
        if np.any(np.abs(a) >= 2**53):
            raise UnknownError
    return a.astype(dtype)


def _iota(params: Any) -> np.ndarray:
    shape, axis = params["shape"], params["dimension"]
    along = [n if i == axis else 1 for i, n in enumerate(shape)]
    return np.broadcast_to(np.arange(shape[axis], dtype=params["dtype"]).reshape(along), shape)


def _reduction(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda params, a: function(a, axis=tuple(params["axes"]))


def _cumulative(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def along(params: Any, a: np.ndarray) -> np.ndarray:
        axis, turn = params["axis"], (lambda a: np.flip(a, params["axis"])) if params["reverse"] else (lambda a: a)
        return turn(function(turn(a), axis=axis))

    return along


_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _div,
    "rem": _rem,
    "neg": np.negative,
    "sign": np.sign,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "add_any": np.add,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "floor": np.floor,
    "ceil": np.ceil,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "square": np.square,
    "is_finite": np.isfinite,
    "clamp": lambda low, a, high: np.minimum(np.maximum(a, low), high),
}
_WITH_PARAMS: dict[str, Callable[..., np.ndarray]] = {
    "convert_element_type": _convert,
    "iota": _iota,
    "integer_pow": lambda params, a: (
        a ** np.asarray(params["y"], a.dtype) if params["y"] >= 0 else 1 / a ** -params["y"]
    ),
    "reduce_sum": _reduction(np.sum),
    "reduce_prod": _reduction(np.prod),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_or": _reduction(np.bitwise_or.reduce),
    "reduce_and": _reduction(np.bitwise_and.reduce),
    "cumsum": _cumulative(np.cumsum),
    "cumprod": _cumulative(np.cumprod),
    "cummax": _cumulative(np.maximum.accumulate),
    "cummin": _cumulative(np.minimum.accumulate),
}
