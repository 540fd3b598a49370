"""The residual as a pure function of the state and of every array that F depends on.

`hoist` traces F once. What F reads besides its state, its own leaves, `*args`, and arrays or tracers it closes over,
becomes one tuple `theta`; what remains is a jaxpr without constants, `(theta, x) -> F(x)`, which every later stage
evaluates: the loop, the Jacobian, the derivative. F itself is not called again.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import equinox as eqx
import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.core import Tracer, eval_jaxpr

from . import _tree
from ._checks import check_guess, check_output, needs_float
from ._fingerprint import fingerprint, same
from ._layout import Layout, from_real, is_complex, is_dynamic, is_number, is_unknown, path_names, shape_of, to_real
from ._tree import Leaves

_SIMPLE = 150  # operations in F up to which compiling it three times is cheaper than what that saves

Kind = Literal["fixed_point", "root"]
Theta: TypeAlias = tuple[Any, ...]  # arrays, but outside of `jit` also NumPy's and Python's numbers, as they were given


@runtime_checkable
class Equations(Protocol):
    """What the loop needs to know of a problem."""

    @property
    def kind(self) -> Kind: ...

    @property
    def size(self) -> int: ...

    @property
    def is_simple(self) -> bool: ...

    def residual(self, x: Leaves, theta: Any) -> Leaves: ...


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A fixed point `x = F(x, theta)` or a root `R(x, theta) = 0`, over real leaves."""

    kind: Kind
    caller: str  # the public function, for messages
    jaxpr: Any  # (x, theta) -> (F(x) or R(x), aux); theta beyond `num_traced` enters as its constants
    num_traced: int
    complex_closed: tuple[bool, ...]
    state: Layout
    x_struct: tuple[jax.ShapeDtypeStruct, ...]
    paths: tuple[str, ...]  # one a real leaf of the state
    aux: Layout | None
    is_simple: bool  # F has so few operations that it may be compiled several times
    # What `_solve.py` has decided about this problem, and compiled for it.
    plans: dict[Any, Any] = field(default_factory=dict)
    compiled: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        # JAX prints what it holds, to name functions in its messages: `jacrev` does so in every call.
        return f"<{self.kind} of {self.size} unknowns>"

    @property
    def size(self) -> int:
        return _tree.size(self.x_struct)

    def evaluate(self, x: Leaves, theta: Theta) -> tuple[Leaves, tuple[Any, ...]]:
        """One evaluation of F: the residual `F(x) − x`, or `R(x)`, and the auxiliary output."""
        traced, closed = theta[: self.num_traced], from_real(theta[self.num_traced :], self.complex_closed)
        out = tuple(eval_jaxpr(self.jaxpr, closed, *x, *traced))
        value, aux = out[: len(x)], out[len(x) :]
        if self.kind == "fixed_point":
            return _tree.sub(value, x), aux
        return tuple(vi.astype(xi.dtype) for vi, xi in zip(value, x)), aux

    def residual(self, x: Leaves, theta: Theta) -> Leaves:
        return self.evaluate(x, theta)[0]


def _operations(jaxpr: Any) -> int:
    return sum(1 + sum(map(_operations, jex_core.jaxprs_in_params(eqn.params))) for eqn in jaxpr.eqns)


@dataclass(frozen=True, eq=False)
class _Traced:
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


def hoist(
    kind: Kind, caller: str, F: Any, x0: Any, args: tuple[Any, ...], has_aux: bool
) -> tuple[Problem, Theta, Leaves]:
    """The problem, theta, and x0 as real leaves. Traces F only if this F was not seen with these shapes."""
    check_guess(caller, F, x0)
    try:
        return _hoist(kind, caller, F, x0, args, has_aux, is_dynamic)
    except needs_float:
        # F uses a Python float of its own as a number (`if self.alpha > 3`, `math.sqrt(self.alpha)`).
        return _hoist(kind, caller, F, x0, args, has_aux, lambda leaf: is_dynamic(leaf) and not is_number(leaf))


