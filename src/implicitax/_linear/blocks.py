"""Independent blocks: the connected components of a pattern, all solved at once.

Blocks of a few unknowns are eliminated entry by entry over all blocks (`small_lu.py`), larger ones by LAPACK.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import small_lu
from .small_lu import SMALL
from .sparse import Factors, Form, Reduction


class Blocks(Form):
    """Blocks of at most m unknowns, the smaller ones filled up with ones on the diagonal.

    The layout is (m, m, count): each entry of all blocks is a contiguous vector.
    """

    def __init__(self, entries: tuple[np.ndarray, np.ndarray], labels: np.ndarray):
        """`labels` gives the component of each unknown, 0, 1, ..."""
        rows, cols = entries
        n, sizes = labels.size, np.bincount(labels)
        self.m, self.count = int(sizes.max()), sizes.size
        order = np.argsort(labels, kind="stable")
        # The place of each unknown among those of its block.
        local = np.empty(n, np.int32)
        local[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        index = np.full((self.m, self.m, self.count), rows.size, np.int32)
        index[local[rows], local[cols], labels[rows]] = np.arange(rows.size, dtype=np.int32)
        slots = np.full((self.m, self.count), n, np.int32)
        slots[local, labels] = np.arange(n, dtype=np.int32)
        position, block = np.nonzero(slots == n)
        index[position, position, block] = rows.size + 1
        super().__init__(n, slots.reshape(-1), index, ())

    def describe(self) -> str:
        return f"{self.count} blocks of at most {self.m}"

    def factor(self, data: Array) -> "BlocksFactors":
        if self.m <= SMALL:
            return BlocksFactors(small_lu.factorise([list(row) for row in data]), self)
        lu, _, order = jax.lax.linalg.lu(jnp.moveaxis(data, 2, 0))
        return BlocksFactors((lu, order), self)

    @property
    def _length(self) -> int:
        return self.m * self.count

    def _beside_rows(self, v: Array) -> Array:
        return v.reshape(self.m, 1, self.count)

    def _beside_columns(self, v: Array) -> Array:
        return v.reshape(1, self.m, self.count)

    def _over_rows(self, reduction: Reduction, data: Array) -> Array:
        return reduction(data, axis=1).reshape(-1)

    def _over_columns(self, reduction: Reduction, data: Array) -> Array:
        return reduction(data, axis=0).reshape(-1)


class BlocksFactors(Factors):
    factors: small_lu.Factors | tuple[Array, Array]
    form: Blocks = eqx.field(static=True)

    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        form = self.form
        blocks = form._enter(b).reshape(form.m, form.count)
        if isinstance(self.factors, small_lu.Factors):
            apply = small_lu.apply_inverse_transposed if transpose else small_lu.apply_inverse
            return form._leave(jnp.concatenate(apply(self.factors, list(blocks))))
        lu, order = self.factors
        columns = blocks.T[..., None]
        solve = lambda b, *, lower: jax.lax.linalg.triangular_solve(
            lu, b, left_side=True, lower=lower, transpose_a=transpose, unit_diagonal=lower
        )
        exchange = lambda b, order: jnp.take_along_axis(b, order[..., None], 1, mode="promise_in_bounds")
        if transpose:
            x = exchange(solve(solve(columns, lower=False), lower=True), jnp.argsort(order, axis=1))
        else:
            x = solve(solve(exchange(columns, order), lower=True), lower=False)
        return form._leave(x[..., 0].T.reshape(-1))
