"""Broyden's method with limited memory."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._errors.values import check_count
from .._solution import Status
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Given, Proposal, Tolerance, typical_size

_WINDOW = 6  # a point is accepted if the norm of R is below the largest of the last so many,
_SHORTEST = 1e-10  # and steps may get this short, relative to x, before nothing is left to try


class _State(NamedTuple):
    base: Leaves  # the last point accepted,
    residual: Leaves  # and R there, weighted, as everything below
    sizes: Float[Array, " window"]  # the norm of R at the last points accepted, the newest first
    u: tuple[Float[Array, "m ..."], ...]  # H = γ + Σⱼ uⱼ vⱼᵀ ≈ A⁻¹
    v: tuple[Float[Array, "m ..."], ...]
    gamma: Float[Array, ""]
    held: Int[Array, ""]  # updates since the last restart
    limit: Float[Array, ""]  # of the length of the next step
    weights: Leaves
    first: Bool[Array, ""]


class Broyden(AbstractMethod):
    """Broyden's method with limited memory: `x ← x − H R`, H ≈ (∂R/∂x)⁻¹ kept as `γ + Σⱼ uⱼ vⱼᵀ`.

    After each step s, that has changed R by y, the "good" update `H ← H + (s − H y) sᵀH / (sᵀH y)` makes H y = s. When
    `memory` updates are held, all are dropped, and it begins anew; γ is that of Barzilai and Borwein of the first step.
    A point that does not decrease R below the largest of the last 6 is not taken, but H learns from it, and the next
    step is at most half as long; one where R is not finite is not taken either, and the next is a quarter as long. One
    secant history runs over the whole flattened state, with unknowns and equations weighted by `1/(atol + rtol·|x|)`.

    **Arguments:**

    - `memory`: how many updates are kept, at least 1.

    **Cost:** an iteration is one evaluation of R, and about `4·memory` passes over the state. No derivative of R; but a
    root is judged, at the end, by ∂R/∂x there, or where it has none by differences.

    **Fails:** with `Status.STALLED` where the steps have become too short or R has long stopped decreasing.

    **Source:** Broyden, Math. Comp. 19 (1965) 577, doi:10.1090/S0025-5718-1965-0198670-6; Barzilai and Borwein, IMA J.
    Numer. Anal. 8 (1988) 141, doi:10.1093/imanum/8.1.141.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> R = lambda x: x + 0.2 * jnp.roll(x, 1) ** 3 - jnp.arange(1.0, 4.0)
    >>> print(bool(ix.root(R, jnp.ones(3), solver=ix.Broyden()).success))
    True

    ```
    """

    memory: int = eqx.field(default=20, static=True)
    kinds = ("fixed_point", "root")
    recovers = True
    default_max_steps = 1000

    def __check_init__(self) -> None:
        cause = "It is the number of updates that are kept, each two arrays like x."
        check_count("Broyden(memory=...)", self.memory, 1, cause, "Use 10 to 50.")

    def resolve(self, given: Given) -> "Broyden":
        return dataclasses.replace(self, memory=min(self.memory, 2 * given.size))

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        dtype = _tree.work_dtype(x)
        history = tuple(jnp.zeros((self.memory, *leaf.shape), leaf.dtype) for leaf in x)
        infinite = jnp.asarray(jnp.inf, dtype)
        return _State(
            base=x,
            residual=x,
            sizes=jnp.full((_WINDOW,), jnp.inf, dtype),
            u=history,
            v=history,
            gamma=-jnp.ones((), dtype),
            held=jnp.zeros((), jnp.int32),
            limit=infinite,
            weights=x,
            first=jnp.asarray(True),
        )

    def revisit(self, x: Leaves, state: _State) -> _State:
        infinite = jnp.full_like(state.limit, jnp.inf)
        return state._replace(sizes=jnp.full_like(state.sizes, jnp.inf), limit=infinite)

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        weights = _tree.where(
            state.first,
            tuple(1 / size for size in typical_size(at.x, tolerance, at.residual)),
            state.weights,
        )
        residual = _tree.mul(weights, at.residual)
        size, extent = _tree.norm(residual), _tree.norm(_tree.mul(weights, at.x))
        largest = _xla.fold(jnp.maximum, _xla.where(jnp.isfinite(state.sizes), state.sizes, -jnp.inf), jnp.max)
        accepted = state.first | (at.finite & ((size < largest) | (largest < 0)))

        s = _tree.mul(weights, _tree.sub(at.x, state.base))
        y = _tree.sub(residual, state.residual)
        state = self._learn(state, s, y, at.finite & ~state.first)

        length = _tree.norm(s)
        limit = _xla.where(accepted, jnp.maximum(state.limit, 2 * length), _xla.where(at.finite, 0.5, 0.25) * length)
        # The first step is a plain one, but not longer than x.
        limit = _xla.where(state.first, _xla.where(extent > 0, extent, size), limit).astype(size.dtype)

        base = _tree.where(accepted, at.x, state.base)
        residual = _tree.where(accepted, residual, state.residual)
        direction = tuple(-leaf for leaf in self._product(state.u, state.v, state, residual))
        long = _tree.norm(direction)
        usable = jnp.isfinite(long) & (long > 0)
        direction = _tree.where(usable, direction, residual)
        long = _xla.where(usable, long, _tree.norm(residual))
        factor = jnp.minimum(1, limit / _xla.where(long > 0, long, 1))
        step = tuple(factor.astype(d.dtype) * d / w for d, w in zip(direction, weights))

        following = state._replace(
            base=base,
            residual=residual,
            sizes=_xla.where(accepted, jnp.concatenate([size[None], state.sizes[:-1]]), state.sizes),
            limit=limit,
            weights=weights,
            first=_xla.false_like(state.first),
        )
        stuck = limit < _SHORTEST * _xla.where(extent > 0, extent, 1)
        status = _xla.where(stuck, Status.STALLED, Status.RUNNING)
        correction = tuple(
            _xla.where(accepted & (usable | (long == 0)), d, jnp.inf) / w for d, w in zip(direction, weights)
        )
        return Proposal(_tree.axpy(1, step, base), following, status, correction)

    def _learn(self, state: _State, s: Leaves, y: Leaves, useful: Bool[Array, ""]) -> _State:
        """H with the secant equation H y = s."""
        # Later updates rest on earlier ones, so a full memory is emptied.
        state = state._replace(held=_xla.where(state.held >= self.memory, 0, state.held))
        yy = _tree.dot(y, y)
        useful &= (yy > 0) & jnp.isfinite(yy)
        fresh = useful & (state.held == 0)
        gamma = _xla.where(fresh, _tree.dot(s, y) / _xla.where(yy > 0, yy, 1), state.gamma)
        # Where s and y are nearly orthogonal γ would be 0, and H singular.
        gamma = _xla.where(jnp.abs(gamma) > 1e-3 * jnp.sqrt(_tree.dot(s, s) / _xla.where(yy > 0, yy, 1)), gamma, -1)
        state = state._replace(gamma=gamma)

        Hy, sH = self._product(state.u, state.v, state, y), self._product(state.v, state.u, state, s)
        curvature = _tree.dot(sH, y)
        useful &= jnp.abs(curvature) > 1e-12 * _tree.norm(sH) * jnp.sqrt(yy)
        u = tuple((si - hi) / _xla.where(useful, curvature, 1) for si, hi in zip(s, Hy))
        slot = state.held

        def keep(history: Array, new: Array) -> Array:
            return history.at[slot].set(_xla.where(useful, new, history[slot]).astype(history.dtype))

        return state._replace(u=tuple(map(keep, state.u, u)), v=tuple(map(keep, state.v, sH)), held=state.held + useful)

    def _product(self, u: tuple[Array, ...], v: tuple[Array, ...], state: _State, vector: Leaves) -> Leaves:
        """H times a vector; with u and v exchanged Hᵀ times it."""
        coefficients = _xla.where(jnp.arange(self.memory) < state.held, _tree.products(v, vector), 0)
        return tuple(
            (state.gamma * leaf + jnp.tensordot(coefficients.astype(leaf.dtype), ui, axes=1)).astype(leaf.dtype)
            for leaf, ui in zip(vector, u)
        )