def _hoist(
    kind: Kind, caller: str, F: Any, x0: Any, args: tuple[Any, ...], has_aux: bool, dynamic: Any
) -> tuple[Problem, Theta, Leaves]:
    outer, traced = Layout.take((F, args), dynamic)
    state, x = Layout.take(x0, is_unknown)
    x = tuple(
        leaf if isinstance(leaf, jax.Array) else jnp.asarray(float(leaf) if isinstance(leaf, int) else leaf)
        for leaf in x
    )
    traced = _tree.varying(traced, (*traced, *x))
    avals = tuple((leaf.shape, leaf.dtype, leaf.weak_type) for leaf in map(jax.typeof, (*x, *traced)))
    key = (kind, caller, has_aux, outer.cache_key(), state.cache_key(), avals, jnp.result_type(float))

    readers = _readers(F, outer)
    entry = _CACHE.get(key)
    if entry is None or not same(entry.meaning, fingerprint(*readers)):
        entry = _trace(kind, caller, outer, traced, state, x, x0, has_aux, readers)
        # Inside a `vmap` or `shard_map` with named axes a trace of F holds only there.
        if not any(isinstance(const, Tracer) for const in entry.consts) and not _tree.named_axes():
            _remember(key, entry)
    elif key in _CACHE:
        _CACHE.move_to_end(key)
    structs = entry.problem.x_struct
    x = tuple(leaf if leaf.dtype == struct.dtype else leaf.astype(struct.dtype) for leaf, struct in zip(x, structs))
    theta = (*traced, *to_real(entry.consts))
    return entry.problem, theta, _tree.varying(x, theta)


def _readers(F: Any, outer: Layout) -> tuple[Any, ...]:
    """The Python functions that a trace of F runs. A module itself is new in each call, its methods are not."""
    methods = (getattr(F, "__func__", None), vars(type(F)).get("__call__"))
    return tuple(item for item in (*methods, *outer.static) if callable(item) and not isinstance(item, eqx.Module))


def _trace(
    kind: Kind,
    caller: str,
    outer: Layout,
    traced: Theta,
    state: Layout,
    x: Leaves,
    x0: Any,
    has_aux: bool,
    readers: tuple[Any, ...],
) -> _Traced:
    seen: dict[str, Any] = {}

    def flat(x: Leaves, *traced: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        F, args = outer.put(traced)
        out = F(state.put(x), *args)
        seen["returned"] = jax.tree.map(shape_of, out)
        out, aux = out if has_aux and isinstance(out, tuple) and len(out) == 2 else (out, None)
        _, value = Layout.take(out)
        seen["aux"], aux_leaves = Layout.take(aux)
        return value, aux_leaves

    # Leaves of x that are Python numbers take the dtype that F gives them, which may be known only once others have.
    closed, (value, _) = jax.make_jaxpr(flat, return_shape=True)(x, *traced)
    while any(jax.typeof(leaf).weak_type for leaf in x):
        x = _settle(x, value)
        closed, (value, _) = jax.make_jaxpr(flat, return_shape=True)(x, *traced)

    if _tree.named_axes():
        x = _tree.varying(x, (*traced, *closed.consts))
        closed = jax.make_jaxpr(flat)(x, *traced)

    x_struct = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in x)
    check_output(kind, caller, closed.jaxpr, seen["returned"], x0, state, x_struct, has_aux)
    problem = Problem(
        kind=kind,
        caller=caller,
        jaxpr=closed.jaxpr,
        num_traced=len(traced),
        complex_closed=tuple(is_complex(const) for const in closed.consts),
        state=state,
        x_struct=x_struct,
        paths=_real_paths(state, x0),
        aux=seen["aux"] if has_aux else None,
        is_simple=_operations(closed.jaxpr) <= _SIMPLE,
    )
    return _Traced(problem, tuple(closed.consts), fingerprint(*readers))


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
