"""Anderson acceleration, safeguarded."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree
from .._solution import Status
from .._tree import Leaves
from .base import AbstractSolver, Evaluation, Proposal, Tolerance, typical_size

_SMALLEST_DAMPING = 1e-6
_GROWTH = 3.0  # a residual this much larger than the best one is worse, not just not monotone


class _State(NamedTuple):
    best: Leaves  # the best point so far,
    best_residual: Leaves
    best_size: Float[Array, ""]  # and the norm of its residual;
    x: Leaves  # the last point accepted
    residual: Leaves
    dx: tuple[Float[Array, "m ..."], ...]  # differences of points, a ring of `memory`,
    dr: tuple[Float[Array, "m ..."], ...]  # and of their residuals, weighted
    gram: Float[Array, "m m"]  # ⟨dr_i, dr_j⟩
    held: Int[Array, ""]  # differences since the last restart
    damping: Float[Array, ""]
    weights: Leaves
    first: Bool[Array, ""]


class Anderson(AbstractSolver):
    """Anderson acceleration (type II): `x ← x + β r − Σⱼ γⱼ (Δxⱼ + β Δrⱼ)`, γ minimising `‖r − Σⱼ γⱼ Δrⱼ‖`.

    `r = F(x) − x`, and Δxⱼ, Δrⱼ are the last `memory` differences of the iterates and of their residuals. On a linear
    F it is GMRES. Components are weighted by `1/(atol + rtol·|x|)`, so that units do not matter; the least-squares
    problem is solved by normal equations, scaled and regularised, that are updated by one row an iteration.

    Safeguard: a point where F is not finite, or the residual more than 3 times the best so far, is discarded together
    with the memory, and the next one is a step of plain iteration from the best point, with a quarter of the damping.

    **Arguments:**

    - `memory`: how many differences are kept, 1 to 20.
    - `damping`: the factor β, in (0, 1].
    - `regularisation`: added to the diagonal of the scaled normal equations; by default `10·eps`.

    **Cost:** an iteration is one evaluation of F, and about `3·memory` passes over the state.

    **Fails:** with `Status.STALLED` where damping has reached 1e-6 or the residual has long stopped decreasing.

    **Source:** Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715, doi:10.1137/10078356X.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> F = lambda x: jnp.cos(x) + 0.3 * jnp.roll(x, 1)
    >>> fast = ix.fixed_point(F, jnp.ones(4), solver=ix.Anderson(memory=3))
    >>> slow = ix.fixed_point(F, jnp.ones(4), solver=ix.Picard())
    >>> print(bool(fast.success), fast.nit < slow.nit)
    True True

    ```
    """

    memory: int = eqx.field(default=5, static=True)
    damping: float | Array = 1.0
    regularisation: float | None = None
    recovers = True
    default_max_steps = 1000

    def __check_init__(self) -> None:
        if not 1 <= self.memory <= 20:
            raise ValueError(
                f"`Anderson(memory=...)`: expected 1 to 20, got {self.memory}. A longer memory makes the least-squares "
                "problem ill-conditioned before it helps. Use 5 to 10."
            )
        if not eqx.is_array(self.damping) and not 0 < self.damping <= 1:
            raise ValueError(
                f"`Anderson(damping=...)`: expected a factor in (0, 1], got {self.damping}. It is the part of the "
                "residual that is added to the accelerated point. Use 1, or 0.5 against oscillations."
            )

    def resolve(self, size: int, dtype: Any) -> "Anderson":
        return dataclasses.replace(self, memory=min(self.memory, size))

    def init(self, x: Leaves) -> _State:
        dtype, m = _tree.work_dtype(x), self.memory
        history = tuple(jnp.zeros((m, *leaf.shape), leaf.dtype) for leaf in x)
        return _State(
            best=x,
            best_residual=x,
            best_size=jnp.asarray(jnp.inf, dtype),
            x=x,
            residual=x,
            dx=history,
            dr=history,
            gram=jnp.zeros((m, m), dtype),
            held=jnp.asarray(0, jnp.int32),
            damping=jnp.asarray(self.damping, dtype),
            weights=x,
            first=jnp.asarray(True),
        )

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        weights = _tree.where(
            state.first,
            tuple(1 / size for size in typical_size(at.x, tolerance, at.residual)),
            state.weights,
        )
        size = _tree.norm(_tree.mul(weights, at.residual))
        accepted = state.first | (at.finite & (size <= _GROWTH * state.best_size))
        better = accepted & (size < state.best_size) | state.first
        best = _tree.where(better, at.x, state.best)
        best_residual = _tree.where(better, at.residual, state.best_residual)

        limit = jnp.asarray(self.damping, size.dtype)
        damping = jnp.where(accepted, jnp.minimum(1.5 * state.damping, limit), state.damping / 4)

        remember = accepted & ~state.first
        dx, dr, gram = self._remember(at, state, weights, remember)
        count = jnp.where(remember, state.held + 1, 0)

        accelerated = self._accelerate(at, dx, dr, gram, count, damping, weights)
        plain = _tree.axpy(damping, best_residual, best)
        status = jnp.where(damping < _SMALLEST_DAMPING, Status.STALLED, Status.RUNNING)
        following = _State(
            best=best,
            best_residual=best_residual,
            best_size=jnp.where(better, size, state.best_size),
            x=_tree.where(accepted, at.x, best),
            residual=_tree.where(accepted, at.residual, best_residual),
            dx=dx,
            dr=dr,
            gram=gram,
            held=count,
            damping=damping,
            weights=weights,
            first=state.first & False,
        )
        return Proposal(_tree.where(accepted, accelerated, plain), following, status)

    def _remember(
        self, at: Evaluation, state: _State, weights: Leaves, remember: Bool[Array, ""]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], Float[Array, "m m"]]:
        """The histories with the newest difference in the place of the oldest, and one row of the Gram matrix anew."""
        slot = state.held % self.memory
        new_dx = _tree.sub(at.x, state.x)
        new_dr = _tree.mul(weights, _tree.sub(at.residual, state.residual))
        # A rejected point leaves the histories as they are: `held` 0 makes them unused.
        dx = tuple(h.at[slot].set(jnp.where(remember, new, h[slot])) for h, new in zip(state.dx, new_dx))
        dr = tuple(h.at[slot].set(jnp.where(remember, new, h[slot])) for h, new in zip(state.dr, new_dr))
        row = _products(dr, tuple(h[slot] for h in dr))
        return dx, dr, state.gram.at[slot].set(row).at[:, slot].set(row)

    def _accelerate(
        self,
        at: Evaluation,
        dx: tuple[Array, ...],
        dr: tuple[Array, ...],
        gram: Float[Array, "m m"],
        count: Int[Array, ""],
        damping: Float[Array, ""],
        weights: Leaves,
    ) -> Leaves:
        m = self.memory
        valid = jnp.arange(m) < count
        size = jnp.sqrt(jnp.diagonal(gram))
        used = valid & (size > 0)
        inverse = jnp.where(used, 1 / jnp.where(used, size, 1), 0)
        regularisation = 10 * jnp.finfo(gram.dtype).eps if self.regularisation is None else self.regularisation
        normal = gram * inverse[:, None] * inverse + jnp.diag(jnp.where(used, regularisation, 1)).astype(gram.dtype)
        right = _products(dr, _tree.mul(weights, at.residual)) * inverse
        gamma = _linear.solve_dense(normal, right, _linear.choose(m, normal.dtype))[0] * inverse
        gamma = jnp.where(used & jnp.isfinite(gamma), gamma, 0)

        def combine(x: Array, r: Array, dx: Array, dr: Array, w: Array) -> Array:
            past = jnp.tensordot(gamma.astype(x.dtype), dx + damping.astype(x.dtype) * (dr / w), axes=1)
            return (x + damping * r - past).astype(x.dtype)

        return tuple(map(combine, at.x, at.residual, dx, dr, weights))


def _products(rows: tuple[Array, ...], vector: Leaves) -> Float[Array, " m"]:
    """⟨row_j, vector⟩ for every j."""
    dtype = _tree.work_dtype(vector)
    terms = [
        jax.lax.dot_general(
            row.reshape(row.shape[0], -1).astype(dtype), v.reshape(-1).astype(dtype), (((1,), (0,)), ((), ()))
        )
        for row, v in zip(rows, vector)
    ]
    return jnp.sum(jnp.stack(terms), axis=0)
