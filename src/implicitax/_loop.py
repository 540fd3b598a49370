"""The only loop. A method says where to evaluate next; everything else about an iteration is here."""

from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _linear, _tree
from ._bounds import Bounds
from ._methods import AbstractSolver, Evaluation, Tolerance, ratio
from ._problem import Equations
from ._solution import History, Status
from ._tree import Leaves
from ._watch import Record, Seen, Watch

_CHANGED = 0.1  # relative change of the residual of a failed row at which it is tried again


class Outcome(NamedTuple):
    """How a solve ended: the best point seen, and the residual there. In a batch all but x have one value a row."""

    x: Leaves
    status: Int[Array, "*rows"]
    nit: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    residual: Float[Array, "*rows"]
    component: Int[Array, "*rows"]
    history: History | None = None


class _Carry(NamedTuple):
    x: Leaves  # where to evaluate next
    method: Any
    status: Int[Array, "*rows"]
    nfev: Int[Array, "*rows"]
    best: Leaves
    error: Float[Array, "*rows"]  # at the best point, in units of the tolerance: converged if at most 1
    residual: Float[Array, "*rows"]
    stale: Int[Array, "*rows"]  # evaluations since the best point was found, or since the setting began
    component: Int[Array, "*rows"]
    pressed: Int[Array, "*rows"]  # the first unknown that lies against a bound at x; their number if none does
    setting: Int[Array, "*rows"]  # of the method's settings, the one in use
    waiting: Bool[Array, "*rows"]  # a row that has ended, but has to be looked at again


class _Whole(NamedTuple):
    """What the loop carries: that of each row, whether all had ended before, and what is recorded."""

    each: _Carry
    quiet: Bool[Array, ""]
    record: Record | None


class _Quiet(NamedTuple):
    """Whether all rows of a batch have ended, at this evaluation and at the one before."""

    now: Bool[Array, ""]
    before: Bool[Array, ""]


class _Limits(NamedTuple):
    """What an iteration needs to know about one row, or about the whole where there are none."""

    x0: Leaves
    tolerance: Tolerance
    bounds: Bounds | None


