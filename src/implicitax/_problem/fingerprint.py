"""Whether a Python function still means what it meant when it was traced.

A compiled solve is reused as long as F is "the same". A function object may stay the same while what it reads changes:
a global or an enclosing variable is bound anew, a list grows, an attribute is set. `fingerprint` lists everything
reachable that way, so that such a change leads to a new trace, and never to an answer at stale parameters.
"""

import functools
import types
from typing import Any

import equinox as eqx
import jax
import numpy as np

_DEPTH = 6
_OPAQUE = (
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.NoneType,
    int,
    float,
    complex,
    str,
    bytes,
    jax.Array,
    np.dtype,
)


def fingerprint(*objects: Any) -> list[Any]:
    """Everything these objects read, in a fixed order; compare with `same`."""
    found: list[Any] = []
    seen: set[int] = set()
    for item in objects:
        _visit(item, found, seen, _DEPTH)
    return found


def reachable(*objects: Any) -> list[Any]:
    """The same list as pytrees can be found in: for arrays and tracers that a function closes over."""
    return [item for item in fingerprint(*objects) if not isinstance(item, _Frozen | types.FunctionType | dict)]


def same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(a is b or _equal(a, b) for a, b in zip(old, new))


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, int | float | complex | str | bytes | type(None)):
        return a == b
    if isinstance(a, _Frozen):
        return a.array.dtype == b.array.dtype and np.array_equal(a.array, b.array)
    return False


class _Frozen:
    """A copy of a NumPy array, which its owner may change in place."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy()


def _visit(item: Any, found: list[Any], seen: set[int], depth: int) -> None:
    if isinstance(item, np.ndarray):
        found.append(_Frozen(item))
        return
    if not isinstance(item, types.MethodType):  # a new object at each access
        found.append(item)
    if id(item) in seen or depth == 0 or isinstance(item, _OPAQUE):
        return
    seen.add(id(item))
    for child in _children(item):
        _visit(child, found, seen, depth - 1)


def _children(item: Any) -> list[Any]:
    if isinstance(item, types.FunctionType):
        if item.__module__.partition(".")[0] in ("jax", "numpy", "equinox", "implicitax"):
            return []
        cells = [_contents(cell) for cell in item.__closure__ or ()]
        read = [item.__globals__[name] for name in _names(item.__code__) if name in item.__globals__]
        return [*cells, *read, *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
    if isinstance(item, types.MethodType):
        return [item.__func__, item.__self__]
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    wrapped = getattr(item, "__wrapped__", None)  # a function under `jax.jit` and the like
    # What a module holds is in its leaves and its structure, which are compared anyway.
    attributes = [] if isinstance(item, eqx.Module) else list(getattr(item, "__dict__", {}).values())
    call = vars(type(item)).get("__call__")
    return [*attributes, *(child for child in (wrapped, call) if isinstance(child, types.FunctionType))]


def _names(code: types.CodeType) -> list[str]:
    """Global names that the code, or a function defined in it, may read."""
    inner = [name for const in code.co_consts if isinstance(const, types.CodeType) for name in _names(const)]
    return [*code.co_names, *inner]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an enclosing variable that is not bound yet
        return None
