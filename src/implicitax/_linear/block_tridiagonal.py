"""Block-tridiagonal matrices: LU decomposition with partial pivoting, a block of columns a step.

    ⎡ D₀ E₀       ⎤     Step i eliminates the block of columns i from the two block rows i and i + 1 that have entries
    ⎢ C₁ D₁ E₁    ⎥     there. Pivots are from both, as LAPACK's elimination of a band chooses them, so that it is as
    ⎣    C₂ D₂ E₂ ⎦     stable as that of a dense matrix: an elimination that pivots in Dᵢ only stops at a singular Dᵢ.

(Golub and Van Loan, Matrix Computations, 4th ed. (2013), sections 4.3 and 4.5.)
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .sparse import Factors, Form, Reduction, precise


class Panels(NamedTuple):
    """What each step leaves: P [D̃ᵢ; Cᵢ₊₁] = [L₁₁; L₂₁] U₁₁, and U₁₂ over the blocks i + 1 and i + 2.

    The triangles are inverted, so that a solve is products only: it takes a fifth of the time of substitutions, each
    of which is a call of LAPACK. What that costs in digits where U₁₁ is ill-conditioned, refining gives back.
    """

    order: Int[Array, "N 2*m"]
    lower: Float[Array, "N m m"]  # L₁₁⁻¹
    below: Float[Array, "N m m"]  # L₂₁
    upper: Float[Array, "N m m"]  # U₁₁⁻¹
    right: Float[Array, "N m 2*m"]  # U₁₂


def factorise(blocks: Float[Array, "N m 3*m"]) -> Panels:
    """The LU decomposition of the rows [Cᵢ Dᵢ Eᵢ]."""
    m = blocks.shape[1]
    nothing, unit = jnp.zeros((m, m), blocks.dtype), jnp.eye(m, dtype=blocks.dtype)

    def step(upper: Array, lower: Array) -> tuple[Array, Panels]:
        both = jnp.concatenate([jnp.concatenate([upper, nothing], 1), lower])
        lu, _, order = jax.lax.linalg.lu(both[:, :m])
        both, below = both[:, m:][order], lu[m:]
        inverse, upper_inverse = _inverse(lu[:m], unit, lower=True), _inverse(lu[:m], unit, lower=False)
        right = precise("ij,jk->ik", inverse, both[:m])
        return both[m:] - precise("ij,jk->ik", below, right), Panels(order, inverse, below, upper_inverse, right)

    # After the last row comes one of zeros, so that no pivot is from there.
    lower = jnp.concatenate([blocks[1:], jnp.zeros_like(blocks[:1])])
    return jax.lax.scan(step, blocks[0, :, m:], lower)[1]


def apply_inverse(panels: Panels, b: Float[Array, "N m"]) -> Float[Array, "N m"]:
    """A⁻¹ b: forward with L, step by step with its exchanges, and back with U."""
    m = b.shape[1]

    def forward(carry: Array, step: tuple[Panels, Array]) -> tuple[Array, Array]:
        panel, following = step
        both = jnp.concatenate([carry, following])[panel.order]
        y = precise("ij,j->i", panel.lower, both[:m])
        return both[m:] - precise("ij,j->i", panel.below, y), y

    def back(after: Array, step: tuple[Panels, Array]) -> tuple[Array, Array]:
        panel, y = step
        x = precise("ij,j->i", panel.upper, y - precise("ij,j->i", panel.right, after))
        return jnp.concatenate([x, after[:m]]), x

    following = jnp.concatenate([b[1:], jnp.zeros_like(b[:1])])
    _, y = jax.lax.scan(forward, b[0], (panels, following))
    return jax.lax.scan(back, jnp.zeros_like(b[:1], shape=2 * m), (panels, y), reverse=True)[1]


def apply_inverse_transposed(panels: Panels, b: Float[Array, "N m"]) -> Float[Array, "N m"]:
    """A⁻ᵀ b: forward with Uᵀ, and back with Lᵀ, each step's exchanges undone."""
    m = b.shape[1]

    def forward(known: Array, step: tuple[Panels, Array]) -> tuple[Array, Array]:
        panel, of_b = step
        y = precise("ji,j->i", panel.upper, of_b - known[:m])
        known = jnp.concatenate([known[m:], jnp.zeros_like(y)])
        return known + precise("ji,j->i", panel.right, y), y

    def back(carry: Array, step: tuple[Panels, Array]) -> tuple[Array, Array]:
        panel, y = step
        y = precise("ji,j->i", panel.lower, y - precise("ji,j->i", panel.below, carry))
        both = jnp.zeros_like(carry, shape=2 * m).at[panel.order].set(jnp.concatenate([y, carry]), unique_indices=True)
        return both[:m], both[m:]

    _, y = jax.lax.scan(forward, jnp.zeros_like(b[:1], shape=2 * m), (panels, b))
    first, following = jax.lax.scan(back, jnp.zeros_like(b[0]), (panels, y), reverse=True)
    return jnp.concatenate([first[None], following[:-1]])


def _inverse(lu: Array, unit: Array, *, lower: bool) -> Array:
    """L⁻¹ or U⁻¹, L with ones on its diagonal."""
    return jax.lax.linalg.triangular_solve(lu, unit, left_side=True, lower=lower, unit_diagonal=lower)


class BlockTridiagonal(Form):
    """Blocks of m unknowns, each coupled to itself and to the one before and after. The layout is (N, m, 3m)."""

    def __init__(self, entries: tuple[np.ndarray, np.ndarray], n: int, m: int, order: np.ndarray | None):
        """`entries` are the rows and columns of the pattern in the `order` of the form."""
        rows, cols = entries
        count = -(-n // m)
        self.m, self.count = m, count
        index = np.full((count, m, 3 * m), rows.size, np.int32)
        block = rows // m
        index[block, rows - block * m, cols - (block - 1) * m] = np.arange(rows.size, dtype=np.int32)
        empty = np.arange(n - (count - 1) * m, m)
        index[-1, empty, m + empty] = rows.size + 1
        if order is not None:
            order = np.append(order, np.full(count * m - n, n)).astype(np.int32)
        super().__init__(n, order, index, (m,))

    def describe(self) -> str:
        return f"block-tridiagonal, blocks of {self.m}"

    def factor(self, data: Array) -> "BlockTridiagonalFactors":
        return BlockTridiagonalFactors(factorise(data), self)

    @property
    def _length(self) -> int:
        return self.count * self.m

    def _beside_rows(self, v: Array) -> Array:
        return v.reshape(self.count, self.m, 1)

    def _beside_columns(self, v: Array) -> Array:
        padded = jnp.pad(v.reshape(self.count, self.m), ((1, 1), (0, 0)))
        return jnp.concatenate([padded[:-2], padded[1:-1], padded[2:]], 1)[:, None]

    def _over_rows(self, reduction: Reduction, data: Array) -> Array:
        return reduction(data, axis=2).reshape(-1)

    def _over_columns(self, reduction: Reduction, data: Array) -> Array:
        own = jnp.pad(reduction(data, axis=1), ((1, 1), (0, 0)))
        m = self.m
        return reduction(jnp.stack([own[2:, :m], own[1:-1, m : 2 * m], own[:-2, 2 * m :]]), axis=0).reshape(-1)


class BlockTridiagonalFactors(Factors):
    panels: Panels
    form: BlockTridiagonal = eqx.field(static=True)

    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        form = self.form
        blocks = form._enter(b).reshape(form.count, form.m)
        return form._leave((apply_inverse_transposed if transpose else apply_inverse)(self.panels, blocks).reshape(-1))
