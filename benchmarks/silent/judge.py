"""Whether an answer is one, by NumPy in extended precision, without implicitax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .families import Family

ALLOWED = 1e3  # times tolerance times condition: an error above it is a wrong answer
_DIFFERENCE = np.longdouble(1e-7)  # of a step for a derivative, relative to the size of what moves


def residual(family: Family, x: Any, p: Any) -> np.ndarray:
    value = family.f(np, x, p)
    return value - x if family.kind == "fixed_point" else value


def jacobian(family: Family, x: np.ndarray, p: Any) -> np.ndarray:
    """∂R/∂x by central differences, right to some 11 digits."""
    columns = []
    for j in range(x.shape[-1]):
        h = np.zeros_like(x)
        size = np.maximum(np.abs(x[:, j]), 1e-3 * np.abs(x).max(-1))
        h[:, j] = _DIFFERENCE * np.where(size > 0, size, 1e-3)
        columns.append((residual(family, x + h, p) - residual(family, x - h, p)) / (2 * h[:, j, None]))
    return np.stack(columns, -1)


def solve(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A⁻¹ b in extended precision, and the condition of A, both after scaling rows and columns; NaN where A is not
    finite or singular."""
    rows = np.abs(A).max(-1, keepdims=True)
    columns = np.abs(A / rows).max(-2, keepdims=True)
    scaled, b = A / rows / columns, b / rows[..., 0]
    low = scaled.astype(float)
    good = np.isfinite(low).all((-1, -2))
    low[~good] = np.eye(A.shape[-1])
    condition = np.linalg.cond(low)
    good &= condition < 1e15
    low[~good] = np.eye(A.shape[-1])
    y = np.zeros_like(b)
    for _ in range(3):
        rest = b - np.einsum("...ij,...j->...i", scaled, y)
        size = np.abs(rest).max(-1, keepdims=True)
        size[~(size > 0)] = 1
        y = y + size * np.linalg.solve(low, (rest / size).astype(float)[..., None])[..., 0]
    y, condition = y / columns[..., 0, :], np.where(good, condition, np.inf)
    y[~good] = np.nan
    return y, condition


