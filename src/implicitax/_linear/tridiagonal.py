"""Tridiagonal matrices, by LAPACK's elimination with partial pivoting (gtsv; on a GPU cuSPARSE's)."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .sparse import Factors, Form, Reduction


class Diagonals(Form):
    """A band of half-width w. The layout is (2w + 1, n): Aᵢⱼ stands in the row j − i + w and the column i."""

    def __init__(self, entries: tuple[np.ndarray, np.ndarray], n: int, width: int, order: np.ndarray | None):
        """`entries` are the rows and columns of the pattern in the `order` of the form."""
        rows, cols = entries
        self.width = width
        index = np.full((2 * width + 1, n), rows.size, np.int32)
        index[cols - rows + width, rows] = np.arange(rows.size, dtype=np.int32)
        super().__init__(n, None if order is None else order.astype(np.int32), index, (width,))

    def matvec(self, data: Array, x: Array) -> Array:
        # Written out, a diagonal a term: one pass, where to join the shifted copies of x takes several.
        padded = jnp.pad(self._enter(x), self.width)
        terms = [diagonal * padded[d : d + self.n] for d, diagonal in enumerate(data)]
        return self._leave(functools.reduce(jnp.add, terms))

    def rmatvec(self, data: Array, x: Array) -> Array:
        products = jnp.pad(data * self._enter(x), ((0, 0), (self.width, self.width)))
        terms = [diagonal[d : d + self.n] for d, diagonal in enumerate(products[::-1])]
        return self._leave(functools.reduce(jnp.add, terms))

    @property
    def _length(self) -> int:
        return self.n

    def _beside_rows(self, v: Array) -> Array:
        return v[None]

    def _beside_columns(self, v: Array) -> Array:
        padded = jnp.pad(v, self.width)
        return jnp.stack([padded[d : d + self.n] for d in range(2 * self.width + 1)])

    def _over_rows(self, reduction: Reduction, data: Array) -> Array:
        return reduction(data, axis=0)

    def _over_columns(self, reduction: Reduction, data: Array) -> Array:
        return reduction(transposed(data), axis=0)


def transposed(data: Float[Array, "d n"]) -> Float[Array, "d n"]:
    """The diagonals of Aᵀ."""
    (count, n), width = data.shape, data.shape[0] // 2
    padded = jnp.pad(data, ((0, 0), (width, width)))
    # Aⱼᵢ is in the column j = i + d − w.
    return jnp.stack([padded[count - 1 - d, d : d + n] for d in range(count)])


class Tridiagonal(Diagonals):
    def describe(self) -> str:
        return "tridiagonal"

    def factor(self, data: Array) -> "TridiagonalFactors":
        return TridiagonalFactors(data, self)


class TridiagonalFactors(Factors):
    """The diagonals: LAPACK's call eliminates and solves, at 1.3 times the price of solving alone."""

    data: Float[Array, "3 n"]
    form: Tridiagonal = eqx.field(static=True)

    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        lower, middle, upper = transposed(self.data) if transpose else self.data
        x = jax.lax.linalg.tridiagonal_solve(lower, middle, upper, self.form._enter(b)[:, None])
        return self.form._leave(x[:, 0])
