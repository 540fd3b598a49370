"""The pattern of ∂R/∂x, from the jaxpr of the map x ↦ ∂R/∂x v."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .dependence import Maybe, Numbers, OverBudgetError, Space
from .local import Abstract, depends
from .loops import INNER
from .pattern import Pattern
from .walk import Walk, constant

_PER_UNKNOWN, _AT_LEAST = 50, 10**6  # entries of an intermediate, by default


def detect(
    R: Callable[[Any, Any], Any], x: Sequence[Any], theta: Sequence[Any], *, budget: int | None = None
) -> Pattern | None:
    """A superset of the nonzeros of ∂R/∂x, at any x: elements of x and of R are numbered leaf by leaf, row by row.

    None where it is dense, or not found out: R has no tangents, or an intermediate has more than `budget` entries, by
    default 50 an unknown and at least a million.

    The jaxpr is that of tangents, in which what F computes of x itself is a coefficient, and no more: so a step
    function with a derivative of its own has the pattern of that. Leaves of x are real; those of theta are arrays, or
    shapes and dtypes. An array is taken as it is: the pattern holds for its values, as indices and as coefficients that
    are 0.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from implicitax._problem.pattern import detect
    >>> R = lambda x, theta: (jnp.roll(x[0], 1) - theta[0] * x[0],)
    >>> detect(R, (jax.ShapeDtypeStruct((3,), float),), (2.0,)).cols
    array([0, 2, 0, 1, 1, 2], dtype=int32)

    ```
    """
    sizes = [int(np.prod(leaf.shape)) for leaf in x]
    n = sum(sizes)
    x = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in x)

    def tangent(x: Any, v: Any, theta: Any) -> tuple[Any, ...]:
        return tuple(jax.jvp(lambda x: tuple(R(x, theta)), (x,), (v,))[1])

    try:
        closed = jax.make_jaxpr(tangent)(x, x, tuple(theta))
    except Exception:  # whatever a rule of the user raises: then it has no tangents
        return None
    space = Space(n, max(_PER_UNKNOWN * n, _AT_LEAST) if budget is None else budget)
    firsts = np.cumsum([0, *sizes])
    try:
        with np.errstate(all="ignore"):
            units: list[Abstract] = [space.identity(leaf.shape, int(first)) for leaf, first in zip(x, firsts)]
            ins: list[Abstract] = [*(None for _ in x), *units, *map(constant, theta)]
            outs = depends(Walk(space, INNER).closed(closed, ins))
            return _pattern(space, outs, [int(np.prod(aval.shape)) for aval in closed.out_avals])
    except OverBudgetError:
        return None
    except Exception as error:  # a primitive is not as it was when this was written: the pattern is not worth an error
        warnings.warn(
            f"The pattern of ∂R/∂x was not found, because of an error that is implicitax' own ({error!r}). R is solved "
            "without it. Please report this.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _pattern(space: Space, outs: Sequence[Maybe], sizes: Sequence[int]) -> Pattern:
    rows, cols, first = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], 0
    for part, size in zip(outs, sizes, strict=True):
        if part is not None and part.rows is not None:
            part.rows.sort_indices()
            rows.append(np.repeat(np.arange(first, first + size, dtype=np.int32), np.diff(part.rows.indptr)))
            cols.append(part.rows.indices.astype(np.int32, copy=False))
        elif part is not None:
            every = _in_order([plane.reshape(-1) for plane in part.planes])
            there = every >= 0
            there[:, 1:] &= every[:, 1:] != every[:, :-1]
            rows.append(np.repeat(np.arange(first, first + size, dtype=np.int32), np.count_nonzero(there, axis=1)))
            cols.append(every[there])
        first += size
    return Pattern(np.concatenate(rows), np.concatenate(cols), (first, space.n))


def _in_order(columns: list[Numbers]) -> Numbers:
    """A matrix of those columns, sorted by row: by a network, since the rows are short and many."""
    if len(columns) > 16:
        return np.sort(np.stack(columns, axis=1), axis=1)
    columns = list(columns)
    for k in range(len(columns)):
        for i in range(k % 2, len(columns) - 1, 2):
            a, b = columns[i], columns[i + 1]
            columns[i], columns[i + 1] = np.minimum(a, b), np.maximum(a, b)
    return np.stack(columns, axis=1)
