"""The rungs of `Ladder`: the table of methods, where each begins, and the norm in which it has to descend."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import _tree, _xla
from .._tree import Leaves
from .contract import Evaluation, Tolerance, row_weights


class Rung(NamedTuple):
    """How the step is taken, where it begins, and what share of the evaluations it has."""

    step: int
    weights: int
    start: int
    evaluations: int
    distance: float = 0  # of a start elsewhere from the guess, in sizes of the guess


BACKTRACKED, UNDAMPED, DOGLEG, MARQUARDT = range(4)
_BY_TOLERANCE, _BY_SIZE, _EQUAL = range(3)  # weights of the rows of R in its norm
_GUESS, _BEST, _ELSEWHERE = range(3)

# Found on the systems of `tests/problems/systems.py`: each rung solves some that those above it do not. The norm in
# which a rung has to descend matters as much as its step, so the two Levenberg-Marquardt rungs differ in it.
RUNGS = (
    Rung(BACKTRACKED, _BY_TOLERANCE, _GUESS, 60),
    Rung(DOGLEG, _EQUAL, _GUESS, 100),
    Rung(UNDAMPED, _EQUAL, _GUESS, 60),
    Rung(MARQUARDT, _BY_SIZE, _BEST, 100),
    Rung(MARQUARDT, _EQUAL, _BEST, 200),
    *(Rung(BACKTRACKED, _BY_TOLERANCE, _ELSEWHERE, 60, 1.0) for _ in range(5)),
    *(Rung(DOGLEG, _EQUAL, _ELSEWHERE, 60, distance) for distance in (0.3, 1.0, 3.0)),
    Rung(BACKTRACKED, _BY_TOLERANCE, _ELSEWHERE, 60, 3.0),  # the last one tells whether A is singular
)


def column(name: str) -> Int[Array, " rungs"]:
    """Of the table, without its distances."""
    return jnp.asarray(np.array([getattr(rung, name) for rung in RUNGS], np.int32))


def start(rung: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
    """The guess, the best point so far, or a point around the guess: drawn at random, always the same."""
    where = column("start")[rung]
    vector = _tree.ravel(x0)
    noise = np.random.default_rng(0).normal(size=(len(RUNGS), vector.size))
    noise = (noise * np.array([[rung.distance] for rung in RUNGS])).astype(vector.dtype)
    size = jnp.maximum(jnp.abs(vector), jnp.mean(jnp.abs(vector)))
    size = _xla.where(jnp.any(vector != 0), size, 1)
    elsewhere = _tree.unravel(vector + size * jnp.asarray(noise)[rung], x0)
    return _tree.where(where == _GUESS, x0, _tree.where(where == _BEST, best, elsewhere))


def norm_weights(at: Evaluation, tolerance: Tolerance, rung: Int[Array, ""]) -> Float[Array, " n"]:
    """Of the components of R in the norm that has to decrease."""
    kind = column("weights")[rung]
    x = jnp.abs(_tree.ravel(at.x))
    largest = _tree.largest((x,))
    change = _tree.matvec(jnp.abs(at.A), jnp.maximum(x, 1e-2 * _xla.where(largest > 0, largest, 1)))
    by_size = _xla.where((change > 0) & jnp.isfinite(change), 1 / change, 1)
    size = _tree.largest(at.residual)
    equal = jnp.ones_like(x) / _xla.where((size > 0) & jnp.isfinite(size), size, 1)
    return _xla.select(
        [kind == _BY_TOLERANCE, kind == _BY_SIZE], [_tree.ravel(row_weights(at.x, at.A, tolerance)), by_size], equal
    )
