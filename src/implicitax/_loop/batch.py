"""What the rows of a batch owe each other: a row that has ended waits, and goes on if its neighbours have moved it."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _tree, _xla
from .._solution import Status
from .bounds import Limits
from .row import Carry, Judged, Row

_CHANGED = 0.1  # relative change of the residual of a failed row at which it is tried again
# A row got nowhere if a component of its residual is still this part of what it was at the guess, and this many times
# its tolerance, which rounding is not.
_NOWHERE, _CLEARLY = 0.1, 1e3


class Quiet(NamedTuple):
    """Whether all rows of a batch have ended, at this evaluation and at the one before."""

    now: Bool[Array, ""]
    before: Bool[Array, ""]
    last: Bool[Array, ""]  # at both, and no row has another setting to try

    @classmethod
    def of(cls, row: Row, each: Carry, before: Bool[Array, ""]) -> "Quiet":
        now = ~jnp.any(each.status == Status.RUNNING)
        return cls(now, before, now & before & ~jnp.any(row.retries(each)))


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
    before = following.before and following.before.elsewhere(jnp.asarray(True))
    ended = following._replace(x=following.best, method=carry.method, before=before)
    return _tree.where(following.status != Status.RUNNING, ended, following)


def _wait(row: Row, carry: Carry, judged: Judged, limits: Limits, quiet: Quiet) -> Carry:
    """A row that has ended stays at its best point, while others go on, and is judged again when all have.

    Then one that had converged goes on if its neighbours have moved it out of the tolerance, and one that had failed if
    they have changed its residual, for they may have been the cause: with all settings before it again. If none of
    these is left, those that failed for another reason are tried with the next setting. When there is none, a failed
    row that got nowhere goes back to its guess, and its neighbours go on: where a row without a solution ends is for
    rounding to decide, but its neighbours, and their derivative, in which it is a constant, are to be functions of the
    problem.
    """
    merit, solved, given_up = judged.merit, judged.solved, carry.setting == row.method.settings
    merit_now = _xla.where(jnp.isfinite(merit), merit, jnp.inf)
    changed = jnp.isfinite(merit) & (jnp.abs(merit - carry.merit) > _CHANGED * carry.merit) & ~given_up
    again = quiet.now & _xla.where(carry.status == Status.CONVERGED, ~solved, changed)
    status = _xla.where(solved, Status.CONVERGED, _xla.where(again, Status.RUNNING, carry.status))
    failed = (status < 0) & ~given_up
    gives_up = failed & quiet.last
    nowhere = gives_up & _got_nowhere(carry, judged, limits)
    x = _tree.where_seldom(nowhere, lambda: limits.x0, carry.x)
    revisited = row.method.revisit(carry.x, carry.method)
    waiting = carry._replace(
        x=x,
        best=x,
        status=status.astype(jnp.int32),
        method=_tree.where(again, revisited, carry.method),
        merit=_xla.where(quiet.now, merit_now, carry.merit),
        residual=_xla.where(jnp.isfinite(merit), judged.size, jnp.inf),
        least=jnp.full_like(carry.least, jnp.inf),
        stale=jnp.zeros_like(carry.stale),
        setting=_xla.select([gives_up, again], [row.method.settings, 0], carry.setting).astype(jnp.int32),
        waiting=~quiet.now | gives_up | (~quiet.before & failed),
    )
    return row.renew(quiet.now & quiet.before & row.retries(waiting), waiting, limits)


def _got_nowhere(carry: Carry, judged: Judged, limits: Limits) -> Bool[Array, ""]:
    """Whether a component of the residual is clearly not 0, and hardly better than at the guess."""
    assert carry.at_guess is not None

    def each(r: Array, tolerance: Array, guess: Array) -> Array:
        return jnp.any(~(jnp.abs(r) <= jnp.maximum(_CLEARLY * tolerance, _NOWHERE * jnp.abs(guess))))

    stuck = map(each, judged.residual, limits.tolerance.at(carry.x), carry.at_guess)
    return functools.reduce(jnp.logical_or, stuck)
