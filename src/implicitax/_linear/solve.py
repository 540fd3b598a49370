"""Solves with A = ∂R/∂x and with its transpose, for Newton's step and for the derivative alike.

A linear solver is any Lineax solver. What is ours is around it: a scaling that makes the units of the unknowns
irrelevant, and a verdict on the result.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from .. import _tree, _xla
from .._tree import Leaves
from .dense import DenseLU
from .linearise import Linear, is_matrix
from .neumann import NeumannSeries
from .small_lu import SMALL, SmallLU


def is_dense(solver: Any) -> bool:
    """Whether the solver is given A as a matrix. Any other gets products with A, and may form the matrix itself."""
    return isinstance(solver, SmallLU | DenseLU | lx.LU | lx.QR | lx.SVD | lx.AutoLinearSolver)


def factoriser(size: int) -> lx.AbstractLinearSolver:
    """The LU decomposition for a matrix of `size` rows: written out, or LAPACK's."""
    return SmallLU() if size <= SMALL else DenseLU()


def solve_dense(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """A⁻¹ b, and whether it can be trusted.

    Rows and columns are first scaled to a largest entry of 1, so that neither the solver nor the verdict depends on
    the units of the equations and of the unknowns.
    """
    rows = _or_one(_largest_in_rows(jnp.abs(matrix)))
    columns = _or_one(_largest_in_rows(jnp.abs(matrix / rows[:, None]).T))
    scaled, scaled_b = matrix / rows[:, None] / columns, b / rows
    y, result = _apply(solver, lx.MatrixLinearOperator(scaled), scaled_b)
    # A solution as large as this is the answer of a matrix that is singular to working precision.
    largest, length = _xla.max_abs(scaled_b), _xla.max_abs(y)
    regular = length * (8 * b.size * jnp.finfo(b.dtype).eps) <= largest
    return y / columns, result & regular & _solves(_tree.matvec(scaled, y), scaled_b, length)


def solve_bare(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver
) -> Float[Array, " n"]:
    """A⁻¹ b, unscaled and unjudged, for a step of which the next evaluation will tell; not finite if a pivot is 0."""
    return _apply(solver, lx.MatrixLinearOperator(matrix), b)[0]


def _largest_in_rows(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    if matrix.shape[0] <= SMALL:
        return jnp.stack([_xla.fold(jnp.maximum, row, jnp.max) for row in matrix])
    return jnp.max(matrix, axis=1)


def solve(
    A: Linear, b: Leaves, solver: lx.AbstractLinearSolver, scale: Leaves, transpose: bool = False
) -> tuple[Leaves, Bool[Array, ""]]:
    """A⁻¹ b, and whether it can be trusted.

    `scale` holds the typical size of each unknown: a matrix-free solver works on D⁻¹ A D with D = diag(scale), or, if
    A is a transpose, on D A D⁻¹.
    """
    if is_matrix(A):
        y, ok = solve_dense(A, _tree.ravel(b), solver)
        return _tree.unravel(y, b), ok

    inverse = tuple(1 / s for s in scale)
    if transpose:
        scale, inverse = inverse, scale
    operator = lx.FunctionLinearOperator(
        lambda v: _tree.mul(inverse, A(_tree.mul(scale, v))),
        tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in b),
    )
    # Normalised, so that the solver's absolute tolerance is one relative to b.
    scaled = _tree.mul(inverse, b)
    size = _tree.max_norm(scaled)
    unit = tuple((leaf / _xla.where(size > 0, size, 1)).astype(leaf.dtype) for leaf in scaled)
    y, ok = _apply(solver, operator, unit)
    if not isinstance(solver, NeumannSeries):
        ok &= _solves(_tree.ravel(operator.mv(y)), _tree.ravel(unit), jnp.zeros(())) & ~_has_zero_row(operator)
    return tuple((leaf * size).astype(leaf.dtype) for leaf in _tree.mul(scale, y)), ok


def _apply(solver: lx.AbstractLinearSolver, operator: lx.AbstractLinearOperator, b: Leaves | Array) -> tuple:
    # `init` and `compute`, not `lineax.linear_solve`: its primitive would only repeat what `_rule/implicit.py` does.
    y, result, _ = solver.compute(solver.init(operator, {}), b, {})
    return y, result == lx.RESULTS.successful


def _solves(product: Array, b: Array, size: Array) -> Bool[Array, ""]:
    """Whether A y = b holds to half the digits: what a solver that failed, and does not know it, never reaches."""
    tolerance = float(jnp.finfo(b.dtype).eps) ** 0.5
    return _xla.max_abs(product - b) <= tolerance * (_xla.max_abs(b) + size)


def _has_zero_row(operator: lx.FunctionLinearOperator) -> Bool[Array, ""]:
    """Whether a row of A is 0, as where F passes a component through: seen by one product with a random vector.

    A Krylov method does not see it if the right-hand side is 0 there too, and leaves that unknown at 0.
    """
    key = jax.random.key(0)
    product = operator.mv(
        tuple(jax.random.uniform(key, leaf.shape, leaf.dtype, 1, 2) for leaf in operator.in_structure())
    )
    return jnp.any(jnp.stack([jnp.any(leaf == 0) for leaf in product]))


def _or_one(values: Array) -> Array:
    return _xla.where(values > 0, values, 1)
