"""Solves with A = ∂R/∂x and with its transpose, for Newton's step and for the derivative alike.

A linear solver is any Lineax solver. What is ours is around it: a scaling that makes the units of the unknowns
irrelevant, and a verdict on the result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from .. import _tree, _xla
from .._problem import Kind
from .._tree import Leaves
from . import trust
from .dense import DenseLU, reciprocal
from .krylov import Krylov
from .linearise import Linear, Wanted, is_matrix
from .neumann import NeumannSeries
from .small_lu import SMALL, SmallLU
from .structure import Structured, StructuredLU, solve_structured
from .tagged import Tagged

LinearSolver: TypeAlias = lx.AbstractLinearSolver | StructuredLU | Tagged

_NONE: dict[str, Any] = {}
_DIGITS = 4  # eps: the width of the changes of R


def is_dense(solver: Any) -> bool:
    """Whether the solver is given A as a matrix. Any other gets products with A, and may form the matrix itself."""
    return isinstance(solver, SmallLU | DenseLU | lx.LU | lx.QR | lx.SVD | lx.AutoLinearSolver)


def wanted(solver: Any) -> Wanted:
    """In which form it is given A."""
    return solver.structure if isinstance(solver, StructuredLU) else is_dense(solver)


def at(solver: Any, x: Leaves) -> Any:
    """The solver for the A at x, of which it may have to know where that is."""
    return solver.at(x) if isinstance(solver, Krylov) else solver


def with_tags(solver: lx.AbstractLinearSolver, tags: frozenset[object], kind: Kind) -> lx.AbstractLinearSolver | Tagged:
    """The solver with what is said of A; without where it is for general matrices, and is given one."""
    return Tagged(solver, tags, kind) if tags and not is_dense(solver) else solver


def factoriser(size: int) -> lx.AbstractLinearSolver:
    """The LU decomposition for a matrix of `size` rows: written out, or LAPACK's."""
    return SmallLU() if size <= SMALL else DenseLU()


class Certified(NamedTuple):
    """The answer of a linear system, with a verdict on its matrix."""

    y: Leaves
    ok: Bool[Array, "*rows"]  # whether it can be trusted
    null: Leaves  # where A is nearly singular, about its null vector, in scaled units; () if nobody has asked


