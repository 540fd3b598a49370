"""Whether a point is a solution. Said here for every method, for the first attempt, and for somebody else's solver."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree, _xla
from .._methods import Evaluation, Tolerance, ratio, row_weights
from .._solution import History, Status
from .._tree import Leaves
from .bounds import Bounds

FAR = 0.1  # of the size of x: a step from which a small residual is no fixed point
_BEND = 0.3  # of the change of R over the tolerance of x: how far it may be from linear there
_NEGLIGIBLE = 1e-3  # of the same: an R as small as this, which x cannot resolve
_ROUGH = 10  # times more or less than A says R may change
_SHORT = 0.1  # tolerances: a step of Newton's over which R is linear whatever it is
_NEAR = 1e5  # tolerances: a root as near as this, by its correction and by R, is one that R does not resolve
_ROUNDING = 16  # times eps |x|: no point is moved by less


class Outcome(NamedTuple):
    """How a solve ended: the best point seen, and the residual there. In a batch all but x have one value a row."""

    x: Leaves
    status: Int[Array, "*rows"]
    nit: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    residual: Float[Array, "*rows"]
    component: Int[Array, "*rows"]
    history: History | None = None


class Before(NamedTuple):
    """The point evaluated before, by which the next one is judged."""

    x: Leaves
    residual: Leaves
    newton: Bool[Array, "*rows"]  # whether Newton's step has led from it to the next
    probed: Bool[Array, "*rows"]  # whether it is a root but for a proof, which the next one is to give

    @classmethod
    def none(cls, x0: Leaves) -> "Before":
        """Before the first."""
        no = jnp.asarray(False)
        return cls(x0, x0, no, no)

    def elsewhere(self, moved: Bool[Array, "*rows"]) -> "Before":
        """If the next point has been moved: neither Newton's nor a probe."""
        return self._replace(newton=self.newton & ~moved, probed=self.probed & ~moved)


class Proof(NamedTuple):
    """What an evaluation says of roots."""

    here: Bool[Array, ""]  # the point evaluated is one
    before: Bool[Array, ""]  # the point before is one, of which it was the probe
    wanted: Bool[Array, ""]  # the point evaluated is one but for a proof
    distance: Float[Array, ""]  # of the point evaluated from a root, by Newton's correction, in tolerances

    @property
    def given(self) -> Bool[Array, ""]:
        return self.here | self.before


def prove(
    at: Evaluation, correction: Leaves, before: Before, tolerance: Tolerance, *, first: Any, settled: Any = False
) -> Proof:
    """Whether a point x is a root of R, whatever the units of x and of R.

    It is one if Newton's correction A⁻¹R is within the tolerance and R is as good as linear, with this A, over a
    distance that matters: to the point before, from which Newton's step has led here (the curvature that it shows is
    then what the step has left of R), or to a probe a tolerance away. For the correction alone is small, too, where A
    is infinite, at the edge of a domain; and R alone says nothing, in its own units: near a double root under rounding
    it is exactly 0 in many places. Of a guess, the `first` point, that is enough. `settled` is a root of which this has
    been shown before (in a batch, where its neighbours move it).

    Deuflhard, Newton Methods for Nonlinear Problems (2011), doi:10.1007/978-3-642-23899-4, section 2.1, has the
    affine-invariant convergence theory; the test of linearity is ours.
    """
    distance = ratio(correction, tolerance.at(at.x))
    close = at.finite & (distance <= 1) & ~before.probed
    step, change = _tree.sub(at.x, before.x), _tree.sub(at.residual, before.residual)

    def compare() -> tuple[Array, Array]:
        """How far R is from linear between the two points, and its change, in what the tolerance of x allows."""
        along = _product(at.A, step)
        weights = row_weights(at.x, at.A, tolerance)
        size = lambda v: _tree.largest(_tree.mul(weights, v))
        return size(_tree.sub(along, change)), size(change)

    if _linear.is_matrix(at.A):
        bent, moved = compare()
    else:
        unknown = jnp.full_like(distance, jnp.inf)
        bent, moved = _xla.if_any(close | before.probed, compare, lambda: (unknown, unknown))
    exact = first & _tree.is_zero(at.residual)
    here = close & ((before.newton & (bent <= 1)) | exact | settled)
    if tolerance.residual is not None:
        here |= at.finite & (tolerance.of_residual(at.residual) <= 1)
    # Beside a change that A knows of: not beside rounding errors, or none.
    known = (moved >= 1 / _ROUGH) & (moved <= _ROUGH)
    negligible = known & (ratio(before.residual, tuple(map(jnp.abs, change))) <= _NEGLIGIBLE)
    shown = ((distance <= 2) & (bent <= _BEND)) | negligible
    return Proof(here, before.probed & at.finite & shown, close & ~here, distance)


