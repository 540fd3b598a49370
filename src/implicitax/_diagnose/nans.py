"""NaN inside F: where it arises, what hides it, and in which derivative it shows."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .._errors.lines import Line
from .._tree import Leaves
from .evaluate import Evaluated
from .inside import MOST, Operation, of_cotangents, of_values


class Hidden(NamedTuple):
    """NaN that a test for NaN takes out."""

    born: Line | None
    by: str  # `nan_to_num`, `nanmean`
    at: Line | None


class Nans(NamedTuple):
    """All of it, at the solution."""

    hidden: Hidden | None
    branch: Line | None  # where NaN arises in a branch that is not taken
    lacking: tuple[str, ...]  # inputs by which F has no finite derivative in reverse mode,
    slope: Line | None  # where that arises,
    infinite: bool  # and whether it is infinite there, and not a NaN that the values have too


def look(at: Evaluated, x: Leaves) -> Nans | None:
    """None where F is too large, or not finite itself."""
    theta = at.case.theta
    if at.case.problem.operations > MOST or not np.all(np.isfinite(at.values(x, theta))):
        return None
    values = of_values(at, x)
    born = [operation for operation in values if operation.born]
    lost = [operation for operation in values if operation.lost]
    tested = next((operation for operation in lost if operation.tested), None)
    hidden = Hidden(_first(born), tested.function, tested.line) if tested and born else None
    branch = _first(born) if born and hidden is None else None
    lacking = _lacking(at, x)
    slope, infinite = None, False
    if lacking:
        seen = of_cotangents(at, x)
        slope = _first([operation for operation in seen if operation.born])
        infinite = not born
    return Nans(hidden, branch, lacking, slope, infinite)


def _first(operations: list[Operation]) -> Line | None:
    """The line of the first; of one of our own there is none."""
    return next((operation.line for operation in operations if operation.line), None)


def _lacking(at: Evaluated, x: Leaves) -> tuple[str, ...]:
    u = np.random.default_rng(4).normal(size=at.case.problem.size)
    try:
        of_x, of_theta = at.reverse(x, at.case.theta, u)
    except Exception:  # F has no reverse mode at all
        return ()
    names = (*at.case.problem.paths, *(at.case.names[i] for i in at.chosen))
    inputs = (*x, *at.smooth(at.case.theta))
    return tuple(
        name
        for name, value, leaf in zip(names, (*of_x, *of_theta), inputs)
        # An input that is itself NaN is another matter.
        if not np.all(np.isfinite(value)) and bool(jnp.all(jnp.isfinite(leaf)))
    )
