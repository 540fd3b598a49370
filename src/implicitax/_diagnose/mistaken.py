"""A residual where a map was asked for, or the other way round, and units that differ from those of the guess."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._rule import Found
from .evaluate import Evaluated
from .problem import Case
from .record import Finding, PlainIteration

_DENSE = 50  # unknowns up to which Newton's steps are taken here
_STEPS, _ITERATIONS = 20, 200
_SMALL = 0.3  # of x0: so small a value is none of x, or so close to it
_CLOSER = 0.2  # and in this proportion the solution of the other kind is nearer to the guess
_UNIT, _ROUND = 1.5, 0.25  # decades: from how many on, and how close to a whole number of them, it looks like a unit
_ALIKE = 0.7  # decades that the others are off at most


class _Guess(NamedTuple):
    """x0, the size of its leaves, and what F returns there."""

    x0: np.ndarray
    size: np.ndarray
    value: np.ndarray

    def distance(self, x: np.ndarray) -> float:
        return float(np.max(np.abs(x - self.x0) / self.size))


def kind(case: Case, at: Evaluated, found: Found | None, plain: PlainIteration | None) -> Iterator[Finding]:
    """Whether the other kind of problem suits F better. `found`: the solution, if there is one."""
    guess = _guess(case, at)
    if guess is None or case.batch_axis is not None or not np.all(np.isfinite(guess.value)):
        return
    own = np.inf if found is None else guess.distance(np.asarray(_tree.ravel(found.x)))
    if case.problem.kind == "fixed_point":
        yield from _residual(case, at, guess, own, plain)
    elif np.all(np.abs(guess.value - guess.x0) <= (_SMALL if found else 2 * _SMALL) * guess.size) and own > _SMALL:
        x = _iterated(case, at, guess.x0)
        if x is not None and guess.distance(x) <= _CLOSER * own:
            other = "none is found" if found is None else "the one found is farther away"
            yield Finding(
                "warning",
                "kind",
                f"R may be a fixed-point map: what it returns at x0 is close to x0, x = R(x) has a solution near it, "
                f"and of R(x) = 0 {other}. If it is one, use `ix.fixed_point`.",
            )


def _residual(case: Case, at: Evaluated, guess: _Guess, own: float, plain: PlainIteration | None) -> Iterator[Finding]:
    subtracts = _subtracts(case)
    small = bool(np.all(np.abs(guess.value) <= _SMALL * guess.size)) and not (plain and plain.converged)
    if not (small or subtracts) or case.problem.size > _DENSE:
        return
    x = _root(case, at, guess.x0)
    if x is not None and guess.distance(x) <= _CLOSER * min(own, 1.0) and own > 1e-3:
        why = "it ends by subtracting x" if subtracts else "it is small at x0"
        other = "no fixed point is found" if not np.isfinite(own) else "the fixed point is farther away"
        yield Finding(
            "warning",
            "kind",
            f"F may be a residual: {why}, F(x) = 0 has a solution near x0, and {other}. If it is one, use `ix.root`, "
            'or here kind="root".',
        )


def _guess(case: Case, at: Evaluated) -> _Guess | None:
    """None where a leaf of the guess is 0: nothing is close to that."""
    sizes = [float(jnp.max(jnp.abs(leaf), initial=0)) for leaf in case.x0]
    if min(sizes) == 0:
        return None
    size = np.concatenate([np.full(leaf.size, s) for leaf, s in zip(case.x0, sizes)])
    return _Guess(np.asarray(_tree.ravel(case.x0)), size, at.values(case.x0, case.theta))


def _subtracts(case: Case) -> bool:
    """Whether each output is a difference of something and the leaf of x itself."""
    jaxpr, count = case.problem.jaxpr, len(case.x0)
    made = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    for own, out in zip(jaxpr.invars[:count], jaxpr.outvars[:count]):
        eqn = made.get(out) if isinstance(out, jex_core.Var) else None
        if eqn is None or eqn.primitive.name != "sub" or not any(var is own for var in eqn.invars):
            return False
    return True


def _root(case: Case, at: Evaluated, x: np.ndarray) -> np.ndarray | None:
    """Where F is 0, by Newton's steps, if these converge."""
    for _ in range(_STEPS):
        here = _tree.unravel(jnp.asarray(x), case.x0)
        A, value = at.jacobian(here), at.values(here, case.theta)
        if not (np.all(np.isfinite(A)) and np.all(np.isfinite(value))):
            return None
        step = np.linalg.lstsq(A, -value, rcond=None)[0]
        x = x + step
        if np.max(np.abs(step)) <= 1e-6 * np.max(np.abs(x)):
            return x if np.max(np.abs(A @ step + value)) <= 1e-6 * np.max(np.abs(A)) * np.max(np.abs(x)) else None
    return None


def _iterated(case: Case, at: Evaluated, x: np.ndarray) -> np.ndarray | None:
    """By plain iteration, if that converges."""
    for _ in range(_ITERATIONS):
        following = at.values(_tree.unravel(jnp.asarray(x), case.x0), case.theta)
        if not np.all(np.isfinite(following)):
            return None
        if np.max(np.abs(following - x)) <= 1e-5 * np.max(np.abs(following)):
            return following
        x = following
    return None


def unit(case: Case, at: Evaluated, found: Found | None) -> Iterator[Finding]:
    """One leaf, or one of few unknowns, that is at the solution by decades off its guess, as the others are not."""
    if case.batch_axis is not None:
        return
    names, guess = _by_part(case, case.x0)
    _, end = _by_part(case, case.x0 if found is None else found.x)
    value = _tree.unravel(jnp.asarray(at.values(case.x0, case.theta)), case.x0)
    _, first = _by_part(case, value)
    # A guess of ones and zeros says nothing of units.
    told = ~np.isin(guess, (0.0, 1.0)) & (end > 0) & np.isfinite(end) & np.isfinite(first) & (first > 0)
    if told.sum() < 2 or len(set(guess[told])) < 2:
        return
    end = end if found is not None else first
    decades = np.log10(end / np.where(told, guess, 1), where=told, out=np.zeros(len(names)))
    at_once = np.log10(first / np.where(told, guess, 1), where=told, out=np.zeros(len(names)))
    far = told & (np.abs(decades) >= _UNIT)
    if at.fixed:  # F returns it at once
        far &= np.abs(at_once - decades) < _ALIKE
    if far.sum() != 1 or not np.all(np.abs(decades[told & ~far]) <= _ALIKE):
        return
    i = int(np.argmax(far))
    if abs(decades[i] - np.round(decades[i])) > _ROUND:
        return
    factor = 10 ** abs(int(np.round(decades[i])))
    yield Finding(
        "warning",
        "unit",
        f"The unit of {names[i]} may differ from that of its guess: it is about {guess[i]:.3g} in x0 and {end[i]:.3g} "
        f"{'at the solution' if found is not None else 'in F(x0)'}, a factor of about {factor}, while all else is of "
        "the size of its guess.",
    )


def _by_part(case: Case, x: Any) -> tuple[list[str], np.ndarray]:
    """The names and sizes of the leaves; of a single small one those of its components."""
    if len(x) > 1:
        return list(case.problem.paths), np.array([float(jnp.max(jnp.abs(leaf), initial=0)) for leaf in x])
    few = range(min(case.problem.size, 20)) if case.problem.size <= 20 else ()
    return [case.locate(i) for i in few], np.array([abs(float(np.ravel(x[0])[i])) for i in few])
