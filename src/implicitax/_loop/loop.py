"""The only loop. A method says where to evaluate next; everything else about an iteration is here, and in `row.py`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _tree, _xla
from .._methods import AbstractMethod
from .._problem import Equations
from .._tree import Leaves
from . import batch
from .batch import Quiet, unfinished
from .bounds import Limits
from .evaluate import Evaluator
from .row import Carry, Row
from .verdict import Outcome
from .watch import Record, Seen, Watch


class Search(NamedTuple):
    """An iteration as it is compiled: what is solved, by which method, for how long."""

    problem: Equations
    method: AbstractMethod
    max_steps: int
    batch_axis: int | None = None
    watch: Watch = Watch()
    by_column: bool = False  # whether each column of a small ∂R/∂x is compiled by itself
    later: AbstractMethod | None = None  # where the method stalls (`persist.py`)
    points: int = 0  # tried around x0, where F is not finite there (`domain.py`)


class _Whole(NamedTuple):
    """What the loop carries: that of each row, whether all had ended before, and what is recorded."""

    each: Carry
    quiet: Bool[Array, ""]
    record: Record | None


def iterate(search: Search, theta: Leaves, limits: Limits, earlier: Outcome | None = None) -> Outcome:
    """Iterates until the residual at the point last evaluated meets the tolerance. What was counted and
    recorded `earlier` goes on.

    Every iteration evaluates the residual at one place of the code, judges that point and asks the method for the
    next: so F is compiled once, and "converged" is always said of the point returned.

    In a batch the residual is evaluated for all rows together, and the rest of the iteration is done row by row: each
    has its own method state, its own best point and its own verdict. A row that has ended stays where it is, at its
    best point, is judged again by every evaluation, and goes on if its neighbours have moved it out of the tolerance.
    One that has failed and got nowhere is put back to its guess (`batch.py`).
    """
    problem, batch_axis, watch, x0 = search.problem, search.batch_axis, search.watch, limits.x0
    is_batch = batch_axis is not None
    rows = x0[0].shape[batch_axis] if is_batch else None
    dtype = _tree.work_dtype(x0)
    row = Row(
        problem.kind, problem.size // (rows or 1), search.method, search.max_steps, dtype, is_batch, search.points
    )
    evaluate = Evaluator(problem, search.method, theta, batch_axis, search.by_column)

    def advance(carry: Carry, residual: Leaves, A: Any, limits: Limits, quiet: Quiet) -> tuple[Carry, Seen]:
        following, judged = row.advance(carry, residual, A, limits)
        if is_batch:
            following = batch.settle(row, carry, (following, judged), limits, quiet)
        else:
            following = row.renew(row.retries(following), following, limits)
        return following, Seen.of(carry.x, following.x, residual, judged.shown)

    start, finish = row.start, row.finish
    if is_batch:
        # Nothing of a row depends on another but by way of the residual.
        limits = limits.each_row(batch_axis)
        start, advance, finish = jax.vmap(start), jax.vmap(advance, in_axes=(0, 0, 0, 0, None)), jax.vmap(finish)

    def body(carry: _Whole) -> _Whole:
        residual, A = evaluate(carry.each.x, unfinished(carry.each, is_batch))
        quiet = Quiet.of(row, carry.each, carry.quiet)
        each, seen = advance(carry.each, residual, A, limits, quiet)
        x = _tree.rows_back(carry.each.x, batch_axis) if watch else ()
        return _Whole(each, quiet.now, watch.look(carry.record, seen, x))

    each = start(limits) if earlier is None else start(limits)._replace(nfev=earlier.nfev)
    first = _Whole(each, jnp.zeros((), bool), watch.start(dtype, rows, earlier))
    first = _xla.varying(first, (*theta, *x0))
    end = jax.lax.while_loop(lambda carry: unfinished(carry.each, is_batch), body, first)
    outcome = finish(end.each, limits)
    return outcome._replace(x=_tree.rows_back(outcome.x, batch_axis), history=watch.end(end.record))
