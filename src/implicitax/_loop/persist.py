"""Another method, where the one that was chosen has tried all it can."""

from .. import _tree, _xla
from .._problem import Theta
from .._solution import Status
from .bounds import Limits
from .loop import Search, iterate
from .verdict import Outcome


def persist(search: Search, theta: Theta, limits: Limits) -> Outcome:
    """The outcome of the method, or, where it has stalled, of the `later` one, from the best point that is known.

    It stands behind a branch, and costs only its compilation where it is not needed.
    """
    found = iterate(search, theta, limits)
    if search.later is None:
        return found
    stalled = (found.status == Status.STALLED) | (found.status == Status.NO_PROGRESS)
    stalled = _xla.once(stalled & (found.nfev <= search.max_steps))  # not where that is said of the steps allowed
    rest = search._replace(method=search.later, later=None)

    def go_on(found: Outcome) -> Outcome:
        outcome = iterate(rest, theta, limits.beginning_at(found.x), found)
        solved = outcome.status == Status.CONVERGED
        better = _tree.where(solved, outcome, found)
        spent = better._replace(nit=outcome.nit, nfev=outcome.nfev, history=outcome.history)
        return _tree.where(stalled, spent, found)

    return _xla.if_any(stalled, go_on, lambda found: found, found)