def solve_dense(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """A⁻¹ b, and whether it can be trusted."""
    (y,), ok, _ = _by_matrix(matrix, b, solver, None)
    return y, ok


def _by_matrix(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver, check: Kind | None
) -> Certified:
    """The same; with `check` also if A is nearly singular (`trust.py`).

    Rows and columns are first scaled to a largest entry of 1, so that neither the solver nor the verdict depends on
    the units of the equations and of the unknowns.
    """
    # By factors, since of a quotient of quotients XLA makes one of products, which over- or underflow.
    rows = reciprocal(_largest_in_rows(jnp.abs(matrix)))
    columns = reciprocal(_largest_in_rows(jnp.abs(matrix * rows[:, None]).T))
    scaled, b = matrix * rows[:, None] * columns, b * rows
    compute = _computing(solver, lx.MatrixLinearOperator(scaled))
    y, result = compute(b)
    # A solution as large as this is the answer of a matrix that is singular to working precision.
    largest, length = _xla.max_abs(b), _xla.max_abs(y)
    regular = length * (8 * b.size * jnp.finfo(b.dtype).eps) <= largest
    sums = _tree.matvec(jnp.abs(scaled), jnp.ones_like(b))
    ok = result & regular & trust.solves(_tree.matvec(scaled, y), b, _xla.max_abs(sums) * length)
    if check is not None:
        # The diagonal of ∂F/∂x − I is a difference: in a column that holds nothing else, rounding is all there is.
        sums = sums + rows * columns if check == "fixed_point" else sums
        # One verdict for all right-hand sides of one matrix: under `vmap` over these it has no lanes.
        answers = [compute(column * sums)[0] for column in trust.columns(b)]
        for z in answers:
            ok &= trust.is_certain(z)
        return Certified((y * columns,), ok, (answers[0],))
    return Certified((y * columns,), ok, ())


def solve_bare(
    matrix: Float[Array, "n n"], b: Float[Array, " n"], solver: lx.AbstractLinearSolver
) -> Float[Array, " n"]:
    """A⁻¹ b, unscaled and unjudged, for a step of which the next evaluation will tell; not finite if a pivot is 0."""
    return _computing(solver, lx.MatrixLinearOperator(matrix))(b)[0]


def _largest_in_rows(matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    if matrix.shape[0] <= SMALL:
        return jnp.stack([_xla.fold(jnp.maximum, row, jnp.max) for row in matrix])
    return jnp.max(matrix, axis=1)


def solve(
    A: Linear,
    b: Leaves,
    solver: LinearSolver,
    scale: Leaves,
    *,
    transpose: bool = False,
) -> tuple[Leaves, Bool[Array, ""]]:
    """A⁻¹ b, and whether it can be trusted."""
    y, ok, _ = certify(A, b, solver, scale, transpose=transpose)
    return y, ok


def correct(A: Linear, residual: Leaves, solver: LinearSolver, scale: Leaves) -> tuple[Leaves, Bool[Array, ""]]:
    """Newton's correction −A⁻¹R, and whether it can be trusted.

    R is known to its last digits only, which are changed here: the correction shows it where they decide, as it does
    where R is large and A nearly singular.
    """
    return solve(A, tuple(map(_with_other_digits, residual, range(len(residual)))), solver, scale)


def _with_other_digits(leaf: Array, number: int) -> Array:
    """−R, each component with last digits of its own: multiples of the golden ratio modulo 1 are all different."""
    index = jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape) + (1 + number / 3)
    digits = _DIGITS * float(jnp.finfo(leaf.dtype).eps) * (index * 0.6180339887498949 % 1 - 0.5)
    return -leaf * (1 + digits)


def certify(
    A: Linear,
    b: Leaves,
    solver: LinearSolver,
    scale: Leaves,
    *,
    transpose: bool = False,
    check: Kind | None = None,
) -> Certified:
    """The same; with `check` also if A is nearly singular (`trust.py`).

    `scale` holds the typical size of each unknown: a matrix-free solver works on D⁻¹ A D with D = diag(scale), or, if
    A is a transpose, on D A D⁻¹.
    """
    if isinstance(A, Structured):
        return Certified(*solve_structured(A, b, check))
    assert not isinstance(solver, StructuredLU), "it is given its A by its structure"
    if is_matrix(A):
        assert not isinstance(solver, Tagged), "it is given products"
        (y,), ok, null = _by_matrix(A, _tree.ravel(b), solver, check)
        return Certified(_tree.unravel(y, b), ok, null and _tree.unravel(null[0], b))

    inverse = tuple(1 / s for s in scale)
    if transpose:
        scale, inverse = inverse, scale
    tags: frozenset[object] = frozenset()
    if isinstance(solver, Tagged):
        inverse, scale = solver.scaled(A, inverse if transpose else scale, transpose)
        tags, solver = solver.of(transpose), solver.solver
    operator = lx.FunctionLinearOperator(
        lambda v: _tree.mul(inverse, A(_tree.mul(scale, v))),
        tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in b),
        tags=tags,
    )
    options = solver.options(b, scale, inverse, transpose) if isinstance(solver, Krylov) else {}
    compute = _computing(solver, operator, options)
    if isinstance(solver, NeumannSeries):
        y, ok = compute(_tree.mul(inverse, b))
        return Certified(_tree.mul(scale, y), ok, ())

    some = trust.direction(b)
    spread = operator.mv(some)
    norm = _tree.max_norm(spread)

    def judged(b: Leaves) -> tuple[Leaves, Bool[Array, ""]]:
        # Normalised, so that the solver's absolute tolerance is one relative to b.
        size = _tree.max_norm(b)
        unit = tuple((leaf / _xla.where(size > 0, size, 1)).astype(leaf.dtype) for leaf in b)
        y, ok = compute(unit)
        ok &= trust.solves(_tree.ravel(operator.mv(y)), _tree.ravel(unit), norm * _tree.max_norm(y))
        return tuple((leaf * size).astype(leaf.dtype) for leaf in y), ok

    y, ok = judged(_tree.mul(inverse, b))
    ok &= ~trust.has_zero(spread)
    if check is not None:
        z, solved = judged(trust.right_side(some, spread, check))
        ok &= solved & trust.is_certain(_tree.ravel(z))
        # Of a solver that has failed since A is not what is said of it, it is no null vector.
        return Certified(_tree.mul(scale, y), ok, () if tags else z)
    return Certified(_tree.mul(scale, y), ok, ())


def _computing(
    solver: lx.AbstractLinearSolver, operator: lx.AbstractLinearOperator, options: dict[str, Any] = _NONE
) -> Callable[..., tuple]:
    """b ↦ A⁻¹ b, and whether the solver is content with it; A is factorised once."""
    # `init` and `compute`, not `lineax.linear_solve`: its primitive would only repeat what `_rule/implicit.py` does.
    state = solver.init(operator, options)

    def compute(b: Leaves | Array) -> tuple:
        y, result, _ = solver.compute(state, b, options)
        return y, result == lx.RESULTS.successful

    return compute
