"""What the rows of a batch owe each other: a row that has ended waits, and goes on if its neighbours have moved it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _tree
from .._solution import Status
from .row import Carry, Judged, Limits, Row

_CHANGED = 0.1  # relative change of the residual of a failed row at which it is tried again


class Quiet(NamedTuple):
    """Whether all rows of a batch have ended, at this evaluation and at the one before."""

    now: Bool[Array, ""]
    before: Bool[Array, ""]


def unfinished(carry: Carry, batch: bool) -> Bool[Array, ""]:
    running = carry.status == Status.RUNNING
    return jnp.any(running | carry.waiting) if batch else running


def settle(row: Row, carry: Carry, advanced: tuple[Carry, Judged], limits: Limits, quiet: Quiet) -> Carry:
    """What becomes of a row: one that runs goes on, or halts; one that had ended waits."""
    following, judged = advanced
    running = carry.status == Status.RUNNING
    return _tree.where(running, _halt(carry, following), _wait(row, carry, judged, limits, quiet))


def _halt(carry: Carry, following: Carry) -> Carry:
    """A row that has just ended goes to its best point."""
    ended = following._replace(x=following.best, method=carry.method)
    return _tree.where(following.status != Status.RUNNING, ended, following)


def _wait(row: Row, carry: Carry, judged: Judged, limits: Limits, quiet: Quiet) -> Carry:
    """A row that has ended stays at its best point, while others go on, and is judged again when all have.

    Then one that had converged goes on if its neighbours have moved it out of the tolerance, and one that had failed
    if they have changed its residual, for they may have been the cause. If none of these is left, those that failed for
    another reason are tried with the next setting.
    """
    error = judged.error
    error_now = jnp.where(jnp.isfinite(error), error, jnp.inf)
    changed = jnp.isfinite(error) & (jnp.abs(error - carry.error) > _CHANGED * carry.error)
    again = quiet.now & jnp.where(carry.status == Status.CONVERGED, error_now > 1, changed)
    revisited = row.method.revisit(carry.x, carry.method)
    waiting = carry._replace(
        status=jnp.where(error <= 1, Status.CONVERGED, jnp.where(again, Status.RUNNING, carry.status)),
        method=_tree.where(again, revisited, carry.method),
        error=jnp.where(quiet.now, error_now, carry.error),
        residual=jnp.where(jnp.isfinite(error), judged.size, jnp.inf),
        stale=jnp.zeros_like(carry.stale),
    )
    waiting = waiting._replace(
        status=waiting.status.astype(jnp.int32), waiting=~quiet.now | (~quiet.before & row.retries(waiting))
    )
    return row.renew(quiet.now & quiet.before & row.retries(waiting), waiting, limits)
