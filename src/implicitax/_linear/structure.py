"""A as the sparse matrix that it is: by its colours from tangents of R, in its form, and solves with it and with Aᵀ."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import wadler_lindig as wl
from jaxtyping import Array, Bool, Int

from .. import _tree
from .._problem import Kind
from .._problem.pattern import Colouring, Pattern, colour
from .._tree import Leaves
from . import trust
from .assemble import from_tangents
from .dense import reciprocal
from .forms import choose_form
from .sparse import Form, Sparse, solve_sparse

_ROUNDING = 16  # times eps: of a tangent of F whose entries are of the order of 1


class Structure:
    """Of a pattern: its form and its colours. Equal where the pattern is, so static in what is compiled."""

    def __init__(self, form: Form, colouring: Colouring, kind: Kind, given: bool = False):
        self.form, self.colouring = form, colouring
        self.kind: Kind = kind
        self.given = given  # by the user, who may have left something out

    @classmethod
    def of(cls, pattern: Pattern, kind: Kind, given: bool = False) -> "Structure | None":
        """None where a dense matrix or products with A serve better."""
        form = choose_form(pattern.rows, pattern.cols, pattern.shape[1])
        colouring = None if form is None else colour(pattern)
        return None if form is None or colouring is None else cls(form, colouring, kind, given)

    @classmethod
    def of_given(cls, pattern: Pattern, kind: Kind) -> "Structure | None":
        return cls.of(pattern, kind, given=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Form, Kind, bool]:
        return self.form, self.kind, self.given

    def __repr__(self) -> str:
        dense = self.colouring.border_rows.size
        cotangents = f" and {dense} cotangent{'s' * (dense > 1)}" if dense else ""
        return f"{self.form.describe()}, {self.colouring.count} tangents{cotangents}"


class StructuredLU(eqx.Module):
    """Elimination in the form that the pattern of A has."""

    structure: Structure = eqx.field(static=True)

    def __pdoc__(self, **_: Any) -> Any:
        return wl.TextDoc(repr(self.structure))


class Structured(eqx.Module):
    """A, or Aᵀ, as a sparse matrix, and as the product with it."""

    matrix: Sparse
    lacking: Int[Array, ""]  # the first row of which the pattern leaves something out, if that was looked for; or n
    like: tuple[Any, ...] = eqx.field(static=True)  # shapes and dtypes of x
    transposed: bool = eqx.field(static=True, default=False)

    def __call__(self, v: Leaves) -> Leaves:
        return _tree.unravel(self.matrix.times(_tree.ravel(v), self.transposed), self.like)

    def change(self, v: Leaves) -> Leaves:
        """Σⱼ |Aᵢⱼ| |vⱼ|."""
        return _tree.unravel(self.matrix.abs().times(jnp.abs(_tree.ravel(v)), self.transposed), self.like)

    @property
    def T(self) -> "Structured":
        return Structured(self.matrix, self.lacking, self.like, not self.transposed)

    @property
    def faithful(self) -> Bool[Array, ""]:
        return self.lacking == self.matrix.form.n


def assembled(
    residual: Callable[[Leaves], Leaves], x: Leaves, structure: Structure, verify: bool
) -> tuple[Leaves, Structured]:
    """R(x) and A there, by a tangent of R a colour; with `verify` by one more, that of a random direction, in which
    nothing may be missing."""
    value, tangent = jax.linearize(residual, x)
    product = lambda v: _tree.ravel(tangent(_tree.unravel(v, x)))
    dtype = _tree.work_dtype(x)
    matrix = structure.form.pack(from_tangents(product, structure.colouring, dtype))
    like = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in x)
    lacking = jnp.asarray(structure.form.n, jnp.int32)
    if verify:
        direction = _tree.ravel(trust.direction(x))
        missing = jnp.abs(product(direction) - matrix.matvec(direction))
        size, eps = matrix.abs().matvec(jnp.abs(direction)), float(jnp.finfo(dtype).eps)
        # The diagonal of ∂F/∂x − I is a difference, known to the rounding of 1.
        rounding = _ROUNDING * eps * jnp.abs(direction) if structure.kind == "fixed_point" else 0
        lacking = _tree.first((~(missing <= eps**0.5 * size + rounding) & jnp.isfinite(size),))
    return value, Structured(matrix, lacking, like)


def solve_structured(A: Structured, b: Leaves, check: Kind | None) -> tuple[Leaves, Bool[Array, ""], Leaves]:
    """A⁻¹ b, whether it can be trusted, and, with `check`, about the null vector of an A that is nearly singular.

    Rows and columns are scaled as those of a dense matrix are (`solve.py`), and judged by the same test (`trust.py`).
    """
    matrix, right = A.matrix, _tree.ravel(b)
    rows = reciprocal(matrix.largest_in_rows())
    columns = reciprocal(matrix.scaled(rows, jnp.ones_like(rows)).largest_in_columns())
    scaled, (of_b, of_y) = matrix.scaled(rows, columns), (columns, rows) if A.transposed else (rows, columns)
    factors = scaled.factor()
    found = solve_sparse(scaled, factors, right * of_b, transpose=A.transposed)
    y = _tree.unravel(found.y * of_y, b)
    ok = found.ok & A.faithful
    if check is None:
        return y, ok, ()
    sums = scaled.abs().times(jnp.ones_like(right), A.transposed)
    # The diagonal of ∂F/∂x − I is a difference: in a column that holds nothing else, rounding is all there is.
    sums = sums + rows * columns if check == "fixed_point" else sums
    some = _tree.ravel(trust.direction(b)) / 2
    z = solve_sparse(scaled, factors, some * sums, transpose=A.transposed)
    return y, ok & z.ok & trust.is_certain(z.y), _tree.unravel(z.y, b)
