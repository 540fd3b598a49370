"""A jaxpr, equation by equation, on dependences in place of values."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.extend.core as jex_core
import numpy as np
from jax.core import Tracer

from . import products, reductions
from .dependence import Dependence, Space
from .local import Abstract, elementwise, hand_on, move, multiply, scatter, split_up
from .moves import MOVES
from .names import CUMULATIVE, ELEMENTWISE, HANDS_ON, LANES, MATRIX, REDUCTIONS, SCATTERS, WINDOWS
from .values import Known, computed

Handler: TypeAlias = Callable[[Space, Any, Sequence[Abstract]], list[Abstract]]
Inner: TypeAlias = Callable[["Walk", Any, Sequence[Abstract]], list[Abstract]]  # of a primitive that holds functions

_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(REDUCTIONS, reductions.reduce),
    **dict.fromkeys(LANES, reductions.over_lanes),
    **dict.fromkeys(CUMULATIVE, reductions.cumulate),
    **dict.fromkeys(WINDOWS, reductions.windows),
    **dict.fromkeys(MATRIX, reductions.matrices),
    **dict.fromkeys(HANDS_ON, hand_on),
    **dict.fromkeys(SCATTERS, scatter),
    **dict.fromkeys(("triangular_solve", "tridiagonal_solve"), reductions.solve),
    "mul": multiply,
    "split": split_up,
    "sort": reductions.sort,
    "top_k": reductions.top,
    "fft": reductions.fft,
    "dot_general": products.dot,
    "bcoo_dot_general": products.sparse_dot,
    "conv_general_dilated": products.convolve,
}


class _Needed(NamedTuple):
    """The equations of a jaxpr on which its outputs depend, and which variables each is the last one to read."""

    eqns: list[Any]
    last: list[list[Any]]

    @classmethod
    def of(cls, jaxpr: Any) -> "_Needed":
        live = {var for var in jaxpr.outvars if isinstance(var, jex_core.Var)}
        eqns, last = [], []
        for eqn in reversed(jaxpr.eqns):
            if live.isdisjoint(eqn.outvars):
                continue
            read = {var for var in eqn.invars if isinstance(var, jex_core.Var)}
            eqns.append(eqn)
            last.append([*(read - live), *(var for var in eqn.outvars if var not in live)])
            live |= read
        return cls(eqns[::-1], last[::-1])


class Walk:
    """What is known along the way; `inner` says what to do with primitives that hold functions."""

    def __init__(self, space: Space, inner: dict[str, Inner]) -> None:
        self.space, self.inner = space, inner
        self._needed: dict[Any, _Needed] = {}
        self._operations: dict[Any, int] = {}
        self._defined: dict[int, tuple[Any, Any]] = {}  # with the equation, so that its id stays its own

    def closed(self, closed: Any, ins: Sequence[Abstract]) -> list[Abstract]:
        """The same of a jaxpr with its constants, or of one that needs none."""
        if isinstance(closed, jex_core.ClosedJaxpr):
            return self.run(closed.jaxpr, list(map(constant, closed.consts)), ins)
        return self.run(closed, [], ins)

    def run(self, jaxpr: Any, consts: Sequence[Abstract], ins: Sequence[Abstract]) -> list[Abstract]:
        if jaxpr not in self._needed:
            self._needed[jaxpr] = _Needed.of(jaxpr)
        values: dict[Any, Abstract] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *ins], strict=True))
        read = lambda var: values[var] if isinstance(var, jex_core.Var) else Known.of(var.val)
        needed = self._needed[jaxpr]
        for eqn, last in zip(needed.eqns, needed.last):
            outs = self._equation(eqn, list(map(read, eqn.invars)))
            values.update(zip(eqn.outvars, map(_linear, outs, eqn.outvars), strict=True))
            for var in last:
                values.pop(var, None)
        return list(map(read, jaxpr.outvars))

    def _equation(self, eqn: Any, ins: list[Abstract]) -> list[Abstract]:
        name = eqn.primitive.name
        if name in self.inner:
            if not all(value is None for value in ins) or not ins:
                return self.inner[name](self, eqn, ins)
            return [None] * len(eqn.outvars)
        if all(isinstance(value, Known) for value in ins):
            return list(computed(eqn, [value for value in ins if isinstance(value, Known)]))
        free = not any(isinstance(value, Dependence) for value in ins)
        if free or all(0 in getattr(var.aval, "shape", ()) for var in eqn.outvars):
            return [None] * len(eqn.outvars)
        handler = _HANDLERS.get(name)
        if handler is not None:
            return handler(self.space, eqn, ins)
        return self._composite(eqn, ins)

    def _composite(self, eqn: Any, ins: list[Abstract]) -> list[Abstract]:
        """A primitive that is defined by others; one that is not is dense, and so is one that has effects."""
        if id(eqn) not in self._defined:
            self._defined[id(eqn)] = eqn, self._definition(eqn)
        _, defined = self._defined[id(eqn)]
        return reductions.dense(self.space, eqn, ins) if defined is None else self.closed(defined, ins)

    def _definition(self, eqn: Any) -> Any:
        """What the primitive does, traced; None if that is not of other primitives."""
        implementation = getattr(eqn.primitive, "impl", None)
        if eqn.effects or "callback" in eqn.primitive.name or not hasattr(implementation, "__code__"):
            return None
        try:
            traced = self.trace(lambda *values: eqn.primitive.impl(*values, **eqn.params), eqn.invars)
        except Exception:  # whatever it is, it is not made for this
            return None
        itself = any(inner.primitive is eqn.primitive for inner in traced.jaxpr.eqns)
        return None if itself or len(traced.jaxpr.outvars) != len(eqn.outvars) else traced

    def trace(self, function: Callable[..., Any], variables: Sequence[Any]) -> Any:
        """The jaxpr of a function of values like those of the variables."""
        structs = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in variables]
        return jax.make_jaxpr(function)(*structs)

    def operations(self, closed: Any) -> int:
        """How many equations a function has, and those inside."""
        jaxpr = closed.jaxpr if isinstance(closed, jex_core.ClosedJaxpr) else closed
        if jaxpr not in self._operations:
            inner = sum(
                self.operations(sub) * eqn.params.get("length", 1)
                for eqn in jaxpr.eqns
                for sub in jex_core.jaxprs_in_params(eqn.params)
            )
            self._operations[jaxpr] = inner + len(jaxpr.eqns)
        return self._operations[jaxpr]


def _linear(value: Abstract, var: Any) -> Abstract:
    """What is linear in the unknowns does not depend on them through integers or truth values: those stay as they are
    where the unknowns move a little. They are what a solver inside F asks of its right-hand side."""
    if isinstance(value, Dependence) and not jax.dtypes.issubdtype(var.aval.dtype, np.inexact):
        return None
    return value


def constant(value: Any) -> Abstract:
    """A constant is known, unless it is part of a trace around."""
    known = isinstance(value, (np.ndarray, np.generic, jax.Array, int, float, complex)) and not isinstance(
        value, Tracer
    )
    return Known.of(value) if known and not _is_key(value) else None


def _is_key(value: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.extended)
