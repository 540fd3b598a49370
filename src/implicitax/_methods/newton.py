"""Newton's method, made to decrease the residual."""

from typing import NamedTuple

import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from .. import _linear, _tree, _xla
from .._errors.values import check_general, check_linear_solver
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Given, Needs, Proposal, Tolerance, row_weights, typical_size

_SMALLEST_STEP = 1e-10  # a fraction of Newton's step below which nothing is left to try


class _State(NamedTuple):
    base: Leaves  # the last point accepted,
    size: Float[Array, ""]  # the norm of its residual,
    direction: Leaves  # and Newton's step from there;
    fraction: Float[Array, ""]  # how much of it was tried last
    weights: Leaves  # of the residual's components in the norm
    first: Bool[Array, ""]


class Newton(AbstractMethod):
    """Newton's method with backtracking: `x ← x − t·A⁻¹R`, `A = ∂R/∂x`; for a fixed point `R = F(x) − x`.

    t is 1 if that decreases the norm of R, and is halved until it does, and quartered where R is not finite. The norm
    weights each component of R by what it changes when the unknowns change by their tolerance, so that units do not
    matter.

    **Arguments:**

    - `linear_solver`: a Lineax solver for the steps; by default by the structure of A, where it has one (`sparsity`),
      or by size: `SmallLU`, LAPACK's LU, and without a matrix BiCGStab, then GMRES.

    **Cost:** an iteration is one evaluation of R together with n of its tangents (or, matrix-free, with one for each
    iteration of the linear solver), and one linear solve. Converges quadratically.

    **Fails:** with `Status.SINGULAR` where A is singular, `Status.STALLED` where no fraction of the step decreases R
    (a local minimum of ‖R‖, a kink).

    **Source:** Dennis and Schnabel, Numerical Methods for Unconstrained Optimization and Nonlinear Equations (1996),
    chapter 6, doi:10.1137/1.9781611971200.

    ```python
    >>> import implicitax as ix
    >>> sol = ix.root(lambda x: x**2 - 2, 1.0, solver=ix.Newton())
    >>> print(round(float(sol.x), 3))
    1.414

    ```
    """

    linear_solver: _linear.LinearSolver | None = None
    needs = Needs.EITHER
    kinds = ("fixed_point", "root")
    corrects = True
    recovers = True
    default_max_steps = 200

    def __check_init__(self) -> None:
        known = lx.AbstractLinearSolver, _linear.StructuredLU, type(None)
        check_linear_solver("Newton", self.linear_solver, isinstance(self.linear_solver, known))
        check_general("Newton", self.linear_solver, bool(_linear.asked_for(self.linear_solver)))

    def resolve(self, given: Given) -> "Newton":
        return self if self.linear_solver is not None else Newton(given.linear_solver)

    def full_step(self, at: Evaluation, tolerance: Tolerance) -> Leaves:
        return _tree.axpy(1, self._newton(at, tolerance)[0], at.x)

    def init(self, x: Leaves, setting: Array) -> _State:
        dtype = _tree.work_dtype(x)
        return _State(x, jnp.asarray(jnp.inf, dtype), x, jnp.ones((), dtype), x, jnp.asarray(True))

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        newton, regular = self._newton(at, tolerance)
        weights = weights_at_first(at, tolerance, state.first, state.weights, newton)
        size = _tree.norm(_tree.mul(weights, at.residual))

        accepted, fraction = backtrack(size, state.size, state.fraction, at.finite, state.first)
        base = _tree.where(accepted, at.x, state.base)
        direction = _tree.where(accepted, newton, state.direction)
        status = _xla.where(
            accepted & ~regular,
            Status.SINGULAR,
            _xla.where(fraction < _SMALLEST_STEP, Status.STALLED, Status.RUNNING),
        )
        size = _xla.where(accepted, size, state.size)
        following = _State(base, size, direction, fraction, weights, _xla.false_like(state.first))
        correction = _tree.where(regular, newton, tuple(jnp.full_like(leaf, jnp.inf) for leaf in newton))
        full = accepted & (fraction == 1)
        return Proposal(_tree.axpy(fraction, direction, base), following, status, correction, full, weights)

    def _newton(self, at: Evaluation, tolerance: Tolerance) -> tuple[Leaves, Bool[Array, ""]]:
        """−A⁻¹R, and whether it can be trusted."""
        assert self.linear_solver is not None, "`resolve` fills it in"
        scale = typical_size(at.x, tolerance)
        return _linear.correct(at.A, at.residual, self.linear_solver, scale)


def backtrack(
    size: Float[Array, ""],
    before: Float[Array, ""],
    fraction: Float[Array, ""],
    finite: Bool[Array, ""],
    first: Bool[Array, ""],
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether the point is accepted, by Armijo's condition on ‖R‖, and the fraction of Newton's step to take next."""
    accepted = _xla.once(first | (finite & (size < (1 - 1e-4 * fraction) * before)))  # a NaN compares as false
    return accepted, _xla.where(accepted, 1, _xla.where(finite, 0.5, 0.25) * fraction).astype(size.dtype)


def largest_known(sizes: Float[Array, " last"]) -> Float[Array, ""]:
    """Of the last norms, for a condition that is not monotone; those that there have not been are infinite."""
    return _tree.largest((_xla.where(jnp.isfinite(sizes), sizes, 0),))


def weights_at_first(
    at: Evaluation, tolerance: Tolerance, first: Bool[Array, ""], known: Leaves, correction: Leaves | None = None
) -> Leaves:
    """`row_weights` at the first point, and those from then on. Without a matrix they cost products with A."""
    anew = lambda: _tree.where(first, row_weights(at.x, at.A, tolerance, correction), known)
    return anew() if _linear.is_matrix(at.A) else _xla.if_any(first, anew, lambda: known)
