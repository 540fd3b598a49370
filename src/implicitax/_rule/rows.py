"""A batch of coupled rows: what is checked of it, and linear solves row by row."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from .. import _linear, _tree, _xla
from .._loop import Limits, Search, iterate
from .._methods import Anderson, Tolerance
from .._problem import Kind
from .._solution import Status
from .._tree import Leaves


class Rows(NamedTuple):
    """Which rows of a batch have been solved; or, with `batch_axis=None`, whether the whole has."""

    good: Bool[Array, "*rows"]
    batch_axis: int | None

    def has(self, leaf: Array) -> bool:
        """Whether the leaf has the rows along the batch axis."""
        axis = self.batch_axis
        return axis is not None and leaf.ndim > axis and leaf.shape[axis] == self.good.size

    def partition(self, leaves: Leaves) -> tuple[Leaves, Leaves]:
        """The leaves that have rows, and the others."""
        return tuple(filter(self.has, leaves)), tuple(leaf for leaf in leaves if not self.has(leaf))

    def nonzero(self, leaves: Leaves) -> Bool[Array, "*rows"]:
        """Row by row, whether any component is not 0."""
        found = jnp.zeros(self.good.shape, bool)
        for leaf in leaves:
            found |= jnp.any(leaf != 0, axis=tuple(i for i in range(leaf.ndim) if i != self.batch_axis))
        return found

    def spread(self, values: Shaped[Array, "*rows"], leaf: Array) -> Array:
        """One value a row, shaped to broadcast against a leaf with rows."""
        if self.batch_axis is None:
            return values
        return values.reshape([-1 if i == self.batch_axis else 1 for i in range(leaf.ndim)])

    def choose(self, good: Leaves, failed: Leaves) -> Leaves:
        """Each row from the first where it was solved, from the second where not."""
        return tuple(_xla.where(self.spread(self.good, a), a, b) for a, b in zip(good, failed))

    def keep(self, leaves: Leaves) -> Leaves:
        """0 in what failed; a leaf without rows, of a batch, as it is."""
        kept = lambda leaf: _xla.where(self.spread(self.good, leaf), leaf, 0).astype(leaf.dtype)
        return tuple(kept(leaf) if self.batch_axis is None or self.has(leaf) else leaf for leaf in leaves)

    def hold(self, x: Leaves) -> Leaves:
        """x, without the derivative of the rows that failed. What is not finite in these is taken from a good row:
        F is evaluated for all rows together, and a NaN in one would get into the derivative by their common θ."""
        constant = []
        for leaf in map(jax.lax.stop_gradient, x):
            good_row = jnp.take(leaf, jnp.argmax(self.good)[None], axis=self.batch_axis)
            constant.append(_xla.where(jnp.isfinite(leaf), leaf, good_row))
        return self.choose(x, tuple(constant))


class RowKrylov(eqx.Module):
    """Solves with the A of a whole batch by Anderson's method, each row with coefficients of its own.

    On a linear system Anderson's method is a Krylov method, and takes about as many products with A as it took
    evaluations of F to solve the equations. The coupling of the rows enters with every product. A Krylov method with
    one set of coefficients for all rows has to fit the spectra of all of them at once, and one row that fails would
    change the result of all others.
    """

    memory: int = eqx.field(default=10, static=True)
    retries: tuple[tuple[int, float], ...] = eqx.field(default=(), static=True, repr=False)  # as `Anderson` has them


LinearSolver: TypeAlias = _linear.LinearSolver | RowKrylov


class Solve(NamedTuple):
    """How the linear systems of a derivative are solved: `_linear.solve`, or with `RowKrylov` row by row."""

    linear_solver: LinearSolver
    scale: Leaves  # the typical size of the unknowns, where there is no matrix
    batch_axis: int | None = None
    by_column: bool = False  # whether each column of a small A is compiled by itself
    check: Kind | None = None  # of what kind the equations are, if a nearly singular A is to be found out

    def linearise(self, residual: Callable[[Leaves], Leaves], x: Leaves) -> tuple[Leaves, _linear.Linear]:
        """R(x) and A at x, in the form that the linear solver wants."""
        return _linear.linearise(residual, x, _linear.wanted(self.linear_solver), self.by_column, verify=True)

    def linearise_transposed(self, residual: Callable[[Leaves], Leaves], x: Leaves) -> _linear.Linear:
        return _linear.linearise_transposed(residual, x, _linear.wanted(self.linear_solver), self.by_column)

    def __call__(self, A: _linear.Linear, b: Leaves, transpose: bool = False) -> tuple[Leaves, Bool[Array, "*rows"]]:
        """A⁻¹ b, and whether it can be trusted: row by row with `RowKrylov`. `transpose` says that A is a transpose."""
        y, ok, _ = self.certify(A, b, transpose)
        return y, ok

    def certify(self, A: _linear.Linear, b: Leaves, transpose: bool = False) -> _linear.Certified:
        """The same, with the null vector where A is nearly singular."""
        if not isinstance(self.linear_solver, RowKrylov):
            scale, check = self.scale, self.check
            return _linear.certify(A, b, self.linear_solver, scale, transpose=transpose, check=check)
        assert self.batch_axis is not None
        assert not _linear.is_matrix(A)
        scale, inverse = self.scale, tuple(1 / s for s in self.scale)
        if transpose:
            scale, inverse = inverse, scale
        product = lambda v: _tree.mul(inverse, A(_tree.mul(scale, v)))
        y, ok = _solve_rows(product, _tree.mul(inverse, b), self.linear_solver, self.batch_axis)
        if self.check is not None:
            some = _linear.trust.direction(b)
            right = _linear.trust.right_side(some, product(some), self.check)
            z, solved = _solve_rows(product, right, self.linear_solver, self.batch_axis)
            certain = jax.vmap(lambda z: _linear.trust.is_certain(_tree.ravel(z)))
            ok &= solved & certain(_tree.rows_first(z, self.batch_axis))
        return _linear.Certified(_tree.mul(scale, y), ok, ())


class _LinearEquations(NamedTuple):
    """A y = b as a fixed point: A = ∂F/∂x − I, so y ← y + (A y − b)."""

    size: int
    kind: Literal["fixed_point"]
    A: Callable[[Leaves], Leaves]

    def residual(self, x: Leaves, theta: Leaves) -> Leaves:
        return _tree.sub(self.A(x), theta)


def _solve_rows(
    A: Callable[[Leaves], Leaves], b: Leaves, solver: RowKrylov, batch_axis: int
) -> tuple[Leaves, Bool[Array, "*rows"]]:
    """A⁻¹ b by Anderson's method for every row, and row by row whether it can be trusted."""
    # One digit below the tolerance of the equations, relative to the right-hand side of the row; a row that gets its
    # own only from its neighbours needs no more digits than they have.
    eps = float(jnp.finfo(_tree.work_dtype(b)).eps)
    sizes = jax.vmap(_tree.max_norm)(_tree.rows_first(b, batch_axis))
    sizes = jnp.maximum(sizes, 1e-6 * jnp.max(sizes))
    tolerance = 1e-1 * eps ** (2 / 3) * sizes
    rows = Rows(sizes > 0, batch_axis)
    memory = min(solver.memory, _tree.size(b) // sizes.size)
    anderson = Anderson(memory, retries=tuple((min(memory, m), damping) for m, damping in solver.retries))
    equations = _LinearEquations(_tree.size(b), "fixed_point", A)
    limits = Limits(
        _tree.zeros_like(b),
        Tolerance((0.0,) * len(b), tuple(rows.spread(tolerance, leaf).astype(leaf.dtype) for leaf in b)),
    )
    outcome = iterate(Search(equations, anderson, Anderson.default_max_steps, batch_axis), b, limits)
    # As of any linear solver, half of the digits are enough to trust it: near a singular A rounding allows no more.
    ok = (outcome.status == Status.CONVERGED) | (outcome.residual <= eps**0.5 * sizes)
    return outcome.x, ok
