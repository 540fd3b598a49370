"""The only loop. A method says where to evaluate next; everything else about an iteration is here."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import _linear, _tree
from ._methods import AbstractSolver, Evaluation, Tolerance, ratio
from ._problem import Problem
from ._solution import Status
from ._tree import Leaves

PATIENCE = 500  # evaluations without a new best residual after which a solve has stalled


class Outcome(NamedTuple):
    """How a solve ended: the best point seen, and the residual there."""

    x: Leaves
    status: Int[Array, ""]
    nit: Int[Array, ""]
    nfev: Int[Array, ""]
    residual: Float[Array, ""]
    component: Int[Array, ""]


class _Carry(NamedTuple):
    x: Leaves  # where to evaluate next
    method: Any
    status: Int[Array, ""]
    nfev: Int[Array, ""]
    best: Leaves
    error: Float[Array, ""]  # at the best point, in units of the tolerance: converged if at most 1
    residual: Float[Array, ""]
    improved: Int[Array, ""]  # nfev when the best point was found
    component: Int[Array, ""]


def iterate(
    problem: Problem, method: AbstractSolver, theta: Leaves, x0: Leaves, tolerance: Tolerance, max_steps: int
) -> Outcome:
    """Iterates until the residual at the point last evaluated meets the tolerance.

    Every iteration evaluates the residual at one place of the code, judges that point and asks the method for the
    next: so F is compiled once, and "converged" is always said of the point returned.
    """
    count, dtype, linear_solver = problem.size, _tree.work_dtype(x0), method.solver_of_steps()

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    def body(carry: _Carry) -> _Carry:
        if linear_solver is None:
            residual, A = residual_at(carry.x), None
        else:
            residual, A = _linear.linearise(residual_at, carry.x, linear_solver)
        component = _tree.first_bad(residual)
        finite = component == count

        proposal = method.step(Evaluation(carry.x, residual, A, finite), carry.method, tolerance)
        error = ratio(residual, tolerance.atol if problem.kind == "root" else tolerance.at(carry.x))
        if problem.kind == "root" and proposal.correction is not None:
            # Newton's correction measures the error of x whatever the units of R.
            error = jnp.fmin(error, ratio(proposal.correction, tolerance.at(carry.x)))
        error = jnp.where(finite, error, jnp.inf).astype(dtype)

        nfev = carry.nfev + 1
        better = error < carry.error
        improved = jnp.where(better, nfev, carry.improved)
        failed_here = ~finite & ((carry.nfev == 0) | (not method.recovers))
        status = jnp.select(
            [error <= 1, failed_here, proposal.status != Status.RUNNING, nfev > max_steps, nfev - improved > PATIENCE],
            [Status.CONVERGED, Status.NON_FINITE, proposal.status, Status.STEP_LIMIT, Status.STALLED],
            Status.RUNNING,
        )
        return _Carry(
            x=proposal.x,
            method=proposal.state,
            status=status.astype(jnp.int32),
            nfev=nfev,
            best=_tree.where(better, carry.x, carry.best),
            error=jnp.where(better, error, carry.error),
            residual=jnp.where(better, _tree.max_norm(residual), carry.residual),
            improved=improved,
            component=jnp.where(finite, carry.component, component),
        )

    zero, infinite = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, dtype)
    component = _tree.first_bad(x0)
    status = jnp.where(component < count, Status.NON_FINITE_GUESS, Status.RUNNING).astype(jnp.int32)
    start = _Carry(x0, method.init(x0), status, zero, x0, infinite, infinite, zero, component)
    start = _tree.varying(start, (*theta, *x0))
    end = jax.lax.while_loop(lambda carry: carry.status == Status.RUNNING, body, start)
    nit = jnp.maximum(end.nfev - 1, 0)
    return Outcome(end.best, end.status, nit, end.nfev, end.residual, end.component)


def judge(problem: Problem, theta: Leaves, x: Leaves, nit: Array, tolerance: Tolerance, linear_solver: Any) -> Outcome:
    """The verdict on a point that somebody else's solver returned, by one evaluation of our own."""

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    if problem.kind == "fixed_point":
        residual = residual_at(x)
        error = ratio(residual, tolerance.at(x))
    else:
        residual, A = _linear.linearise(residual_at, x, linear_solver)
        correction, regular = _linear.solve(A, residual, linear_solver, tolerance.at(x))
        scaled = jnp.where(regular, ratio(correction, tolerance.at(x)), jnp.inf)
        error = jnp.fmin(ratio(residual, tolerance.atol), scaled)
    component = _tree.first_bad(residual)
    finite = component == problem.size
    status = jnp.where(error <= 1, Status.CONVERGED, jnp.where(finite, Status.NOT_A_SOLUTION, Status.NON_FINITE))
    one = jnp.ones((), jnp.int32)
    size = jnp.where(finite, _tree.max_norm(residual), jnp.inf)
    return Outcome(x, status.astype(jnp.int32), nit.astype(jnp.int32), one, size, component)
