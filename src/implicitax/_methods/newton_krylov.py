"""Newton's method without matrices, its linear systems solved no better than needed."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import wadler_lindig as wl
from jaxtyping import Array, Bool, Float, Int, PyTree

from .. import _linear, _tree, _xla
from .._errors.values import check_preconditioned
from .._solution import Status
from .._tree import Layout, Leaves
from .contract import (
    AbstractMethod,
    Evaluation,
    Given,
    Needs,
    Proposal,
    Tolerance,
    around,
    ratio,
    row_weights,
    typical_size,
)
from .newton import backtrack, largest_known, weights_at_first

_FIRST, _LEAST, _MOST = 0.1, 1e-4, 0.5  # forcing terms: at first, and their limits
_SMALLEST_STEP = 1e-8  # a fraction of Newton's step below which nothing is left to try
_WINDOW = 4
_KNOWN = 0.1  # tolerances: the error of a step that says how far the root is
_NEAR = 10  # tolerances: after a step as short as this the linear system is solved to all the digits that count


class _State(NamedTuple):
    base: Leaves  # the last point accepted,
    direction: Leaves  # and the step from there;
    sizes: Float[Array, " window"]  # the norm of R at the last points accepted, the newest first
    fraction: Float[Array, ""]  # how much of the step was tried last
    forcing: Float[Array, ""]
    weights: Leaves  # of R's components in its norm
    first: Bool[Array, ""]


class _Scaling(NamedTuple):
    weights: Leaves  # of the equations
    sizes: Leaves  # of the unknowns


class _OnLeaves(eqx.Module):
    """A preconditioner that acts on real leaves."""

    preconditioner: Callable[[PyTree, PyTree], PyTree]
    state: Layout = eqx.field(static=True)

    def __call__(self, x: Leaves, v: Leaves) -> Leaves:
        v = self.state.put(v)
        returned = self.preconditioner(self.state.put(x), v)
        check_preconditioned(returned, v)
        return Layout.take(returned)[1]

    def __pdoc__(self, **_: Any) -> Any:
        return wl.TextDoc(getattr(self.preconditioner, "__name__", type(self.preconditioner).__name__))


class NewtonKrylov(AbstractMethod):
    """Inexact Newton for large systems: `A d = −R` by GMRES to `‖A d + R‖ ≤ η ‖R‖`, `x ← x + t·d`.

    A is only multiplied with, by tangents of R. The forcing term η follows the decrease of R, `η = 0.9 (‖R‖/‖R_old‖)²`
    (Eisenstat and Walker's second choice, safeguarded), so that far from the root little work is spent on each step.
    After a step as short as 10 tolerances η is eps^(2/3): what is known to a digit does not say that x is a root.
    t is found by non-monotone backtracking. Unknowns and equations are scaled as in `Newton`.

    **Arguments:**

    - `preconditioner`: a function `preconditioner(x, v)` that returns about A⁻¹ v, x and v being pytrees like x0;
      linear in v. By default none. It acts from the right, so that the residual stays that of the equations. The
      derivative takes it, too, in reverse mode transposed, if it is given no linear solver of its own.
    - `restart`: dimension of the Krylov space; so many states are kept.
    - `max_restarts`: of GMRES, in each step.
    - `starts`: from how many points it may begin: from x0, and where it fails from points around x0 that are drawn at
      random, always the same.

    **Cost:** an iteration is one evaluation of R, and one tangent of R for each iteration of GMRES. Near a root a
    second linear system is solved, roughly, which says how well the step of the first is known.

    **Fails:** with `Status.STALLED` where no fraction of the step decreases R, as where GMRES gets nowhere.

    **Source:** Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996) 16, doi:10.1137/0917003; Knoll and Keyes, J.
    Comput. Phys. 193 (2004) 357, doi:10.1016/j.jcp.2003.08.010.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> laplace = lambda u: jnp.convolve(u, jnp.array([1.0, -2.0, 1.0]), "same")
    >>> sol = ix.root(lambda u: laplace(u) + jnp.exp(u) / 100, jnp.zeros(9), solver=ix.NewtonKrylov())
    >>> print(bool(sol.success))
    True

    ```
    """

    preconditioner: Callable[[PyTree, PyTree], PyTree] | None = None
    restart: int = 50
    max_restarts: int = 10
    starts: int = eqx.field(default=1, static=True)
    needs = Needs.PRODUCT
    kinds = ("fixed_point", "root")
    corrects = True
    recovers = True
    default_max_steps = 200

    @property
    def settings(self) -> int:
        return self.starts

    def start(self, setting: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
        return around(x0, best, setting)

    def renew(self, state: _State, setting: Int[Array, ""]) -> _State:
        return self.init(state.base, setting)

    def resolve(self, given: Given) -> "NewtonKrylov":
        """With a preconditioner that acts on real leaves."""
        if self.preconditioner is None:
            return self
        return dataclasses.replace(self, preconditioner=_OnLeaves(self.preconditioner, given.state))

    def init(self, x: Leaves, setting: Int[Array, ""]) -> _State:
        dtype = _tree.work_dtype(x)
        one = jnp.ones((), dtype)
        return _State(x, x, jnp.full((_WINDOW,), jnp.inf, dtype), one, _FIRST * one, x, jnp.asarray(True))

    def step(self, at: Evaluation, state: _State, tolerance: Tolerance) -> Proposal:
        weights = weights_at_first(at, tolerance, state.first, state.weights)
        size = _tree.norm(_tree.mul(weights, at.residual))
        before = largest_known(state.sizes)
        accepted, fraction = backtrack(size, before, state.fraction, at.finite, state.first)

        forcing = _xla.where(state.first, _FIRST, 0.9 * (size / state.sizes[0]) ** 2)
        # Not much smaller than the one before, unless that was small already.
        before = 0.9 * state.forcing**2
        forcing = jnp.clip(_xla.where(before > 0.1, jnp.maximum(forcing, before), forcing), _LEAST, _MOST)
        forcing = _xla.where(accepted, forcing, state.forcing).astype(size.dtype)
        # What has been solved to a digit may lead on, but it is no proof that x is a root.
        near = ~state.first & (ratio(state.direction, tolerance.at(at.x)) <= _NEAR)
        # Where R is 0 the step is 0, whatever A is.
        near |= _tree.is_zero(at.residual)
        accurate = float(jnp.finfo(size.dtype).eps) ** (2 / 3)
        forcing = _xla.where(near, accurate, forcing).astype(size.dtype)
        # Rows scaled as A is here: with the weights of the norm, those of the first point, GMRES may get nowhere.
        scaling = _Scaling(row_weights(at.x, at.A, tolerance), typical_size(at.x, tolerance))
        found, relative = _xla.if_any(
            accepted | near,
            lambda: self._solve(at.A, tuple(-leaf for leaf in at.residual), at.x, scaling, forcing),
            lambda: (state.direction, jnp.full_like(forcing, jnp.inf)),
        )
        known = _xla.if_any(near, lambda: near & self._is_known(at, scaling, relative), lambda: _xla.false_like(near))
        direction = _tree.where(accepted, found, state.direction)
        base = _tree.where(accepted, at.x, state.base)

        following = _State(
            base=base,
            direction=direction,
            sizes=_xla.where(accepted, jnp.concatenate([size[None], state.sizes[:-1]]), state.sizes),
            fraction=fraction,
            forcing=forcing,
            weights=weights,
            first=_xla.false_like(state.first),
        )
        status = _xla.where(fraction < _SMALLEST_STEP, Status.STALLED, Status.RUNNING)
        correction = tuple(_xla.where(known, leaf, jnp.inf) for leaf in found)
        full = accepted & (fraction == 1)
        return Proposal(_tree.axpy(fraction, direction, base), following, status, correction, full, weights)

    def _is_known(self, at: Evaluation, scaling: _Scaling, relative: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether A is regular, and d known to a tenth of a tolerance: a small ‖A d + R‖ / ‖R‖ shows neither.

        For d is 0 where R is 0, whatever A is; and where A is ill-conditioned, d may be short along the directions in
        which A is small, those in which x is still far from the root. How much A⁻¹ makes of what is left of R is seen
        by another right-hand side. That holds every direction, to 1/√n of it: so far it is to be solved.
        """
        size = _tree.norm(_tree.mul(scaling.weights, at.residual))
        right = _linear.trust.probing(lambda v: at.A(_tree.mul(scaling.sizes, v)), at.x)
        enough = jnp.asarray(_KNOWN / _tree.size(at.x) ** 0.5, size.dtype)
        z, left = self._solve(at.A, right, at.x, scaling, enough)
        growth = _tree.ravel(tuple(each / s for each, s in zip(z, scaling.sizes)))
        error = relative * size * _xla.max_abs(growth)
        return (left <= enough) & _linear.trust.is_certain(growth) & (error <= _KNOWN)

    def _solve(
        self, A: Callable[[Leaves], Leaves], b: Leaves, x: Leaves, scaling: _Scaling, forcing: Float[Array, ""]
    ) -> tuple[Leaves, Array]:
        """y with `‖A y − b‖ ≤ forcing ‖b‖`, or as close as GMRES gets; and how close. R and x are scaled."""

        def precondition(v: Leaves) -> Leaves:
            if self.preconditioner is None:
                return _tree.mul(scaling.sizes, v)
            return self.preconditioner(x, tuple(vi / w for vi, w in zip(v, scaling.weights)))

        def product(v: Leaves) -> Leaves:
            return _tree.mul(scaling.weights, A(precondition(v)))

        right = _tree.mul(scaling.weights, b)
        # In a unit in which b has the norm 1, so that nothing in GMRES underflows.
        size = _tree.norm(right)
        size = _xla.where((size > 0) & jnp.isfinite(size), size, 1)
        right = tuple((leaf / size).astype(leaf.dtype) for leaf in right)
        v, relative = _linear.gmres(product, right, forcing, min(self.restart, _tree.size(right)), self.max_restarts)
        return tuple((leaf * size).astype(leaf.dtype) for leaf in precondition(v)), relative
