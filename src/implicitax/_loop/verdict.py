"""Whether a point is a solution. Said here for every method, for the first attempt, and for somebody else's solver."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .. import _linear, _tree, _xla
from .._methods import Tolerance, ratio
from .._problem import Equations, Kind
from .._solution import History, Status
from .._tree import Leaves

FAR = 0.1  # of the size of x: a step from which a small residual is no fixed point


class Outcome(NamedTuple):
    """How a solve ended: the best point seen, and the residual there. In a batch all but x have one value a row."""

    x: Leaves
    status: Int[Array, "*rows"]
    nit: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    residual: Float[Array, "*rows"]
    component: Int[Array, "*rows"]
    history: History | None = None


def error_at(kind: Kind, x: Leaves, residual: Leaves, tolerance: Tolerance) -> Float[Array, ""]:
    """max |R| in units of the tolerance: x is a solution if it is at most 1. NaN or infinite where R is."""
    return ratio(residual, tolerance.atol if kind == "root" else tolerance.at(x))


def corrected(
    error: Float[Array, ""], x: Leaves, correction: Leaves, tolerance: Tolerance, known: Bool[Array, ""]
) -> Float[Array, ""]:
    """The error of a root x for which Newton's correction A⁻¹R is known: x is a solution if that is small enough, too.

    It measures the error of x whatever the units of R. But it is small far from a root too, where R grows fast, so it
    does not say which of two points is better.
    """
    close = known & (ratio(correction, tolerance.at(x)) <= 1)
    return _xla.where(close, jnp.fmin(error, 1), error)


def runs_off(x: Leaves, step: Leaves, residual: Leaves, tolerance: Tolerance) -> Bool[Array, ""]:
    """Whether a point with a small F(x) − x is on its way to infinity: where the map moves x ever less, but the step of
    the method, which knows how the residual changes, says that the fixed point is as far away as x is large.

    Not if the residual is rounding, of which no step is made; nor by plain iteration, whose step is the residual.
    """
    size = tuple(jnp.abs(s) * r for s, r in zip(step, tolerance.rtol))
    eps = float(jnp.finfo(_tree.work_dtype(x)).eps)
    return (ratio(size, tolerance.at(x)) > FAR) & (_tree.max_norm(residual) > 16 * eps * _tree.max_norm(x))


def status_of(error: Float[Array, ""], *reasons: tuple[Any, Any], otherwise: Any) -> Int[Array, ""]:
    """`CONVERGED` where the error is at most 1, else the status of the first of the reasons that is true."""
    conditions, statuses = [condition for condition, _ in reasons], [status for _, status in reasons]
    return _xla.select([error <= 1, *conditions], [Status.CONVERGED, *statuses], otherwise).astype(jnp.int32)


def judge(problem: Equations, theta: Leaves, x: Leaves, tolerance: Tolerance, linear_solver: Any) -> Outcome:
    """The verdict on a point that somebody else's solver returned, by one evaluation of our own."""

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    if problem.kind == "fixed_point":
        residual = residual_at(x)
        error = error_at(problem.kind, x, residual, tolerance)
    else:
        residual, A = _linear.linearise(residual_at, x, _linear.is_dense(linear_solver))
        correction, regular = _linear.solve(A, residual, linear_solver, tolerance.at(x))
        error = corrected(error_at(problem.kind, x, residual, tolerance), x, correction, tolerance, regular)
    component = _tree.first_bad(residual)
    finite = component == problem.size
    size = _xla.where(finite, _tree.max_norm(residual), jnp.inf)
    status = status_of(error, (finite, Status.NOT_A_SOLUTION), otherwise=Status.NON_FINITE)
    zero = jnp.zeros((), jnp.int32)
    return Outcome(x, status, zero, zero + 1, size, component)
