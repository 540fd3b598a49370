"""Solves with A = ∂R/∂x and with its transpose, for Newton's step and for the derivative alike.

A linear solver is any Lineax solver. What is ours is around it: the choice by size, A as a dense matrix or as a
function of its own, a scaling that makes the units of the unknowns irrelevant, and a verdict on the result.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float
from typing_extensions import TypeIs

from .. import _tree
from .._tree import Leaves
from .dense import DenseLU as DenseLU
from .gmres import gmres as gmres
from .krylov import Krylov as Krylov
from .neumann import NeumannSeries as NeumannSeries
from .small_lu import SmallLU as SmallLU

Linear: TypeAlias = Float[Array, "n n"] | Callable[[Leaves], Leaves]  # A as a matrix, or as the product v ↦ A v

# Where the unrolled LU decomposition stops paying: the table of `benchmarks/small_lu.py`. Beyond DENSE a matrix takes
# 8 MB and the n tangents that fill it cost more than a Krylov method needs.
SMALL = 4
DENSE = 1000
MANY = 100


def choose(size: int, dtype: jnp.dtype) -> lx.AbstractLinearSolver:
    """The solver for a system of `size` unknowns: unrolled LU, dense LU, matrix-free Krylov methods."""
    if size <= SMALL:
        return SmallLU()
    if size <= DENSE:
        return DenseLU()
    return _krylov(size, dtype)


def choose_for_derivative(size: int, dtype: jnp.dtype, kind: str) -> lx.AbstractLinearSolver:
    """The same for the linear system of a derivative. Of a fixed point, A = ∂F/∂x − I is as a rule close to −I, and
    then already of some hundred unknowns a few products with A cost less than the n tangents that fill a matrix."""
    return _krylov(size, dtype) if kind == "fixed_point" and size > MANY else choose(size, dtype)


def _krylov(size: int, dtype: jnp.dtype) -> "Krylov":
    # One digit below the tolerance at which the equation itself is solved.
    tolerance = 1e-1 * float(jnp.finfo(dtype).eps) ** (2 / 3)
    return Krylov(tolerance, dense=size <= DENSE, max_steps=100 if size <= DENSE else 500)


def is_dense(solver: Any) -> bool:
    """Whether the solver is given A as a matrix. Any other gets products with A, and may form the matrix itself."""
    return isinstance(solver, SmallLU | DenseLU | lx.LU | lx.QR | lx.SVD | lx.AutoLinearSolver)


def is_matrix(A: Linear) -> TypeIs[Float[Array, "n n"]]:
    return not callable(A)


def linearise(
    residual: Callable[[Leaves], Leaves], x: Leaves, solver: Any, simple: bool = False
) -> tuple[Leaves, Linear]:
    """R(x) and A at x, in one evaluation of R: as a matrix, or as the product v ↦ A v, as the solver wants it.

    Of a simple R of few unknowns each column is compiled by itself, so that the zeros and ones in its direction are
    constants.
    """
    if not is_dense(solver):
        return jax.linearize(residual, x)
    flat = _tree.ravel(x)
    if simple and flat.size <= SMALL:
        value, product = jax.linearize(residual, x)
        directions = (_tree.unravel(jnp.asarray(unit, flat.dtype), x) for unit in np.eye(flat.size))
        columns = [_tree.ravel(product(_tree.varying(direction, x))) for direction in directions]
        return value, jnp.stack(columns, axis=1)

    def at(vector: Float[Array, " n"]) -> tuple[Float[Array, " n"], Leaves]:
        value = residual(_tree.unravel(vector, x))
        return _tree.ravel(value), value

    def column(direction: Float[Array, " n"]) -> tuple[Leaves, Float[Array, " n"]]:
        _, tangent, value = jax.jvp(at, (flat,), (direction,), has_aux=True)
        return value, tangent

    basis = _tree.varying(jnp.eye(flat.size, dtype=flat.dtype), (flat,))
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
    basis = _tree.varying(jnp.eye(flat.shape[1], dtype=flat.dtype), (flat,))
    return jax.vmap(column, out_axes=(None, 2))(basis)


def linearise_transposed(residual: Callable[[Leaves], Leaves], x: Leaves, solver: Any, simple: bool = False) -> Linear:
    """Aᵀ at x, as `linearise` gives A."""
    if is_dense(solver):
        # By n tangents of R rather than n cotangents: forward mode is the cheaper one.
        A = linearise(residual, x, solver, simple)[1]
        assert is_matrix(A)
        return A.T
    _, pullback = jax.vjp(residual, x)
    return lambda cotangent: pullback(cotangent)[0]


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
    largest, length = _tree.max_abs(scaled_b), _tree.max_abs(y)
    regular = length * (8 * b.size * jnp.finfo(b.dtype).eps) <= largest
    return y / columns, result & regular & _solves(_tree.matvec(scaled, y), scaled_b, length)


def solve_bare(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver
) -> Float[Array, " n"]:
    """A⁻¹ b, unscaled and unjudged, for a step of which the next evaluation will tell; not finite if a pivot is 0."""
    return _apply(solver, lx.MatrixLinearOperator(matrix), b)[0]


def _largest_in_rows(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    if matrix.shape[0] <= SMALL:
        return jnp.stack([_tree.fold(jnp.maximum, row, jnp.max) for row in matrix])
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
    unit = tuple((leaf / jnp.where(size > 0, size, 1)).astype(leaf.dtype) for leaf in scaled)
    y, ok = _apply(solver, operator, unit)
    if not isinstance(solver, NeumannSeries):
        ok &= _solves(_tree.ravel(operator.mv(y)), _tree.ravel(unit), jnp.zeros(())) & ~_has_zero_row(operator)
    return tuple((leaf * size).astype(leaf.dtype) for leaf in _tree.mul(scale, y)), ok


def _apply(solver: lx.AbstractLinearSolver, operator: lx.AbstractLinearOperator, b: Leaves | Array) -> tuple:
    # `init` and `compute`, not `lineax.linear_solve`: its primitive would only repeat what `_adjoint.py` does.
    y, result, _ = solver.compute(solver.init(operator, {}), b, {})
    return y, result == lx.RESULTS.successful


def _solves(product: Array, b: Array, size: Array) -> Bool[Array, ""]:
    """Whether A y = b holds to half the digits: what a solver that failed, and does not know it, never reaches."""
    tolerance = float(jnp.finfo(b.dtype).eps) ** 0.5
    return _tree.max_abs(product - b) <= tolerance * (_tree.max_abs(b) + size)


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
    return jnp.where(values > 0, values, 1)
