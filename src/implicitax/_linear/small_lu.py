"""LU decomposition with partial pivoting, written out for a few unknowns.

Every entry of the matrix is a value of its own and every loop is unrolled, so under `vmap` each elementary operation
runs over all lanes at once, where a call into LAPACK works matrix by matrix. The factors are kept apart from the
right-hand side: applying them is linear, so it can be transposed, and one factorisation serves many right-hand sides.
"""

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Inexact, PyTree

from .. import _tree, _xla
from .dense import State

# Rows up to which the unrolled decomposition pays: the table of `benchmarks/small_lu.py`.
SMALL = 4

Entries: TypeAlias = list[list[Array]]


class Factors(NamedTuple):
    """P A = L U. `swaps[k][i]` says whether step k exchanged the rows k and k + 1 + i."""

    lu: Entries
    swaps: list[list[Array]]


def to_rows(matrix: Inexact[Array, "n n"]) -> Entries:
    return [[matrix[i, j] for j in range(matrix.shape[1])] for i in range(matrix.shape[0])]


def factorise(rows: Entries) -> Factors:
    """Gaussian elimination with partial pivoting (Golub and Van Loan, Matrix Computations, algorithm 3.4.1)."""
    a = [list(row) for row in rows]
    n = len(a)
    swaps = []
    for k in range(n):
        # Moving the largest entry up by one comparison with each row below needs no index computed at run time.
        swaps.append([])
        for i in range(k + 1, n):
            swap = jnp.abs(a[i][k]) > jnp.abs(a[k][k])
            swaps[k].append(swap)
            a[k], a[i] = _exchange(swap, a[k], a[i])
        for i in range(k + 1, n):
            factor = a[i][k] / a[k][k]
            a[i][k] = factor
            for j in range(k + 1, n):
                a[i][j] = a[i][j] - factor * a[k][j]
    return Factors(a, swaps)


def _exchange(swap: Array, upper: list[Array], lower: list[Array]) -> tuple[list[Array], list[Array]]:
    return (
        [_xla.where(swap, low, up) for up, low in zip(upper, lower)],
        [_xla.where(swap, up, low) for up, low in zip(upper, lower)],
    )


def apply_inverse(factors: Factors, b: list[Array]) -> list[Array]:
    """A⁻¹ b: permute, then solve with L, then with U."""
    lu, swaps = factors
    n, y = len(lu), list(b)
    for k in range(n):
        for i, swap in enumerate(swaps[k], start=k + 1):
            (y[k],), (y[i],) = _exchange(swap, [y[k]], [y[i]])
        # The factors of L were exchanged along with their rows, so all of P comes before all of L.
    for i in range(n):
        for j in range(i):
            y[i] = y[i] - lu[i][j] * y[j]
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            y[i] = y[i] - lu[i][j] * y[j]
        y[i] = y[i] / lu[i][i]
    return y


def apply_inverse_transposed(factors: Factors, b: list[Array]) -> list[Array]:
    """A⁻ᵀ b: solve with Uᵀ, then with Lᵀ, then undo the permutation."""
    lu, swaps = factors
    n, y = len(lu), list(b)
    for i in range(n):
        for j in range(i):
            y[i] = y[i] - lu[j][i] * y[j]
        y[i] = y[i] / lu[i][i]
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            y[i] = y[i] - lu[j][i] * y[j]
    for k in reversed(range(n)):
        for i, swap in reversed(list(enumerate(swaps[k], start=k + 1))):
            (y[k],), (y[i],) = _exchange(swap, [y[k]], [y[i]])
    return y


class SmallLU(lx.AbstractLinearSolver[State]):
    """LU decomposition of a matrix of a few rows, unrolled: `A y = b` by `P A = L U`.

    A Lineax solver for square nonsingular operators. Under `vmap` it works on all matrices at once, entry by entry,
    and is several times faster than LAPACK called matrix by matrix: 15 times for n = 2, 3 times for n = 4. The time to
    compile it grows faster than n³, so it is meant for n up to 5 or 6. implicitax chooses it by itself for n ≤ 4.

    **Cost:** n³/3 multiplications to factorise, n² a right-hand side.

    **Fails:** on a singular matrix the result is not finite and says so (`lineax.RESULTS.singular`).

    **Source:** Golub and Van Loan, Matrix Computations, 4th ed. (2013), section 3.4.

    ```python
    >>> import jax.numpy as jnp, lineax as lx
    >>> from implicitax import SmallLU
    >>> A = lx.MatrixLinearOperator(jnp.array([[0.0, 2.0], [1.0, 1.0]]))
    >>> print(lx.linear_solve(A, jnp.array([4.0, 3.0]), SmallLU()).value)
    [1. 2.]

    ```
    """

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> State:
        del options
        return State.of("SmallLU", operator, lambda matrix: factorise(to_rows(matrix)))

    def compute(
        self, state: State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        del options
        b = _tree.ravel(tuple(jax.tree.leaves(vector)))
        apply = apply_inverse_transposed if state.transposed else apply_inverse
        y = jnp.stack(apply(state.factors, [b[i] for i in range(b.size)]))
        result = lx.RESULTS.where(_is_singular(state.factors), lx.RESULTS.singular, lx.RESULTS.successful)
        return state.columns.unravel(y), result, {}

    def transpose(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        del options
        return state.transpose(), {}

    def conj(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        del options
        factors = Factors([[jnp.conj(entry) for entry in row] for row in state.factors.lu], state.factors.swaps)
        return State(factors, state.columns, state.rows, state.transposed), {}

    def assume_full_rank(self) -> bool:
        return True


def _is_singular(factors: Factors) -> Bool[Array, ""]:
    pivots = [factors.lu[k][k] for k in range(len(factors.lu))]
    return jnp.logical_not(functools.reduce(jnp.logical_and, [(p != 0) & jnp.isfinite(p) for p in pivots]))
