"""The derivative of the solution, by several ways."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._methods import Picard, typical_size
from .._rule import Unrolled
from .._solution import Status
from .._solve import Program
from .._tree import Leaves
from .evaluate import MOST_LEAVES
from .problem import Case
from .record import Parameter

STEP = 1e-5  # of central differences, relative to the parameter, in float64; in float32 1e-2
_UNROLLED = 5000  # iterations, times unknowns in 10^6, up to which a reference by unrolling is affordable


def compare(
    case: Case, solver: Any, x: Leaves, good: Any, needed: int | None
) -> tuple[tuple[Parameter, ...], Leaves | None, float]:
    """The parameters, one a leaf, the tangent of x along all of them, and the relative step of the differences.

    All are about the scalar c·x, with random c in units of x, over the rows that were solved.
    """
    rng = np.random.default_rng(0)
    step = step_of(x)
    along = _Along(case, case.program(solver), x, good, rng)
    theta, direction = along.theta, tuple(_direction(rng, leaf) for leaf in along.theta)
    value, pull = jax.vjp(lambda values: along.scalar(along.solved(values)), theta)
    reverse = pull(jnp.ones_like(value))[0]

    def push(tangent: Leaves) -> tuple[Leaves, jax.Array]:
        tangent_x = jax.jvp(along.solved, (theta,), (tangent,))[1]
        return tangent_x, along.scalar(tangent_x)

    unrolled = _unroll(along, needed)
    parameters = []
    for k, i in enumerate(along.chosen):
        only = tuple(d if j == k else jnp.zeros_like(d) for j, d in enumerate(direction))
        differences, uncertainty = _differences(along.moved, theta, only, step)
        parameters.append(
            Parameter(
                name=case.names[i],
                shape=tuple(theta[k].shape),
                forward=float(push(only)[1]),
                reverse=_along(reverse[k], direction[k]),
                differences=differences,
                uncertainty=uncertainty,
                unrolled=None if unrolled is None else _along(unrolled[k], direction[k]),
            )
        )
    return tuple(parameters), push(direction)[0] if along.chosen else None, step


def step_of(x: Leaves) -> float:
    """The relative step of the differences."""
    return STEP if _tree.work_dtype(x) == jnp.float64 else 1e-2


class _Along:
    """c·x as a function of the leaves of θ that are looked at."""

    def __init__(self, case: Case, program: Program, x: Leaves, good: Any, rng: np.random.Generator):
        self.case, self.program, self.x, self.good = case, program, x, np.asarray(good)
        self.chosen = case.smooth[:MOST_LEAVES]
        self.theta = tuple(case.theta[i] for i in self.chosen)
        size = typical_size(x, case.tolerance)
        self.keep = tuple(leaf != 0 for leaf in case.each_row(good))
        largest = max((float(jnp.max(s)) for s in size if s.size), default=1.0)
        weights = (rng.normal(size=leaf.shape) / np.sqrt(case.problem.size) for leaf in x)
        each = zip(self.keep, weights, size)
        self.c = tuple(jnp.where(k, jnp.asarray(w, s.dtype) * largest / s, 0) for k, w, s in each)

    def everything(self, values: Leaves) -> Leaves:
        full = list(self.case.theta)
        for i, value in zip(self.chosen, values):
            full[i] = value
        return tuple(full)

    def scalar(self, x: Leaves) -> jax.Array:
        terms = (jnp.sum(ci * jnp.where(k, xi, 0)) for ci, k, xi in zip(self.c, self.keep, x))
        return sum(terms, jnp.zeros((), _tree.work_dtype(self.x)))

    def solved(self, values: Leaves) -> Leaves:
        return self.case.solve(self.program, self.everything(values), self.x).x

    def moved(self, values: Leaves) -> float:
        """NaN where a row is not solved there that is at x: the best point of a failed solve is no solution."""
        found = self.case.solve(self.program, self.everything(values), self.x)
        lost = np.any(self.good & ~solved_rows(found.outcome.status))
        return float("nan") if lost else float(self.scalar(found.x))


def _direction(rng: np.random.Generator, leaf: jax.Array) -> jax.Array:
    """Random, in units of the parameter: of each entry, or where that is 0 of the leaf. 0 where it is not finite."""
    known = np.isfinite(np.asarray(leaf))
    values = np.abs(np.where(known, np.asarray(leaf), 0))
    size = np.where(values > 0, values, np.mean(values) or 1.0)
    return jnp.asarray(rng.choice((-1.0, 1.0), leaf.shape) * np.where(known, size, 0), leaf.dtype)


def _along(gradient: jax.Array, direction: jax.Array) -> float:
    return float(jnp.sum(jnp.where(direction != 0, gradient * direction, 0)))


def _differences(L: Any, theta: Leaves, direction: Leaves, step: float) -> tuple[float, float]:
    """Central differences, and from those with twice the step how far they may be off."""
    ahead = lambda h: L(_tree.axpy(h, direction, theta))
    once, twice = ((ahead(h) - ahead(-h)) / (2 * h) for h in (step, 2 * step))
    return once, abs(twice - once)


def _unroll(along: _Along, needed: int | None) -> Leaves | None:
    """The gradient through plain iteration, where that converges and is affordable."""
    case = along.case
    if case.problem.kind == "root" or needed is None or case.batch_axis is not None:
        return None
    steps = 2 * needed + 10
    if steps * max(1, case.problem.size / 1e6) > _UNROLLED:
        return None
    program = case.program(Picard(), adjoint=Unrolled(steps))
    last = lambda values: along.scalar(case.solve(program, along.everything(values), case.x0).x)
    return jax.grad(last)(along.theta)


def solved_rows(status: Any) -> np.ndarray:
    return np.asarray(status) == Status.CONVERGED
