"""Plain iteration, looked at closely."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import _tree
from .._tree import Leaves
from .problem import Case
from .record import PlainIteration

STEPS = 500
_TAIL = 12  # iterations at the end, in which a cycle is sought
_GROWN = 1e6  # times the first residual: what is not finite after that is too large a number
_CLOSE = 1e-3  # of a step: two points so close are the same point of a cycle


def iterate(case: Case) -> PlainIteration:
    """`STEPS` iterations from x0; the last ones are kept, to see whether they repeat."""
    (sizes, errors, bad), tail = jax.tree.map(np.asarray, _run(case))
    converged = bool(errors[-1] <= 1)
    first = np.flatnonzero(bad < case.problem.size)
    where = f"iteration {first[0]}, at {case.locate(int(bad[first[0]]))}" if first.size else None
    whole = sizes if sizes.ndim == 1 else np.max(sizes, axis=1)
    rate = None if where else _rate(whole, errors)
    met = np.flatnonzero(errors <= 1)
    needed = int(met[0]) if met.size else None
    if needed is None and rate is not None and rate < 1 and np.isfinite(errors[-1]):
        needed = STEPS + math.ceil(math.log(float(errors[-1])) / -math.log(rate))
    period = None if converged or where else _period(tail)
    grown = bool(first.size and np.nanmax(whole[: first[0] + 1], initial=0) > _GROWN * np.max(whole[:1]))
    return PlainIteration(sizes, converged, rate, None if period else needed, period, where, grown)


def follow(case: Case, start: Leaves) -> tuple[Leaves, bool]:
    """Where `STEPS` iterations from somewhere else lead, and whether that is a fixed point."""

    @jax.jit
    def run(x: Leaves) -> tuple[Leaves, Any]:
        x = jax.lax.fori_loop(0, STEPS, lambda _, x: _tree.axpy(1, case.problem.residual(x, case.theta), x), x)
        return x, case.tolerance.error(case.problem.residual(x, case.theta), x)

    x, error = run(start)
    return x, bool(error <= 1)


class _Seen(NamedTuple):
    """Of each iteration: max |F(x) − x|, the same in units of the tolerance, the first component that is not finite."""

    sizes: Any
    errors: Any
    bad: Any


def _run(case: Case) -> tuple[_Seen, jax.Array]:
    def step(x: Leaves, _: None) -> tuple[Leaves, _Seen]:
        residual = case.problem.residual(x, case.theta)
        error = case.tolerance.error(residual, x)
        seen = _Seen(case.with_rows(residual), error, _tree.first_bad(residual))
        return _tree.axpy(1, residual, x), seen

    def step_kept(x: Leaves, _: None) -> tuple[Leaves, jax.Array]:
        x = step(x, None)[0]
        return x, _tree.ravel(x)

    @jax.jit
    def run(x: Leaves) -> tuple[_Seen, jax.Array]:
        x, seen = jax.lax.scan(step, x, length=STEPS)
        return seen, jax.lax.scan(step_kept, x, length=_TAIL)[1]

    return run(case.x0)


def _rate(sizes: np.ndarray, errors: np.ndarray) -> float | None:
    """The mean factor over the last half of the iterations before rounding errors set in."""
    end = int(np.argmax(errors <= 1)) if np.any(errors <= 1) else sizes.size - 1
    start = end // 2
    if end <= start or not (sizes[start] > 0 and np.isfinite(sizes[end])) or sizes[end] == 0:
        return None
    return float((sizes[end] / sizes[start]) ** (1 / (end - start)))


def _period(tail: np.ndarray) -> int | None:
    """The smallest p for which xₖ₊ₚ is xₖ to a small part of a step."""
    step = np.max(np.abs(tail[-1] - tail[-2]))
    if not np.isfinite(step) or step == 0:
        return None
    for period in range(2, _TAIL // 2 + 1):
        if np.max(np.abs(tail[-1] - tail[-1 - period])) <= _CLOSE * step:
            return period
    return None