def refine(family: Family, x: np.ndarray, p: Any, steps: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The solution next to x by Newton's method in extended precision, and the condition there; NaN where it does not
    converge."""
    x, shorter, last = x.astype(np.longdouble), np.ones(len(x), bool), np.full(len(x), np.inf, np.longdouble)
    condition = np.ones(len(x))
    for _ in range(steps):
        step, condition = solve(jacobian(family, x, p), residual(family, x, p))
        x = x - step
        length = (np.abs(step) / np.maximum(np.abs(x), np.abs(x).max(-1, keepdims=True) * 1e-3)).max(-1)
        shorter &= (length < 0.5 * last) | (length < 1e-12)
        last = length
    x[~(shorter & (last < 1e-9))] = np.nan
    return x, condition


def amplified(family: Family, x: np.ndarray, p: Any) -> np.ndarray:
    """How many times its tolerance x may be off: of a fixed point, whose residual is what is small, ‖(I − ∂F/∂x)⁻¹‖."""
    if family.kind == "root":
        return np.ones(len(x))
    A = jacobian(family, x, p).astype(float)
    A[~np.isfinite(A).all((-1, -2))] = np.eye(x.shape[-1])
    return np.maximum(1 / np.linalg.svd(A, compute_uv=False)[:, -1], 1)


def unit(family: Family, p: Any) -> Any:
    """Of each unknown, for what is compared is to have none: in units of 1 f is the same."""
    return p["unit"] if family.decades else np.longdouble(1)


def unitless(family: Family, p: Any) -> Any:
    return p | {"unit": np.ones_like(p["unit"])} if family.decades else p


def right(family: Family, x: Any, x0: Any, p: Any, tolerance: float) -> np.ndarray:
    """Whether each x is a solution."""
    p = extended(p)
    x, x0 = (np.asarray(each).astype(np.longdouble) / unit(family, p) for each in (x, x0))
    p, eps = unitless(family, p), tolerance**1.5
    scale = np.maximum(np.abs(x).max(-1), 0)
    if family.solvable is not None and not family.solvable(p, tolerance).any():
        return np.zeros(len(x), bool)
    if family.exact is not None:
        # A root at 0 is known to what can be told from it at the guess.
        size = np.maximum(np.abs(family.exact(p)).max(-1), np.abs(x0).max(-1))
        good = np.abs(x - family.exact(p)).max(-1) <= (ALLOWED * tolerance) ** family.digits * size
    elif family.singular:
        A = np.abs(jacobian(family, x, p))
        allowed = ALLOWED * tolerance * np.einsum("...ij,...j->...i", A, np.abs(x) + scale[:, None])
        good = (np.abs(residual(family, x, p)) <= allowed).all(-1)
    else:
        near, condition = refine(family, x, p)
        # What is less than rounding of the guess cannot be told from it, either.
        times = np.maximum(tolerance * amplified(family, near, p), eps * condition)
        allowed = ALLOWED * (times * scale + eps * np.abs(x0).max(-1))
        good = np.abs(x - near).max(-1) <= allowed
    return good if family.solvable is None else good & family.solvable(p, tolerance)


def extended(p: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value).astype(np.longdouble) for name, value in p.items()}


class Exact(NamedTuple):
    """A derivative, NaN where there is none that could be told; what it is a sum of, by parameter, in absolute values;
    by how much it differs where x is off by its tolerance; the condition; and `amplified`."""

    value: np.ndarray
    terms: np.ndarray
    change: np.ndarray
    condition: np.ndarray
    times: np.ndarray


def derivative(family: Family, x: Any, p: Any, direction: Any, tolerance: float) -> Exact:
    """dx/dt for p + t·direction, in the units of x."""
    x, p, h = np.asarray(x).astype(np.longdouble), extended(p), _DIFFERENCE
    if family.decades:
        direction = direction | {"unit": direction["unit"] / p["unit"]}
    x, p = x / unit(family, p), unitless(family, p)

    def change(f: Callable[[Any], np.ndarray], *moved: str) -> np.ndarray:
        up, down = (p | {name: p[name] + sign * h * direction[name] for name in moved} for sign in (1, -1))
        return (f(up) - f(down)) / (2 * h)

    def at(x: np.ndarray, *moved: str) -> np.ndarray:
        return solve(jacobian(family, x, p), -change(lambda p: residual(family, x, p), *moved))[0]

    if family.exact is None:
        near, condition = refine(family, x, p)
        exact, terms, times = at(near, *p), sum(np.abs(at(near, name)) for name in p), amplified(family, near, p)
    else:
        exact, terms = change(family.exact, *p), sum(np.abs(change(family.exact, name)) for name in p)
        near, condition, times = family.exact(p), np.ones(len(x)), np.ones(len(x))
    off = tolerance * (times * np.abs(near).max(-1))[:, None]
    differs = np.maximum(*(np.abs(at(near + sign * off, *p) - exact) for sign in (1, -1)))
    return Exact(exact, terms, np.where(np.isfinite(differs), differs, 0), condition, times)


def derivative_is_right(family: Family, got: Any, want: Exact, x0: Any, p: Any, tolerance: float) -> np.ndarray:
    """Whether each derivative is one; of a singular problem none is. It is as exact as the terms are that it is a sum
    of, and, since it is that at an x which is known to a tolerance, and to what x0 resolves, no more."""
    exact, terms, change, condition, times = want
    got, x0 = (np.asarray(each).astype(np.longdouble) / unit(family, p) for each in (got, x0))
    if family.singular:
        return np.zeros(len(got), bool)
    allowed = (ALLOWED * tolerance * np.maximum(times, condition)) ** family.digits
    # A solution at 0 is known to the tolerance of the guess, any other to its rounding.
    least = np.abs(x0).max(-1) * (1 if family.exact is not None else tolerance**0.5)
    return np.abs(got - exact).max(-1) <= allowed * np.maximum(terms.max(-1), least) + ALLOWED * change.max(-1)
