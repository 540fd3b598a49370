"""From the user's function to a `Problem`: F is traced in each call, and what was traced finds what it was compiled to.

What F reads besides its state, its own leaves, `*args`, arrays or tracers it closes over, and numbers, becomes one
tuple `theta`; what remains is a jaxpr without constants, `(theta, x) -> F(x)`, which every later stage evaluates: the
loop, the Jacobian, the derivative. It is the same as one before if their contents are (`content.py`): so F is what it
is now, whatever it reads and wherever it reads it, and a function that is made anew in each call is not compiled anew.
"""

import contextlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _tree, _xla
from .._errors.call import cannot_call, check_constraint, check_guess
from .._errors.problem import check_conditions, check_dependence, check_output, check_pair, check_residuals
from .._errors.python import of_python, wants_numbers
from .._tree import Layout, Leaves, is_complex, is_dynamic, is_number, is_unknown, path_names, shape_of, to_real
from .call import Call, Hoisted
from .constraint import condition, correction
from .content import HoldsTracer, Incomparable, content
from .equations import Problem, Theta
from .numbers import lift
from .overdetermined import linearised, projected


class _Taken(NamedTuple):
    """A call taken apart."""

    outer: Layout  # of F and args
    traced: Theta
    state: Layout
    x: Leaves


class _Traced(NamedTuple):
    """What a trace of F has found."""

    closed: Any  # the jaxpr and its constants
    x: Leaves  # the guess, in the dtypes of F
    returned: Any  # what F returns, by shapes and dtypes
    outputs: int  # leaves of its value
    excess: int | None  # numbers that R returns, where these are more than the unknowns
    aux: Layout


class _Kept(NamedTuple):
    """A problem that may come again."""

    problem: Problem
    settled: set[Any]  # the guesses, by what is known of their dtypes, of which it is right


_CACHE: OrderedDict[Any, OrderedDict[Any, _Kept]] = OrderedDict()  # the most recently used last
_CACHE_SIZE = 256
_VARIANTS = 8  # of a problem, by objects that can be compared by identity only
_DTYPES: OrderedDict[Any, Any] = OrderedDict()  # of a guess of Python numbers, last time: to be tried first
_WARNED: set[str] = set()


def hoist(call: Call) -> Hoisted:
    """The problem, theta, and x0 as real leaves. Traces F."""
    check_guess(call.function, call.F, call.x0)
    check_constraint(call.function, call.constraint)
    try:
        return _as_numbers_may_be(call)
    except Exception as error:
        said = of_python(call.function, error)
        if said is not None:
            raise said from None
        other = cannot_call(call.function, call.F, error, call.x0, call.args) if isinstance(error, TypeError) else error
        if other is error:
            raise
        raise other from error


def _as_numbers_may_be(call: Call) -> Hoisted:
    try:
        return _hoist(call, is_dynamic)
    except Exception as error:
        if not wants_numbers(error):
            raise
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
    found, problem = _find(call, _Taken(outer, traced, state, x))
    theta = (*traced, *to_real(found.closed.consts))
    return Hoisted(problem, theta, _xla.varying(found.x, theta), state, found.aux if call.has_aux else None)


def _find(call: Call, taken: _Taken) -> tuple[_Traced, Problem]:
    """A trace of F, and the problem that it is: one that is known, or a new one."""
    given = tuple(map(_weakly, taken.x)), tuple(map(_weakly, taken.traced))
    weak = given if any(jax.typeof(leaf).weak_type for leaf in taken.x) else None
    dtypes = _DTYPES.get(weak)
    if dtypes is not None:  # or it would have to be traced with weak types first
        found = _trace(call, taken._replace(x=tuple(map(jnp.asarray, taken.x, dtypes))))
        kept = _known(_key(call, taken, found))
        if kept is not None and weak in kept.settled:
            _check(call, taken, found, known=True)
            return found, kept.problem
    found = _settle(call, taken)
    key = _key(call, taken, found)
    kept = _known(key)
    _check(call, taken, found, known=kept is not None)
    if kept is None:
        kept = _Kept(_problem(call, taken, found), set())
        _remember(call, key, kept)
    if weak is not None:
        kept.settled.add(weak)
        _DTYPES[weak] = tuple(leaf.dtype for leaf in found.x)
        _forget(_DTYPES, _CACHE_SIZE)
    return found, kept.problem


def _known(key: Any) -> _Kept | None:
    if key is None:
        return None
    variants = _CACHE.get(key[0])
    if variants is None:
        return None
    with contextlib.suppress(KeyError):  # another thread has just forgotten it
        _CACHE.move_to_end(key[0])
    return variants.get(key[1])


def _remember(call: Call, key: Any, kept: _Kept) -> None:
    if key is None:
        return
    variants = _CACHE.setdefault(key[0], OrderedDict())
    variants[key[1]] = kept
    if len(variants) > _VARIANTS:
        what = ", ".join(sorted({type(item.value).__name__ for item in key[1]}))
        _warn(call, f"holds objects ({what}) that are made anew in each call, and are equal to nothing else")
    _forget(variants, _VARIANTS)
    _forget(_CACHE, _CACHE_SIZE)


def _forget(memory: OrderedDict[Any, Any], size: int) -> None:
    while len(memory) > size:
        memory.popitem(last=False)


def _warn(call: Call, why: str) -> None:
    """Once, that each call compiles; not inside `jit`, where it does not."""
    if not call.again or why in _WARNED or _xla.staged():
        return
    _WARNED.add(why)
    function = call.function
    warnings.warn(
        f"`{call.caller}`: what was traced of {function.letter} {why}. So it is compiled anew in each call outside "
        f"`jit`. Wrap {function.letter}, or what in it is meant, in `jax.jit`, once and not in each call.",
        stacklevel=2,
    )