def iterate(
    problem: Equations,
    method: AbstractSolver,
    theta: Leaves,
    x0: Leaves,
    tolerance: Tolerance,
    max_steps: int,
    batch_axis: int | None = None,
    bounds: Bounds | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Iterates until the residual at the point last evaluated meets the tolerance.

    Every iteration evaluates the residual at one place of the code, judges that point and asks the method for the
    next: so F is compiled once, and "converged" is always said of the point returned.

    In a batch the residual is evaluated for all rows together, and the rest of the iteration is done row by row: each
    has its own method state, its own best point and its own verdict. A row that has ended stays where it is, at its
    best point, is judged again by every evaluation, and goes on if its neighbours have moved it out of the tolerance.
    """
    linear_solver, dtype = method.solver_of_steps(), _tree.work_dtype(x0)
    rows = None if batch_axis is None else x0[0].shape[batch_axis]
    count = problem.size // (rows or 1)

    def residual_at(x: Leaves) -> Leaves:
        return _tree.rows_first(problem.residual(_tree.rows_back(x, batch_axis), theta), batch_axis)

    def evaluate(x: Leaves) -> tuple[Leaves, Any]:
        if linear_solver is None:
            return residual_at(x), None
        if rows is None:
            return _linear.linearise(residual_at, x, linear_solver, problem.is_simple)
        return _linear.linearise_rows(residual_at, x)

    def evaluate_once(carry: _Carry) -> tuple[Leaves, Any]:
        """`evaluate` behind a branch that is always taken. Without it XLA on CPU compiles F, and its tangents, once for
        each kernel that uses the result: for Newton's method 20 times, of which it computes several. (Of a large x the
        branch would cost a copy.)"""
        x, matrix_free = carry.x, not (linear_solver is None or _linear.is_dense(linear_solver))
        if matrix_free or problem.size > _linear.DENSE:
            return evaluate(x)
        matrix = (*(() if rows is None else (rows,)), count, count)
        nothing = x, None if linear_solver is None else jnp.zeros(matrix, dtype)
        nothing = _tree.varying(nothing, (*theta, *x))
        return jax.lax.cond(eqxi.unvmap_any(unfinished(carry)), evaluate, lambda _: nothing, x)

    def unfinished(carry: _Carry) -> Bool[Array, ""]:
        running = carry.status == Status.RUNNING
        return running if rows is None else jnp.any(running | carry.waiting)

    def start(limits: _Limits) -> _Carry:
        x = limits.x0
        zero, infinite = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, dtype)
        component = _tree.first_bad(x)
        status = jnp.where(component < count, Status.NON_FINITE_GUESS, Status.RUNNING)
        if limits.bounds is not None:
            outside = _tree.first(tuple(~inside for inside in limits.bounds.contain(x)))
            status = jnp.where((status == Status.RUNNING) & (outside < count), Status.GUESS_OUT_OF_BOUNDS, status)
            component = jnp.where(component < count, component, outside)
        return _Carry(
            x=x,
            method=method.init(x, zero),
            status=status.astype(jnp.int32),
            nfev=zero,
            best=x,
            error=infinite,
            residual=infinite,
            stale=zero,
            component=component,
            pressed=jnp.asarray(count, jnp.int32),
            setting=zero,
            waiting=zero != 0,
        )

    def advance(carry: _Carry, residual: Leaves, A: Any, limits: _Limits, quiet: _Quiet) -> tuple[_Carry, Seen]:
        tolerance = limits.tolerance
        size = _tree.largest(residual)
        finite = _tree.once(jnp.isfinite(size))
        error = ratio(residual, tolerance.atol if problem.kind == "root" else tolerance.at(carry.x))
        error = jnp.where(finite, error, jnp.inf).astype(dtype)
        best = _tree.where(error < carry.error, carry.x, carry.best)
        proposal = method.step(Evaluation(carry.x, residual, A, finite, best), carry.method, tolerance)
        if problem.kind == "root" and proposal.correction is not None:
            # Newton's correction measures the error of x whatever the units of R. But it is small far from a root too,
            # where R grows fast, so it does not say which of two points is better.
            # And at a bound it may be small because A is large.
            close = finite & (ratio(proposal.correction, tolerance.at(carry.x)) <= 1) & (carry.pressed == count)
            error = jnp.where(close, jnp.fmin(error, 1), error)
            best = _tree.where(error < carry.error, carry.x, carry.best)

        nfev = carry.nfev + 1
        better = _tree.once(error < carry.error)
        stale = jnp.where(better, 0, carry.stale + 1)
        failed_here = ~finite & ((carry.nfev == 0) | (not method.recovers))
        status = _tree.select(
            [error <= 1, failed_here, nfev > max_steps, proposal.status != Status.RUNNING, stale > method.patience],
            [Status.CONVERGED, Status.NON_FINITE, Status.STEP_LIMIT, proposal.status, Status.STALLED],
            Status.RUNNING,
        ).astype(jnp.int32)
        x, pressed = proposal.x, carry.pressed
        if limits.bounds is not None:
            x = limits.bounds.shorten(carry.x, x)
            pressed = limits.bounds.pressed(x, limits.x0)
        following = _Carry(
            x=x,
            method=proposal.state,
            status=status,
            nfev=nfev,
            best=best,
            error=jnp.where(better, error, carry.error),
            residual=jnp.where(better, size, carry.residual),
            stale=stale,
            component=_where_bad(finite, residual, carry.component),
            pressed=pressed,
            setting=carry.setting,
            waiting=status != Status.RUNNING,
        )
        if rows is not None:
            following = _either(
                carry.status == Status.RUNNING, halt(carry, following), wait(carry, error, size, quiet, limits)
            )
        else:
            following = renew_where(retries(following), following, limits)
        return following, Seen.of(carry.x, following.x, residual, error)

    def retries(carry: _Carry) -> Bool[Array, ""]:
        """Whether the method has another setting for what has just failed."""
        lost = (carry.status < 0) & (carry.status != Status.STEP_LIMIT) & jnp.isfinite(carry.error)
        return _tree.once(lost & (carry.setting + 1 < method.settings))

    def renew_where(predicate: Bool[Array, ""], carry: _Carry, limits: _Limits) -> _Carry:
        """On with the next setting."""
        if method.settings == 1:
            return carry
        setting = carry.setting + predicate

        def start() -> Leaves:
            x = method.start(setting, carry.best, limits.x0)
            return x if limits.bounds is None else limits.bounds.shorten(limits.x0, x)

        return carry._replace(
            x=_tree.where_seldom(predicate, start, carry.x),
            method=_either(predicate, method.renew(carry.method, setting), carry.method),
            status=jnp.where(predicate, Status.RUNNING, carry.status).astype(jnp.int32),
            stale=jnp.where(predicate, 0, carry.stale),
            setting=setting,
        )

    def halt(carry: _Carry, following: _Carry) -> _Carry:
        """A row that has just ended goes to its best point."""
        ended = following._replace(x=following.best, method=carry.method)
        return _either(following.status != Status.RUNNING, ended, following)

    def wait(carry: _Carry, error: Array, size: Array, quiet: _Quiet, limits: _Limits) -> _Carry:
        """A row that has ended stays at its best point, while others go on, and is judged again when all have.

        Then one that had converged goes on if its neighbours have moved it out of the tolerance, and one that had
        failed if they have changed its residual, for they may have been the cause. If none of these is left, those
        that failed for another reason are tried with the next setting.
        """
        error_now = jnp.where(jnp.isfinite(error), error, jnp.inf)
        changed = jnp.isfinite(error) & (jnp.abs(error - carry.error) > _CHANGED * carry.error)
        again = quiet.now & jnp.where(carry.status == Status.CONVERGED, error_now > 1, changed)
        revisited = method.revisit(carry.x, carry.method)
        waiting = carry._replace(
            status=jnp.where(error <= 1, Status.CONVERGED, jnp.where(again, Status.RUNNING, carry.status)),
            method=_either(again, revisited, carry.method),
            error=jnp.where(quiet.now, error_now, carry.error),
            residual=jnp.where(jnp.isfinite(error), size, jnp.inf),
            stale=jnp.zeros_like(carry.stale),
        )
        waiting = waiting._replace(
            status=waiting.status.astype(jnp.int32), waiting=~quiet.now | (~quiet.before & retries(waiting))
        )
        return renew_where(quiet.now & quiet.before & retries(waiting), waiting, limits)

    def finish(carry: _Carry, limits: _Limits) -> Outcome:
        status, component = carry.status, carry.component
        if limits.bounds is not None:
            blocked = (carry.pressed < count) & (status < 0) & (carry.nfev > 0)
            status = jnp.where(blocked, Status.AT_BOUND, status)
            component = jnp.where(blocked, carry.pressed, component)
        nit = jnp.maximum(carry.nfev - 1, 0)
        return Outcome(carry.best, status.astype(jnp.int32), nit, carry.nfev, carry.residual, component)

    # Nothing of a row depends on another but by way of the residual.
    limits = _Limits(x0, tolerance, bounds)
    if batch_axis is not None:
        limits = _Limits(
            _tree.rows_first(x0, batch_axis),
            tolerance.each_row(x0, batch_axis),
            bounds and bounds.each_row(x0, batch_axis),
        )
        start, advance, finish = jax.vmap(start), jax.vmap(advance, in_axes=(0, 0, 0, 0, None)), jax.vmap(finish)

    watch = watch or Watch()

    def body(carry: _Whole) -> _Whole:
        residual, A = evaluate_once(carry.each)
        quiet = _Quiet(~jnp.any(carry.each.status == Status.RUNNING), carry.quiet)
        each, seen = advance(carry.each, residual, A, limits, quiet)
        return _Whole(each, quiet.now, watch.look(carry.record, seen))

    first = _Whole(start(limits), jnp.zeros((), bool), watch.start(dtype, rows))
    end = jax.lax.while_loop(lambda carry: unfinished(carry.each), body, _tree.varying(first, (*theta, *x0)))
    outcome = finish(end.each, limits)
    return outcome._replace(x=_tree.rows_back(outcome.x, batch_axis), history=watch.end(end.record))


def _where_bad(finite: Bool[Array, ""], residual: Leaves, component: Int[Array, ""]) -> Int[Array, ""]:
    """The first component that is not finite, sought only where there is one; else as it was."""
    if _tree.size(residual) <= _tree.FEW:
        return jnp.where(finite, component, _tree.first_bad(residual))
    seek = lambda: jnp.where(finite, component, _tree.first_bad(residual))
    return jax.lax.cond(eqxi.unvmap_all(finite), lambda: component, seek)


def _either(predicate: Bool[Array, ""], a: Any, b: Any) -> Any:
    return jax.tree.map(lambda ai, bi: jnp.where(predicate, ai, bi), a, b)


def judge(
    problem: Equations,
    theta: Leaves,
    x: Leaves,
    nit: Array,
    tolerance: Tolerance,
    linear_solver: Any,
) -> Outcome:
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
