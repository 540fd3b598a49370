"""A = ∂R/∂x at a point, as a matrix or as a product, in one evaluation of R."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeIs

from .. import _tree, _xla
from .._tree import Leaves
from .small_lu import SMALL
from .structure import Structure, Structured, assembled

# A as a matrix, or as the product v ↦ A v, of which a sparse one knows its entries.
Linear: TypeAlias = Float[Array, "n n"] | Structured | Callable[[Leaves], Leaves]
Wanted: TypeAlias = bool | Structure  # as a matrix or not, or by a structure


def is_matrix(A: Linear) -> TypeIs[Float[Array, "n n"]]:
    return not callable(A)


def linearise(
    residual: Callable[[Leaves], Leaves], x: Leaves, matrix: Wanted, by_column: bool = False, *, verify: bool = False
) -> tuple[Leaves, Linear]:
    """R(x) and A at x, in one evaluation of R: as a matrix, or as the product v ↦ A v; `verify` looks whether a
    structure leaves nothing out.

    With `by_column` each column of a small matrix is compiled by itself, so that the zeros and ones in its direction
    are constants.
    """
    if isinstance(matrix, Structure):
        return assembled(residual, x, matrix, verify)
    if not matrix:
        return jax.linearize(residual, x)
    flat = _tree.ravel(x)
    if by_column and flat.size <= SMALL:
        value, product = jax.linearize(residual, x)
        directions = (_tree.unravel(jnp.asarray(unit, flat.dtype), x) for unit in np.eye(flat.size))
        columns = [_tree.ravel(product(_xla.varying(direction, x))) for direction in directions]
        return value, jnp.stack(columns, axis=1)

    def at(vector: Float[Array, " n"]) -> tuple[Float[Array, " n"], Leaves]:
        value = residual(_tree.unravel(vector, x))
        return _tree.ravel(value), value

    def column(direction: Float[Array, " n"]) -> tuple[Leaves, Float[Array, " n"]]:
        _, tangent, value = jax.jvp(at, (flat,), (direction,), has_aux=True)
        return value, tangent

    basis = _xla.varying(jnp.eye(flat.size, dtype=flat.dtype), (flat,))
    return jax.vmap(column, out_axes=(None, 1))(basis)


def linearise_rows(residual: Callable[[Leaves], Leaves], x: Leaves) -> tuple[Leaves, Float[Array, "rows n n"]]:
    """R(x), and for each row i of a batch the matrix ∂Rᵢ/∂xᵢ, by n tangents of R: each moves all rows together.

    Exact where the rows are independent. Coupled ones add their own derivatives to it: A to first order.
    """
    flat = jax.vmap(_tree.ravel)(x)

    def at(vectors: Float[Array, "rows n"]) -> tuple[Float[Array, "rows n"], Leaves]:
        value = residual(jax.vmap(lambda vector: _tree.unravel(vector, like))(vectors))
        return jax.vmap(_tree.ravel)(value), value

    def column(direction: Float[Array, " n"]) -> tuple[Leaves, Float[Array, "rows n"]]:
        _, tangent, value = jax.jvp(at, (flat,), (jnp.broadcast_to(direction, flat.shape),), has_aux=True)
        return value, tangent

    like = tuple(jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in x)
    basis = _xla.varying(jnp.eye(flat.shape[1], dtype=flat.dtype), (flat,))
    return jax.vmap(column, out_axes=(None, 2))(basis)


def linearise_transposed(
    residual: Callable[[Leaves], Leaves], x: Leaves, matrix: Wanted, by_column: bool = False
) -> Linear:
    """Aᵀ at x, as `linearise` gives A."""
    if matrix:
        # By n tangents of R rather than n cotangents: forward mode is the cheaper one.
        A = linearise(residual, x, matrix, by_column, verify=True)[1]
        assert is_matrix(A) or isinstance(A, Structured)
        return A.T
    _, pullback = jax.vjp(residual, x)
    return lambda cotangent: pullback(cotangent)[0]
