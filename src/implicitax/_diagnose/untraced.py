"""What F depends on, and has no derivative by, since it is used as a number of Python or an array of NumPy."""

import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._problem import Call, hoist
from .._tree import Leaves, path_names
from .problem import Case
from .record import Finding

_MOST = 20  # of each, that are tried
_LARGEST = 1e6  # entries of an array
_MOVE = 1e-3  # of its size


def findings(call: Call, case: Case, x: Leaves) -> Iterator[Finding]:
    """Each is moved a little, and F traced again: only one that changes F is named."""
    start = _values(case, call, x)
    for name, moved in _numbers(call, case):
        if _differs(start, _values(case, moved, x)):
            yield Finding(
                "warning",
                "untraced",
                f"{name} is a Python number that F uses as one: in `if`, `float()`, `math`, NumPy. F depends on it, "
                "but the solution has no derivative with respect to it, and whoever asks for one gets an error, or 0. "
                "Give it as an array, and compute with `jax.numpy`.",
            )
    for name, moved in _closed_over(call, case):
        if _differs(start, _values(case, moved, x)):
            yield Finding(
                "warning",
                "untraced",
                f"F depends on {name}, an array that it closes over, as a number or an array of NumPy: "
                f"`float({name})`, `{name}.item()`, `np.asarray({name})`. The solution has no derivative with respect "
                f"to it. Compute with `jax.numpy`, and leave {name} as it is.",
            )


def _values(case: Case, call: Call, x: Leaves) -> np.ndarray | None:
    """F at x; None where it cannot be traced, or is of another shape."""
    try:
        problem, theta, *_ = hoist(call)
        return np.asarray(_tree.ravel(jax.jit(problem.residual)(x, tuple(map(jnp.asarray, theta)))))
    except Exception:  # what F raises when another number is in its place
        return None


def _differs(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and not np.array_equal(a, b, equal_nan=True)


def _numbers(call: Call, case: Case) -> Iterator[tuple[str, Call]]:
    """The Python numbers among the leaves of F and args that F needs as such."""
    leaves, treedef = jax.tree.flatten((call.F, call.args))
    names = path_names(call.F, "F") + path_names(call.args, "args")
    for i in case.kept:
        moved = [leaf * (1 + _MOVE) + (leaf == 0) * _MOVE if i == j else leaf for j, leaf in enumerate(leaves)]
        F, args = jax.tree.unflatten(treedef, moved)
        yield names[i], call._replace(F=F, args=args)


def _closed_over(call: Call, case: Case) -> Iterator[tuple[str, Call]]:
    """The arrays of JAX that a plain function finds in its closure or among the globals, but not in θ."""
    F = call.F
    if not isinstance(F, types.FunctionType):
        return
    cells = dict(zip(F.__code__.co_freevars, F.__closure__ or ()))
    closed = {name: _content(cell) for name, cell in cells.items()}
    named = closed | {name: F.__globals__.get(name) for name in F.__code__.co_names if name not in closed}
    arrays = {name: value for name, value in named.items() if isinstance(value, jax.Array) and _is_parameter(value)}
    candidates = [(name, value) for name, value in arrays.items() if not _is_traced(case, value)]
    for name, value in candidates[:_MOST]:
        moved = value * (1 + _MOVE) + (value == 0) * jnp.asarray(_MOVE, value.dtype)
        kept = tuple(types.CellType(moved) if own == name else cell for own, cell in cells.items())
        around = F.__globals__ if name in closed else F.__globals__ | {name: moved}
        other = types.FunctionType(F.__code__, around, F.__name__, F.__defaults__, kept or None)
        other.__kwdefaults__ = F.__kwdefaults__
        yield name, call._replace(F=other)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _is_parameter(value: jax.Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating) and 0 < value.size <= _LARGEST


def _is_traced(case: Case, value: jax.Array) -> bool:
    leaves = case.theta[case.problem.num_traced :]
    return any(leaf.shape == value.shape and np.array_equal(leaf, value, equal_nan=True) for leaf in leaves)