def _product(A: Any, v: Leaves) -> Leaves:
    return _tree.unravel(_tree.matvec(A, _tree.ravel(v)), v) if _linear.is_matrix(A) else A(v)


def probe(x: Leaves, tolerance: Tolerance, turn: Int[Array, ""], bounds: Bounds | None) -> Leaves:
    """A point a tolerance away from x, some unknowns up and some down; at the next turn the other way round."""

    def move(xi: Array, reach: Array) -> tuple[Array, Array]:
        index = jnp.arange(xi.size, dtype=jnp.int32).reshape(xi.shape)
        reach = jnp.maximum(reach, _ROUNDING * float(jnp.finfo(xi.dtype).eps) * jnp.abs(xi))
        step = _xla.where((index + turn) % 2 == 0, reach, -reach)
        return (xi + step).astype(xi.dtype), (xi - step).astype(xi.dtype)

    here, there = zip(*map(move, x, tolerance.at(x)))
    if bounds is None:
        return here
    inside = bounds.contain(here)
    return bounds.shorten(x, tuple(_xla.where(ok, a, b) for ok, a, b in zip(inside, here, there)))


def after(at: Evaluation, newton: Any, proof: Proof, before: Before) -> Before:
    """The point evaluated, for the verdict on the next; one that is not finite is none."""
    return Before(
        _tree.where(at.finite, at.x, before.x),
        _tree.where(at.finite, at.residual, before.residual),
        at.finite & newton & ~proof.wanted & (proof.distance > _SHORT),
        proof.wanted,
    )


def runs_off(x: Leaves, step: Leaves, residual: Leaves, tolerance: Tolerance) -> Bool[Array, ""]:
    """Whether a point with a small F(x) − x is on its way to infinity: where the map moves x ever less, but the step of
    the method, which knows how the residual changes, says that the fixed point is as far away as x is large, or an
    unknown as it is itself, many tolerances.

    Not if the residual is rounding, of which no step is made; nor by plain iteration, whose step is the residual.
    """
    size = tuple(jnp.abs(s) * r for s, r in zip(step, tolerance.rtol))
    eps = float(jnp.finfo(_tree.work_dtype(x)).eps)
    allowed = tolerance.at(x)
    own = tuple(FAR * jnp.abs(xi) + _NEAR * t for xi, t in zip(x, allowed))
    small = tolerance.error(residual, x) <= 1  # on its way a step may well be longer than a small unknown
    # `once`: XLA would repeat the quotients in the kernels that judge.
    far = _xla.once((ratio(size, allowed) > FAR) | (small & (ratio(step, own) > 1)))
    return far & (_tree.max_norm(residual) > 16 * eps * _tree.max_norm(x))


def why_none(merit: Float[Array, ""], distance: Float[Array, ""], status: Any) -> Any:
    """Why no root was found, where the method says only that it got no further."""
    small, near = merit <= 1, (distance > 1) & (jnp.maximum(distance, merit) <= _NEAR)
    return status_of(
        status == Status.CONVERGED,
        (near | (small & (distance <= 1)), Status.UNRESOLVED),
        (small & ~jnp.isfinite(distance), Status.UNCERTIFIED),
        otherwise=status,
    )


def status_of(solved: Bool[Array, "*rows"], *reasons: tuple[Any, Any], otherwise: Any) -> Int[Array, "*rows"]:
    """`CONVERGED` where it is solved, else the status of the first of the reasons that is true."""
    conditions, statuses = [condition for condition, _ in reasons], [status for _, status in reasons]
    return _xla.select([solved, *conditions], [Status.CONVERGED, *statuses], otherwise).astype(jnp.int32)
