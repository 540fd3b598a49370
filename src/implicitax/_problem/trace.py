"""From the user's function to a `Problem`: F is traced once, and not called again.

What F reads besides its state, its own leaves, `*args`, and arrays or tracers it closes over, becomes one tuple
`theta`; what remains is a jaxpr without constants, `(theta, x) -> F(x)`, which every later stage evaluates: the loop,
the Jacobian, the derivative.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import _tree, _xla
from .._errors import needs_value
from .._errors.problem import (
    Function,
    check_conditions,
    check_constraint,
    check_dependence,
    check_guess,
    check_output,
    check_pair,
)
from .._tree import Layout, Leaves, is_complex, is_dynamic, is_number, is_unknown, path_names, shape_of, to_real
from .constraint import condition, correction
from .equations import Kind, Problem, Theta
from .fingerprint import fingerprint, same


class Call(NamedTuple):
    """What the user has called: a function of the library, with a problem."""

    kind: Kind
    caller: str  # for messages
    F: Any
    x0: Any
    args: tuple[Any, ...]
    has_aux: bool = False
    constraint: Any = None  # a function c(x, *args), 0 at the fixed point that is meant

    @property
    def function(self) -> Function:
        return Function.of(self.caller, self.kind)


class Hoisted(NamedTuple):
    """The problem, all that F depends on, and the guess as real leaves."""

    problem: Problem
    theta: Theta
    x0: Leaves


class _Taken(NamedTuple):
    """A call taken apart."""

    outer: Layout  # of F and args
    traced: Theta
    state: Layout
    x: Leaves
    readers: tuple[Any, ...]  # the Python functions that a trace of F runs


@dataclass(frozen=True, eq=False)
class _Traced:
    """What is kept of a trace."""

    problem: Problem
    consts: tuple[Any, ...]  # the arrays that F closed over
    meaning: list[Any]  # fingerprint of F when it was traced

    @property
    def nbytes(self) -> int:
        return sum(getattr(const, "nbytes", 0) for const in self.consts)


_CACHE: OrderedDict[Any, _Traced] = OrderedDict()  # the most recently used last
_CACHE_SIZE, _CACHE_BYTES = 256, 2**30


def _remember(key: Any, entry: _Traced) -> None:
    """Keeps a trace, and forgets old ones: arrays that their functions close over live as long as they do."""
    _CACHE.pop(key, None)
    _CACHE[key] = entry
    held = sum(kept.nbytes for kept in _CACHE.values())
    while len(_CACHE) > 1 and (len(_CACHE) > _CACHE_SIZE or held > _CACHE_BYTES):
        held -= _CACHE.popitem(last=False)[1].nbytes


def hoist(call: Call) -> Hoisted:
    """The problem, theta, and x0 as real leaves. Traces F only if this F was not seen with these shapes."""
    check_guess(call.function, call.F, call.x0)
    check_constraint(call.function, call.constraint)
    try:
        return _hoist(call, is_dynamic)
    except needs_value:
        # F uses a Python float of its own as a number (`if self.alpha > 3`, `math.sqrt(self.alpha)`).
        return _hoist(call, lambda leaf: is_dynamic(leaf) and not is_number(leaf))


def _hoist(call: Call, dynamic: Callable[[Any], bool]) -> Hoisted:
    outer, traced = Layout.take((call.F, call.args), dynamic)
    state, x = Layout.take(call.x0, is_unknown)
    x = tuple(
        leaf if isinstance(leaf, jax.Array) else jnp.asarray(float(leaf) if isinstance(leaf, int) else leaf)
        for leaf in x
    )
    traced = _xla.varying(traced, (*traced, *x))
    avals = tuple((leaf.shape, leaf.dtype, leaf.weak_type) for leaf in map(jax.typeof, (*x, *traced)))
    layouts = outer.cache_key(), state.cache_key()
    key = (call.kind, call.caller, call.has_aux, call.constraint is None, *layouts, avals, jnp.result_type(float))

    readers = (*_readers(call.F, outer), call.constraint)
    entry = _CACHE.get(key)
    if entry is None or not same(entry.meaning, fingerprint(*readers)):
        entry = _trace(call, _Taken(outer, traced, state, x, readers))
        # Inside a `vmap` or `shard_map` with named axes a trace of F holds only there.
        if not any(isinstance(const, Tracer) for const in entry.consts) and not _xla.named_axes():
            _remember(key, entry)
    elif key in _CACHE:
        _CACHE.move_to_end(key)
    structs = entry.problem.x_struct
    x = tuple(leaf if leaf.dtype == struct.dtype else leaf.astype(struct.dtype) for leaf, struct in zip(x, structs))
    theta = (*traced, *to_real(entry.consts))
    return Hoisted(entry.problem, theta, _xla.varying(x, theta))


def _readers(F: Any, outer: Layout) -> tuple[Any, ...]:
    """The Python functions that a trace of F runs. A module itself is new in each call, its methods are not."""
    methods = (getattr(F, "__func__", None), vars(type(F)).get("__call__"))
    return tuple(item for item in (*methods, *outer.static) if callable(item) and not isinstance(item, eqx.Module))


def _trace(call: Call, taken: _Taken) -> _Traced:
    state, x, traced = taken.state, taken.x, taken.traced
    seen: dict[str, Any] = {}

    def flat(x: Leaves, *traced: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        F, args = taken.outer.put(traced)
        out = F(state.put(x), *args)
        seen["returned"] = jax.tree.map(shape_of, out)
        out, aux = out if call.has_aux and isinstance(out, tuple) and len(out) == 2 else (out, None)
        _, value = Layout.take(out)
        seen["aux"], aux_leaves = Layout.take(aux)
        if call.constraint is None:
            return value, aux_leaves
        found = condition(lambda x: _conditions(call, state.put(x), args), x)
        if [leaf.shape for leaf in value] == [leaf.shape for leaf in x]:  # or an error is to be raised below
            change = _tree.unravel(correction(found), value)
            value = tuple((vi - ci).astype(vi.dtype) for vi, ci in zip(value, change))
        return value, (*aux_leaves, *found)

    # Leaves of x that are Python numbers take the dtype that F gives them, which may be known only once others have.
    closed, (value, _) = jax.make_jaxpr(flat, return_shape=True)(x, *traced)
    while any(jax.typeof(leaf).weak_type for leaf in x):
        x = _settle(x, value)
        closed, (value, _) = jax.make_jaxpr(flat, return_shape=True)(x, *traced)

    if _xla.named_axes():
        x = _xla.varying(x, (*traced, *closed.consts))
        closed = jax.make_jaxpr(flat)(x, *traced)

    x_struct = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in x)
    returned = seen["returned"]
    if call.has_aux:
        check_pair(call.function, returned)
        returned = returned[0]
    check_output(call.function, returned, call.x0, state, x_struct)
    check_dependence(call.function, closed.jaxpr, len(x_struct))
    problem = Problem(
        kind=call.kind,
        caller=call.caller,
        jaxpr=closed.jaxpr,
        num_traced=len(traced),
        complex_closed=tuple(is_complex(const) for const in closed.consts),
        state=state,
        x_struct=x_struct,
        paths=_real_paths(state, call.x0),
        aux=seen["aux"] if call.has_aux else None,
        constrained=call.constraint is not None,
    )
    return _Traced(problem, tuple(closed.consts), fingerprint(*taken.readers))


def _conditions(call: Call, x: Any, args: tuple[Any, ...]) -> Any:
    """The values of the constraint, in one vector."""
    returned = call.constraint(x, *args)
    check_conditions(call.function, returned)
    return _tree.ravel(tuple(map(jnp.asarray, Layout.take(returned)[1])))


def _settle(x: Leaves, value: Any) -> Leaves:
    """x with a strong dtype for the weak leaves that come out of F strong, or, if there are none, for all."""
    weak = [jax.typeof(leaf).weak_type for leaf in x]
    strong = [not out.weak_type and jnp.issubdtype(out.dtype, jnp.floating) for out in value]
    if len(value) == len(x) and any(w and s for w, s in zip(weak, strong)):
        dtypes = [out.dtype if w and s else None for out, w, s in zip(value, weak, strong)]
        return tuple(leaf if dtype is None else jnp.asarray(leaf, dtype) for leaf, dtype in zip(x, dtypes))
    return tuple(jax.lax.convert_element_type(leaf, leaf.dtype) for leaf in x)


def _real_paths(state: Layout, x0: Any) -> tuple[str, ...]:
    parts = state.repeat([(name, leaf) for name, leaf in zip(path_names(x0), jax.tree.leaves(x0))])
    seen: set[str] = set()
    paths = []
    for name, leaf in parts:
        if is_complex(leaf):
            paths.append(f"imag({name})" if name in seen else f"real({name})")
            seen.add(name)
        else:
            paths.append(name)
    return tuple(paths)
