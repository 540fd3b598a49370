"""F when one input moves: by its values, and by what it says of its derivative.

Nothing is solved here. So what is found is F's own, and not that of a solver, of a tolerance or of another solution.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._methods import typical_size
from .._tree import Leaves
from .evaluate import Evaluated

Verdict = Literal["agrees", "still", "steps", "beyond", "cut", "wrong", "undefined", "unclear"]
_FAR = (1e-2, 0.1, 0.5, 1.0, 3.0, 10.0)  # how far an input is moved, in its own units, where F did not change nearby
_BISECTIONS = 50
_DRAWS = 2
_SECONDS = 20.0  # after which no more parameters are looked at
_CLEARLY = 1e3  # times rounding
_JUMP = 1e-2  # of the whole change: so much between two points next to each other is a jump
_WRONG = 1e-3  # relative error of a derivative
_CLEAR = 0.03  # and of the differences, beyond which nothing is said
_ROUNDING = 64  # times eps, of the values of F


@dataclass(frozen=True)
class Moved:
    """What F does, and says that it does, when one input moves along a random direction in its own units."""

    name: str
    state: bool  # whether it is a part of x, not of θ
    verdict: Verdict
    reach: float  # by how much it moves, in its own units, before F changes
    says: float  # the largest component, in units of x, of the derivative that F has by its rules,
    changes: float  # and of that which its values have
    partly: bool = False  # whether these are some entries of an input only
    hides: bool = False  # whether a component changes that does not by its derivative

    @property
    def flat(self) -> bool:
        return self.verdict in ("steps", "beyond")


class Part(NamedTuple):
    """Entries of one input: those by which F has a derivative, or those by which it has none."""

    name: str
    state: bool
    leaf: int  # which of them
    mask: np.ndarray


def look(at: Evaluated, x: Leaves) -> tuple[Moved, ...]:
    """Every leaf of x, and of θ as long as there is time; nothing where F has no derivative: that is said elsewhere."""
    problem, moving = at.case.problem, tuple(at.chosen)
    if problem.lacks(moving, reverse=False) and problem.lacks(moving, reverse=True):
        return ()
    found = []
    rng, start = np.random.default_rng(3), time.perf_counter()
    noise = _noise(at, x)
    for part in _parts(at, x, rng):
        if not part.state and time.perf_counter() - start > _SECONDS:
            break
        found.append(_Line(at, x, part, noise, rng).judged())
    return tuple(found)


def _parts(at: Evaluated, x: Leaves, rng: np.random.Generator) -> Iterator[Part]:
    theta = at.case.theta
    try:
        pulled = [at.reverse(x, theta, rng.normal(size=at.case.problem.size)) for _ in range(2)]
        dead = [[np.all(np.array(each) == 0, axis=0) for each in zip(*leaves)] for leaves in zip(*pulled)]
    except Exception:  # F has no reverse mode
        dead = [[np.zeros(leaf.shape, bool) for leaf in leaves] for leaves in (x, at.smooth(theta))]
    names = at.case.problem.paths, tuple(at.case.names[i] for i in at.chosen)
    rows = _tree.unravel(jnp.asarray(at.keep, _tree.work_dtype(x)), x)
    for state, leaf_names, masks in zip((True, False), names, dead):
        for index, (name, mask) in enumerate(zip(leaf_names, masks)):
            for side in (~mask, mask):
                side = side & (np.asarray(rows[index]) != 0) if state else side
                if side.any():
                    yield Part(_named(name, side, at.case.batch_axis), state, index, side)


def _named(name: str, mask: np.ndarray, batch_axis: int | None) -> str:
    if mask.all() or batch_axis is not None:
        return name
    first = f"{name}[{', '.join(map(str, np.argwhere(mask)[0]))}]"
    more = int(mask.sum()) - 1
    return f"{first} and {more} more of {name}" if more else first


def _noise(at: Evaluated, x: Leaves) -> np.ndarray:
    """How the values change when the last digits of x do. At a root R is 0, and what it is made of is not."""
    flat, eps = np.asarray(_tree.ravel(x)), float(jnp.finfo(_tree.work_dtype(x)).eps)
    rng, start = np.random.default_rng(7), at.values(x, at.case.theta)
    beside = (flat * (1 + eps * rng.choice((-2.0, 2.0), flat.size)) for _ in range(_DRAWS))
    changes = [np.abs(at.values(_tree.unravel(jnp.asarray(b), x), at.case.theta) - start) for b in beside]
    worst = np.max(changes, axis=0)
    return np.where(np.isfinite(worst), worst, 0)


class _Line:
    """F along one direction."""

    def __init__(self, at: Evaluated, x: Leaves, part: Part, noise: np.ndarray, rng: np.random.Generator):
        self.at, self.x, self.part, self.noise = at, x, part, noise
        self.theta, self.smooth = at.case.theta, at.smooth(at.case.theta)
        leaf = (x if part.state else self.smooth)[part.leaf]
        known = np.where(part.mask & np.isfinite(np.asarray(leaf)), np.abs(np.asarray(leaf)), 0)
        size = np.where(known > 0, known, np.max(known) or 1.0)
        ways = rng.choice((-1.0, 1.0), leaf.shape) * rng.uniform(0.5, 1, leaf.shape)
        self.direction = jnp.asarray(np.where(part.mask, ways * size, 0), leaf.dtype)
        self.length = float(jnp.max(jnp.abs(self.direction)))
        self.flat = np.asarray(_tree.ravel(x))
        self.start = at.values(x, self.theta)
        residual = tuple(jnp.nan_to_num(leaf) for leaf in at.case.problem.residual(x, self.theta))
        units = np.asarray(_tree.ravel(typical_size(x, at.case.tolerance, residual if at.fixed else None)))
        self.units = units if at.fixed else np.ones_like(units)  # R has units of its own
        self.double = _tree.work_dtype(x) == jnp.float64 and leaf.dtype == jnp.float64
        self.eps = 2e-16 if self.double else 1e-7
        self.steps = (1e-6, 1e-5, 1e-4) if self.double else (1e-3, 5e-3, 2.5e-2)

    def value(self, h: float) -> np.ndarray:
        x, theta, index = list(self.x), list(self.theta), self.part.leaf
        if self.part.state:
            x[index] = x[index] + jnp.asarray(h, x[index].dtype) * self.direction
        else:
            i = self.at.chosen[index]
            theta[i] = theta[i] + jnp.asarray(h, theta[i].dtype) * self.direction
        return self.at.values(tuple(x), tuple(theta))

    def says(self) -> np.ndarray:
        still = [tuple(map(jnp.zeros_like, leaves)) for leaves in (self.x, self.smooth)]
        x, smooth = map(list, still)
        (x if self.part.state else smooth)[self.part.leaf] = self.direction
        try:
            return self.at.forward(self.x, self.theta, (tuple(x), tuple(smooth)))
        except Exception:  # a rule for reverse mode only: what it says of each component, if these are few
            return self._says_in_reverse()

    def _says_in_reverse(self) -> np.ndarray:
        n = self.start.size
        if n > 50:
            return np.full(n, np.nan)
        pick = 0 if self.part.state else 1
        rows = (self.at.reverse(self.x, self.theta, unit)[pick][self.part.leaf] for unit in np.eye(n))
        return np.array([np.sum(np.where(self.part.mask, row * np.asarray(self.direction), 0)) for row in rows])

    def judged(self) -> Moved:
        says = self.says()
        ahead, behind = (np.array([self.value(s * h) for h in self.steps]) for s in (1, -1))
        if not np.all(np.isfinite(self.start)):
            return self._found("unclear", says, says)
        h = np.array(self.steps)[:, None]
        slopes = (ahead - behind) / (2 * h)
        middle = slopes[1]
        if not np.all(np.isfinite(says)):
            return self._found("undefined", says, middle)
        if not np.all(np.isfinite(slopes)):
            return self._found("unclear", says, middle)
        nearby = zip((*ahead, *behind), 2 * self.steps)
        if np.all(says == 0) and all(self._is_same(values, h) for values, h in nearby):
            return self._farther()
        spread = np.maximum(np.abs(slopes[0] - middle), np.abs(slopes[2] - middle))
        rounding = _ROUNDING * (self.eps * np.abs(self.start) + self.noise) / h[0]
        largest = max(np.max(np.abs(middle) / self.units), np.max(np.abs(says) / self.units))
        size = np.maximum(np.abs(middle), np.abs(says))
        floor = np.maximum(rounding, 1e-6 * largest * self.units)
        off = np.abs(middle - says) > np.maximum(10 * spread, _WRONG * size) + floor
        kinks = np.abs(ahead[0] + behind[0] - 2 * self.start) / h[0] > _CLEAR * size + 2 * rounding
        clear = off & ~kinks & (spread <= _CLEAR * size + floor)
        if not np.any(clear):
            return self._found("agrees", says, middle)
        found = self._found("cut" if np.all(says == 0) else "wrong", says, middle)
        return replace(found, hides=bool(np.any(clear & (says == 0))))

    def _farther(self) -> Moved:
        """F does not change nearby: where it begins to, and whether by a jump."""
        says = np.zeros_like(self.start)
        for h in (s * h for h in _FAR for s in (1, -1)):
            moved = self.value(h)
            if not self._is_same(moved, h) and np.all(np.isfinite(moved)):
                break
        else:
            return self._found("still", says, says)
        low, high = 0.0, h
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._is_same(self.value(middle), middle) else (low, middle)
        change = np.abs(self.value(high) - self.start)
        # What rises from below rounding, as exp(−x²) does, is no jump.
        clear = np.any(change > _CLEARLY * self._rounding(high))
        jump = clear and np.max(change) > _JUMP * np.max(np.abs(moved - self.start))
        return self._found("steps" if jump else "beyond", says, says, abs(high))

    def _is_same(self, values: np.ndarray, h: float) -> bool:
        return bool(np.all(np.abs(values - self.start) <= self._rounding(h)))

    def _rounding(self, h: float) -> np.ndarray:
        """Of the values: F is (F − x) + x here."""
        sizes = np.abs(self.start) + (np.max(np.abs(self.flat)) + abs(h) * self.length if self.at.fixed else 0)
        return 8 * self.eps * sizes + self.noise

    def _found(self, verdict: Verdict, says: np.ndarray, changes: np.ndarray, reach: float = 0.0) -> Moved:
        worst = int(np.argmax(np.where(np.isnan(says - changes), np.inf, np.abs(says - changes) / self.units)))
        numbers = float(says[worst]), float(changes[worst])
        return Moved(self.part.name, self.part.state, verdict, reach, *numbers, partly=not bool(self.part.mask.all()))
