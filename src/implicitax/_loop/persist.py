"""Another method: where the one that was chosen has tried all it can, or before it, where it has less to go by."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .. import _tree, _xla
from .._errors.raising import on_host
from .._methods import Bracket
from .._problem import Theta
from .._solution import Status
from .bounds import Limits
from .loop import Search, iterate
from .verdict import Outcome

# How a method ends of which another one may know more.
_MORE = (Status.STALLED, Status.NO_PROGRESS, Status.SINGULAR)


def persist(search: Search, theta: Theta, limits: Limits) -> Outcome:
    """The outcome of the method, or, where it has stalled, of the `later` one, from the best point that is known.

    It stands behind a branch, and costs only its compilation where it is not needed.
    """
    found = iterate(search, theta, limits)
    if search.later is None:
        return found
    stalled = functools.reduce(jnp.logical_or, (found.status == status for status in _MORE))
    stalled = _xla.once(stalled & (found.nfev <= search.max_steps))  # not where that is said of the steps allowed
    rest = search._replace(method=search.later, later=None)

    def go_on(found: Outcome) -> Outcome:
        # Of a fixed point from the best point: plain iteration has led there. Newton's steps have, and led nowhere.
        begin = limits if search.problem.kind == "root" else limits.beginning_at(found.x)
        outcome = iterate(rest, theta, begin, found)
        solved = outcome.status == Status.CONVERGED
        better = _tree.where(solved, outcome, found)
        spent = better._replace(nit=outcome.nit, nfev=outcome.nfev, history=outcome.history)
        return _tree.where(stalled, spent, found)

    return _xla.if_any(stalled, go_on, lambda found: found, found)


def bracket(search: Search, theta: Theta, limits: Limits) -> Outcome:
    """Of a root of one unknown between two bounds: what `Bracket` finds, or, if nothing, the outcome of the method."""
    bounds, (x0,) = limits.bounds, limits.x0
    assert bounds is not None
    lower, upper = (jnp.asarray(side[0], x0.dtype).reshape(()) for side in bounds)
    fit = jnp.isfinite(lower) & jnp.isfinite(upper) & bounds.contain((x0,))[0].reshape(())
    between = Bracket.between(_xla.where(fit, lower, -1), _xla.where(fit, upper, 1))
    # From a guess that is NaN it does nothing.
    start = limits._replace(x0=(_xla.where(fit, x0, jnp.nan),), bounds=None)
    found = iterate(search._replace(method=between), theta, start)
    unsolved = _xla.once((found.status != Status.CONVERGED) & (found.nfev <= search.max_steps))

    def go_on(found: Outcome) -> Outcome:
        return _tree.where(unsolved, iterate(search, theta, limits, found), found)

    return _xla.if_any(unsolved, go_on, lambda found: found, found)


class InTurn:
    """A compiled solve with a method in reserve, which takes longer to compile than all the rest: outside `jit`, where
    Python sees how a solve has ended, that is done when it is first needed; then the solve is made once more."""

    def __init__(self, first: Callable[..., Any], whole: Any):
        """The programs without the other method, and with it; what they return has an `outcome`."""
        self._first, self._whole, self._needed = first, whole, False
        self.trace = whole.trace  # as a compiled function has it

    def __call__(self, *given: Any) -> Any:
        if not self._needed and not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
            found = self._first(*given)
            # In NumPy: an operation of JAX takes as long as a small solve.
            ended = on_host(found.outcome.status)
            self._needed = bool(ended.any()) and any((ended == status).any() for status in _MORE)
            if not self._needed:
                return found
        return self._whole(*given)
