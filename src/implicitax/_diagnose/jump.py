"""Whether F jumps where the residual changes its sign: then there is no solution between the two sides."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._tree import Leaves
from .evaluate import Evaluated

_REACH = tuple(sign * 2.0**k for k in range(-12, 3) for sign in (1, -1))  # steps along the residual that are tried
_BISECTIONS = 60
_LEFT = 0.05  # of the residual that was: more on both sides of a change of sign is a jump


class Jump(NamedTuple):
    """Two neighbouring points between which F changes by a jump."""

    place: str  # the unknown
    x: float
    change: float  # of F, in that component


def look(at: Evaluated, x: Leaves) -> Jump | None:
    """Along the direction of the residual at x; None if nothing is found."""
    start = np.asarray(_tree.ravel(x))

    def residual(t: float) -> np.ndarray:
        moved = start + t * first
        values = at.values(_tree.unravel(jnp.asarray(moved), x), at.case.theta)
        return values - moved if at.fixed else values

    first = np.zeros_like(start)
    first = residual(0.0)
    length = float(first @ first)
    if not np.isfinite(length) or length == 0:
        return None
    along = lambda t: float(residual(t) @ first) / length
    high = next((t for t in sorted(_REACH, key=abs) if along(t) < 0), None)
    if high is None:
        return None
    low = 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if along(middle) < 0 else (middle, high)
    sides = residual(low), residual(high)
    if along(low) < _LEFT or along(high) > -_LEFT or not np.all(np.isfinite(sides)):
        return None
    change = sides[1] - sides[0]
    worst = int(np.argmax(np.abs(change * first)))
    return Jump(at.case.locate(worst), float(start[worst] + low * first[worst]), float(change[worst]))
