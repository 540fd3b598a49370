"""The verdict on a point that somebody else's solver returned, or a method that knows no ∂R/∂x."""

import functools
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .. import _linear, _tree, _xla
from .._methods import AbstractMethod, Evaluation, Needs, Proposal, Tolerance, ratio, typical_size
from .._problem import Equations, Problem, Theta
from .._solution import Status
from .._tree import Leaves
from .bounds import Limits
from .loop import Search, iterate
from .verdict import Outcome

_ROUNDING = 16  # times eps Σⱼ|Cᵢⱼ xⱼ| is a constraint that holds but for rounding
_LOOKS = 4  # evaluations: of the point, and of a probe on either side of it
# How the loop ends that looks at a point which is no solution.
_NONE = (Status.STEP_LIMIT, Status.STALLED, Status.UNRESOLVED, Status.UNCERTIFIED, Status.NON_FINITE_GUESS)


def judge(
    problem: Equations, theta: Leaves, limits: Limits, linear_solver: Any, batch_axis: int | None = None
) -> Outcome:
    """The verdict on `limits.x0`, by the loop: of a fixed point by one evaluation, of a root by one of R and A and one
    or two probes. The point itself is what is returned."""
    method = _Look()
    if problem.kind == "root":
        method = _Check(linear_solver)
    outcome = iterate(Search(problem, method, _LOOKS - 1, batch_axis), theta, limits)
    status = outcome.status
    failed = functools.reduce(jnp.logical_or, (status == each for each in _NONE))
    finite = jnp.isfinite(outcome.residual)
    status = _xla.where(failed, _xla.where(finite, Status.NOT_A_SOLUTION, Status.NON_FINITE), status).astype(jnp.int32)
    return outcome._replace(x=limits.x0, status=status, nit=jnp.zeros_like(outcome.nit))


def confirm(search: Search, outcome: Outcome, theta: Leaves, limits: Limits, linear_solver: Any) -> Outcome:
    """The outcome of a method that knows no A, with the verdict on what it takes for a root."""
    verdict = judge(search.problem, theta, limits._replace(x0=outcome.x), linear_solver, search.batch_axis)
    found = _xla.where(verdict.status == Status.NOT_A_SOLUTION, Status.STALLED, verdict.status)
    status = _xla.where(outcome.status == Status.CONVERGED, found, outcome.status).astype(jnp.int32)
    return outcome._replace(status=status, nfev=outcome.nfev + verdict.nfev)


def constrain(problem: Problem, outcome: Outcome, theta: Theta, limits: Limits) -> Outcome:
    """The outcome, a success only where the condition holds, too: as exactly as the tolerance of x lets it."""
    if not problem.constrained:
        return outcome
    value, slope = problem.condition(outcome.x, theta)
    x, slope = _tree.ravel(outcome.x), jnp.abs(slope)
    tolerance = _tree.ravel(limits.tolerance.at(outcome.x))
    allowed = _tree.matvec(slope, 2 * tolerance + _ROUNDING * jnp.finfo(x.dtype).eps * jnp.abs(x))
    unmet = (outcome.status == Status.CONVERGED) & ~jnp.all(jnp.abs(value) <= allowed)
    status = _xla.where(unmet, Status.CONTRADICTION, outcome.status).astype(jnp.int32)
    if problem.excess is not None:  # the condition is R = 0, and what has been solved are combinations of it
        outcome = outcome._replace(residual=_xla.max_abs(value).astype(outcome.residual.dtype))
    return outcome._replace(status=status)


def compare(problem: Problem, outcome: Outcome, theta: Theta, structure: _linear.Structure | None) -> Outcome:
    """The outcome, a success only where the pattern that the user has given leaves out nothing of ∂R/∂x at x."""
    if structure is None or not problem.differentiable:  # differences are too coarse to tell
        return outcome
    _, A = _linear.linearise(lambda x: problem.residual(x, theta), outcome.x, structure, verify=True)
    assert isinstance(A, _linear.Structured)
    # A solve that has failed has done so because of that, as a rule.
    wrong = ~A.faithful & jnp.isfinite(outcome.residual)
    status = _xla.where(wrong, Status.INCOMPLETE_PATTERN, outcome.status).astype(jnp.int32)
    return outcome._replace(status=status, component=_xla.where(wrong, A.lacking, outcome.component))


class _Look(AbstractMethod):
    """Stays where it is."""

    kinds = ("fixed_point", "root")

    def init(self, x: Leaves, setting: Array) -> Leaves:
        return x

    def step(self, at: Evaluation, state: Leaves, tolerance: Tolerance) -> Proposal:
        return Proposal(state, state, Status.STALLED)


class _Check(_Look):
    """Stays where it is, and knows Newton's correction."""

    linear_solver: _linear.LinearSolver
    needs = Needs.EITHER
    corrects = True
    recovers = True

    def step(self, at: Evaluation, state: Leaves, tolerance: Tolerance) -> Proposal:
        scale = typical_size(at.x, tolerance)
        step, regular = _linear.correct(at.A, at.residual, self.linear_solver, scale)
        known = tuple(_xla.where(regular, leaf, jnp.inf).astype(leaf.dtype) for leaf in step)
        far = ratio(known, tolerance.at(at.x)) > 2
        return Proposal(state, state, _xla.where(far, Status.STALLED, Status.RUNNING), known)
