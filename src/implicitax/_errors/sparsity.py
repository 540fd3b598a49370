"""What can be wrong with a pattern that the user gives: `sparsity`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .keywords import named
from .raising import mistake

_EXPECTED = 'a pattern as a 2-D array or a matrix of scipy.sparse, a band (lower, upper), or "dense"'
_FOUND = "or leave `sparsity` out: above 200 unknowns the pattern is found from the function"


def check_word(caller: str, word: str) -> None:
    if word != "dense":
        raise ValueError(
            mistake(
                f"{caller}(sparsity=...)",
                _EXPECTED,
                repr(word),
                "A pattern is given by its entries, not by a name.",
                f"Write for instance (1, 1) for a tridiagonal matrix, {_FOUND}.",
            )
        )


def check_band(caller: str, band: Any) -> None:
    """Whether a tuple or list is two numbers: how far the entries reach below the diagonal, and above."""
    if any(isinstance(part, tuple | list) or getattr(part, "ndim", 0) for part in band):
        raise TypeError(
            mistake(
                f"{caller}(sparsity=...)",
                _EXPECTED,
                f"a {type(band).__name__} of {len(band)} arrays",
                "Perhaps these are the rows and the columns of the entries, or the rows of a matrix.",
                "Write `scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))`, or "
                "`np.array(...)` around the rows of a matrix.",
            )
        )
    if len(band) != 2 or not all(_is_count(part) for part in band):
        raise ValueError(
            mistake(
                f"{caller}(sparsity=...)",
                "a band (lower, upper), two integers of at least 0",
                repr(band),
                "They say how many diagonals below and above the main one may differ from 0, as in "
                "`scipy.linalg.solve_banded`.",
                f"Write for instance (1, 1) for a tridiagonal matrix, {_FOUND}.",
            )
        )


def check_matrix(caller: str, matrix: Any, is_sparse: bool) -> None:
    """Whether it is a matrix of numbers that are known."""
    argument = f"{caller}(sparsity=...)"
    if isinstance(matrix, Tracer):
        raise TypeError(
            mistake(
                argument,
                "a pattern that is known when the solve is compiled",
                f"a traced array of shape {matrix.shape}",
                "Inside `jit`, `vmap` or `grad` what jax.numpy makes has no values yet, nor has an argument.",
                "Make it with NumPy or scipy.sparse, or outside.",
            )
        )
    if not is_sparse and not isinstance(matrix, np.ndarray | jax.Array):
        what = "a function" if callable(matrix) and not isinstance(matrix, type) else named(matrix)
        raise TypeError(
            mistake(
                argument,
                _EXPECTED,
                what,
                "It is which entries of ∂R/∂x, of a fixed point of ∂F/∂x, may differ from 0, not the matrix itself.",
                f"Give it as SciPy's `jac_sparsity`, {_FOUND}.",
            )
        )
    if matrix.ndim != 2:
        raise ValueError(
            mistake(
                argument,
                "a matrix, with two axes",
                f"one of shape {matrix.shape}",
                "It has one row for each equation and one column for each unknown.",
                "Write for instance `np.abs(np.subtract.outer(i, i)) <= 1` with `i = np.arange(n)`.",
            )
        )
    if not jnp.issubdtype(matrix.dtype, np.number) and matrix.dtype != bool:
        raise TypeError(
            mistake(
                argument,
                "truth values or numbers",
                f"the dtype {matrix.dtype}",
                "What is not 0, or True, may differ from 0.",
                "Convert with `.astype(bool)`.",
            )
        )


def check_known(caller: str, values: np.ndarray) -> None:
    """Whether each entry is 0 or not."""
    if jnp.issubdtype(values.dtype, np.inexact) and np.isnan(values).any():
        raise ValueError(
            mistake(
                f"{caller}(sparsity=...)",
                "entries that are 0 or not",
                f"NaN in {np.count_nonzero(np.isnan(values))} of them",
                "Perhaps the pattern was read off a Jacobian at a point where the function is not finite.",
                "Read it off at another point, or say by True and False what may differ from 0.",
            )
        )


def check_size(caller: str, shape: tuple[int, int], sizes: dict[str, int]) -> None:
    """Whether a pattern has a row and a column for each unknown; `sizes`: those of the leaves of x0."""
    n = sum(sizes.values())
    if shape != (n, n):
        leaves = ", ".join(f"{size} in {path}" for path, size in list(sizes.items())[:8])
        raise ValueError(
            mistake(
                f"{caller}(sparsity=...)",
                f"a pattern of shape {(n, n)}, of as many real unknowns as x0 has "
                f"({leaves}{', ...' if len(sizes) > 8 else ''})",
                f"one of shape {shape}",
                "It has a row and a column for each real unknown of all leaves, in their order in the pytree (a dict's "
                "by its sorted keys), each leaf row by row; of a complex one all real parts, then all imaginary parts.",
                f"Make it of that size, {_FOUND}.",
            )
        )


def check_alone(caller: str, batch_axis: Any, constrained: bool) -> None:
    """Whether there is nothing beside a pattern that it does not go together with."""
    if batch_axis is not None:
        raise ValueError(
            mistake(
                f"{caller}(sparsity=..., batch_axis=...)",
                "one of the two",
                "both",
                "With `batch_axis` every row takes steps of its own; a pattern is one of the batch as a whole.",
                'Leave `batch_axis` out, or the pattern; sparsity="dense" is allowed.',
            )
        )
    if constrained:
        raise ValueError(
            mistake(
                f"{caller}(sparsity=..., constraint=...)",
                "one of the two",
                "both",
                "What is solved is F(x) − L c(x), of which the derivative has entries that ∂F/∂x has not.",
                'Leave the pattern out; sparsity="dense" is allowed.',
            )
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