def _weakly(leaf: Any) -> Any:
    aval = jax.typeof(leaf)
    return aval.shape, aval.dtype, aval.weak_type


def _settle(call: Call, taken: _Taken) -> _Traced:
    """The trace in which the leaves of x that are Python numbers have the dtypes that F gives them.

    Which may be known only once others have theirs: a strong dtype for the weak leaves that come out of F strong, or,
    if there are none, for all.
    """
    found = _trace(call, taken)
    while any(weak := [jax.typeof(leaf).weak_type for leaf in found.x]):
        value = found.closed.out_avals
        strong = [not out.weak_type and jnp.issubdtype(out.dtype, jnp.floating) for out in value[: len(weak)]]
        settles = [w and s for w, s in zip(weak, strong)] if found.outputs == len(weak) else []
        if any(settles):
            x = (jnp.asarray(leaf, out.dtype) if ok else leaf for leaf, out, ok in zip(found.x, value, settles))
        else:
            x = (jax.lax.convert_element_type(leaf, leaf.dtype) for leaf in found.x)
        found = _trace(call, taken._replace(x=tuple(x)))
    if _xla.named_axes():
        found = _trace(call, taken._replace(x=_xla.varying(found.x, (*taken.traced, *found.closed.consts))))
    return found


def _trace(call: Call, taken: _Taken) -> _Traced:
    """F, traced at x; through a function that is new each time, since JAX remembers what it has traced."""
    seen: dict[str, Any] = {}

    def flat(x: Leaves, *traced: Any) -> tuple[Any, ...]:
        F, args = taken.outer.put(traced)
        out = F(taken.state.put(x), *args)
        seen["returned"] = jax.tree.map(shape_of, out)
        out, aux = out if call.has_aux and isinstance(out, tuple) and len(out) == 2 else (out, None)
        _, value = Layout.take(out)
        seen["aux"], aux_leaves = Layout.take(aux)
        seen["excess"], seen["outputs"] = None, len(value)
        if call.kind == "root" and _numbers(out) > _numbers(call.x0):
            seen["excess"], seen["outputs"] = sum(map(jnp.size, value)), len(x)
            R = lambda x: (F(taken.state.put(x), *args),)
            found = linearised(lambda x: _vector(R(x)[0][0] if call.has_aux else R(x)), x)
            return *_tree.unravel(projected(found), x), *aux_leaves, *found
        if call.constraint is None:
            return *value, *aux_leaves
        found = condition(lambda x: _conditions(call, taken.state.put(x), args), x)
        if [leaf.shape for leaf in value] == [leaf.shape for leaf in x]:  # or an error is to be raised below
            change = _tree.unravel(correction(found), value)
            value = tuple((vi - ci).astype(vi.dtype) for vi, ci in zip(value, change))
        return *value, *aux_leaves, *found

    closed = jax.make_jaxpr(flat)(taken.x, *taken.traced)
    return _Traced(lift(closed) if call.again and not _xla.staged() else closed, taken.x, **seen)


def _check(call: Call, taken: _Taken, found: _Traced, known: bool) -> None:
    """Whether F gives back what it was given. Of a problem that is known only its structure may be another one."""
    returned = found.returned
    if call.has_aux:
        check_pair(call.function, returned)
        returned = returned[0]
    structs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in found.x)
    if found.excess is not None:
        check_residuals(call.function, returned, found.x)
    elif not known or found.outputs != len(structs) or jax.tree.structure(returned) != taken.state.treedef:
        check_output(call.function, returned, call.x0, taken.state, structs)
    if not known:
        check_dependence(call.function, found.closed.jaxpr, len(found.x))


def _key(call: Call, taken: _Taken, found: _Traced) -> Any:
    """By which the problem is found again, and which variant of it; None if it must not be kept."""
    # Inside a `vmap` or `shard_map` with named axes a trace of F holds only there.
    if _xla.named_axes():
        return None
    try:
        structure, same = content(found.closed)
    except HoldsTracer:
        return None
    except Incomparable as reason:
        return _warn(call, f"has {reason} of which nobody can say whether it is the same the next time")
    complex_ = tuple(map(is_complex, found.closed.consts))
    kind = call.kind, call.caller, call.constraint is None, found.excess, call.has_aux, jnp.result_type(float)
    key = (*kind, taken.state.bare, complex_, len(taken.traced), structure), same
    try:
        hash(key)
    except TypeError:
        return _warn(call, "has parameters that cannot be compared")
    return key


def _problem(call: Call, taken: _Taken, found: _Traced) -> Problem:
    return Problem(
        kind=call.kind,
        caller=call.caller,
        jaxpr=found.closed.jaxpr,
        num_traced=len(taken.traced),
        complex_closed=tuple(map(is_complex, found.closed.consts)),
        state=taken.state.bare,
        x_struct=tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in found.x),
        paths=taken.state.paths(path_names(call.x0)),
        has_aux=call.has_aux,
        constrained=call.constraint is not None or found.excess is not None,
        excess=found.excess,
    )


def _numbers(tree: Any) -> int:
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree) if is_unknown(leaf))


def _vector(returned: Any) -> Any:
    return _tree.ravel(tuple(map(jnp.asarray, Layout.take(returned)[1])))


def _conditions(call: Call, x: Any, args: tuple[Any, ...]) -> Any:
    """The values of the constraint, in one vector."""
    returned = call.constraint(x, *args)
    check_conditions(call.function, returned)
    return _vector(returned)
