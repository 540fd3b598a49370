"""Solves from other guesses, and of the other kind of problem: whether this is the solution that was meant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._rule import Found
from .._solution import Status
from .._tree import Leaves
from . import picard
from .evaluate import Evaluated
from .problem import Case
from .record import Local

_MOST = 1e5  # unknowns, and
_SECONDS = 2.0  # the time of a solve, up to which some more of them are affordable
_AWAY = 1e-3  # of its size, by which a guess is moved that is itself a solution
_FAR = 0.3  # of its size, or of the way that it had to the solution, by which it is moved otherwise
_OTHER = 1e4  # tolerances apart, and in proportion
_NEAR = 3.0  # sizes of the one, in which another is near
_CLOSE = {8: 1e-4, 4: 3e-2}  # of its size, by which each may be off: in float64 and in float32
_APART = 1e-3  # of the size of x, two solutions are not the same


@dataclass(frozen=True)
class Another:
    """A second solution."""

    from_x0: float  # the distance of the guess that has led to it, from x0, relative to its size
    place: str  # the component in which the two are farthest apart,
    here: float  # and what it is in the one,
    there: float  # and in the other
    sure: bool  # whether Newton's correction is small at both
    near: bool  # whether they are not farther apart than three times the size of the one


@dataclass(frozen=True)
class Unstable:
    """x0 is itself a fixed point, and plain iteration from next to it goes away."""

    eigenvalue: complex
    place: str  # the component that moves most,
    here: float  # from here
    there: float | None  # to there; None where it ends nowhere


def unstable_start(case: Case, found: Found, local: Local | None) -> Unstable | None:
    if case.problem.kind == "root" or local is None or not local.radius > 1 or case.batch_axis is not None:
        return None
    x0, x = _flat(case.x0), _flat(found.x)
    if np.any(np.abs(x - x0) > 10 * _flat(case.tolerance.at(found.x))):
        return None
    rng = np.random.default_rng(5)
    size = _sizes(case, found.x)
    start = x0 + _AWAY * size * rng.choice((-1.0, 1.0), x0.size) * rng.uniform(0.5, 1, x0.size)
    last, converged = picard.follow(case, _tree.unravel(jnp.asarray(start), case.x0))
    end = _flat(last)
    moved = np.abs(end - x0) / size
    if np.all(np.isfinite(end)) and np.max(moved) < 10 * _AWAY:
        return None
    worst = int(np.argmax(np.where(np.isfinite(moved), moved, np.inf)))
    there = float(end[worst]) if converged else None
    return Unstable(complex(local.eigenvalues[0]), case.locate(worst), float(x0[worst]), there)


def second_solution(case: Case, solver: Any, found: Found, seconds: float | None) -> Another | None:
    """By the same solver, from guesses near x0."""
    if case.problem.size > _MOST or (seconds or 0) > _SECONDS or case.batch_axis is not None:
        return None
    program, at = case.program(solver), Evaluated(case, case.each_row(np.ones(())))
    x, off = _flat(found.x), at.correction(found.x)
    size = np.maximum(_sizes(case, found.x), 1e-300)
    apart = np.maximum(_OTHER * _flat(case.tolerance.at(found.x)), _APART * size)
    for start in _guesses(_flat(case.x0), x, _sizes(case, case.x0)):
        other = case.solve(program, case.theta, _tree.unravel(jnp.asarray(start), case.x0))
        there = _flat(other.x)
        if np.all(np.asarray(other.outcome.status) == Status.CONVERGED) and np.any(np.abs(there - x) > apart):
            # Of a map that runs off slowly many points meet the tolerance: what Newton's steps say of both decides.
            errors = [each for each in (off, at.correction(other.x)) if each is not None]
            if any(np.any(np.abs(each) > _CLOSE[_tree.work_dtype(found.x).itemsize] * size) for each in errors):
                continue
            worst = int(np.argmax(np.abs(there - x) / size))
            near = bool(np.abs(there - x)[worst] <= _NEAR * size[worst])
            distance = float(np.max(np.abs(start - _flat(case.x0)) / _sizes(case, case.x0)))
            values = float(x[worst]), float(there[worst])
            return Another(distance, case.locate(worst), *values, sure=len(errors) == 2, near=near)
    return None


def _guesses(x0: np.ndarray, x: np.ndarray, size: np.ndarray) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(6)
    for sign in (1, -1):
        yield x0 + sign * _FAR * size
        yield x0 + sign * _FAR * size * rng.choice((-1.0, 1.0), x0.size)
    yield x0 - _FAR * (x - x0)
    yield x0 - (x - x0)


def _flat(leaves: Leaves) -> np.ndarray:
    return np.asarray(_tree.ravel(leaves))


def _sizes(case: Case, x: Leaves) -> np.ndarray:
    """Of each unknown that of its leaf; 1 of one that is 0."""
    sizes = (np.full(leaf.shape, float(jnp.max(jnp.abs(leaf), initial=0)) or 1.0) for leaf in x)
    return np.concatenate([size.ravel() for size in sizes])
