"""What is said of derivatives: of those of F first, then of those of the solution."""

from collections.abc import Iterator

import numpy as np

from .evidence import Evidence, listed
from .moved import Moved
from .record import Finding, Parameter

_WRONG = 1e-3  # relative error of a derivative,
_NEGLIGIBLE = 1e-7  # or relative to the largest of all parameters
_TRANSPOSED = 1e-6  # difference of forward and reverse mode


def findings(seen: Evidence, bad_input: bool) -> Iterator[Finding]:
    """`bad_input`: whether an input is NaN, or F another each time: then F's own is not looked at."""
    if not bad_input:
        for moved in seen.moved:
            yield from _of_function(seen, moved)
        yield from _nans(seen)
    yield from _undefined(seen, bad_input)
    yield from _of_solution(seen)
    blamed = {moved.name for moved in seen.moved if moved.verdict not in ("agrees", "still", "unclear")}
    idle = [p.name for p in seen.parameters if p.differences == 0 == p.reverse and p.name not in blamed]
    if idle:
        yield Finding("note", "no-influence", f"Without influence on x: {listed(idle)}.")
    others = [name for i, name in enumerate(seen.case.names) if i not in seen.case.smooth]
    if others:
        yield Finding("note", "not-differentiable", f"Integers, without a derivative: {listed(others)}.")
    if seen.lacks:
        names = ", ".join(f"`{name}`" for name in seen.lacks)
        yield Finding(
            "note",
            "no-derivative",
            f"{_letter(seen)} has no derivative in reverse mode: it contains {names}. The value needs none. For a "
            "gradient write that part in `jax.numpy`, with loops of fixed length, or give it a rule: `jax.custom_jvp`.",
        )


def _letter(seen: Evidence) -> str:
    return "F" if seen.case.problem.kind == "fixed_point" else "R"


def _of_function(seen: Evidence, moved: Moved) -> Iterator[Finding]:
    """F's own derivative by one input, beside its values."""
    name, F = moved.name, _letter(seen)
    whole = " So all derivatives of the solution are wrong." if moved.state else ""
    if moved.verdict == "cut":
        yield Finding(
            "error",
            "derivative-cut",
            f"The derivative with respect to {name} is cut off inside {F}: {F} changes with {name}, its derivative is "
            "0. Look for `stop_gradient`, a `custom_jvp` or `custom_vjp` that drops this argument, a conversion to "
            f"NumPy or to an integer.{whole}",
        )
    elif moved.verdict == "wrong":
        yield Finding(
            "error",
            "derivative-wrong",
            f"The derivative of {F} with respect to {name} is wrong: along a random direction it says "
            f"{moved.says:.5g}, and the values change by {moved.changes:.5g}. Look for a custom derivative rule, or "
            f"for `stop_gradient` on a part.{whole}",
        )
    elif moved.verdict == "steps":
        yield Finding(
            "note" if moved.partly and not moved.state else "warning",  # a table, of which x is in one interval
            "steps",
            f"{F} changes with {name} in steps: not at all up to {moved.reach:.2g} of its size from here, and then by "
            "a jump. `round`, `floor`, a conversion to integers or a comparison does that. It has no derivative but 0, "
            "which tells an optimiser nothing.",
        )
    elif moved.verdict == "beyond":
        yield Finding(
            "note",
            "flat",
            f"{F} does not change with {name} near its value, but from {moved.reach:.2g} of its size away on: by a "
            "`clip`, a minimum or maximum, a branch, or underflow. So its derivative is 0 here.",
        )


def _nans(seen: Evidence) -> Iterator[Finding]:
    nans = seen.nans
    if nans is None:
        return
    if nans.hidden is not None:
        born, by, at = nans.hidden
        where = f" in {at}" if at and at != born else ""
        yield Finding(
            "warning",
            "nan-hidden",
            f"NaN arises at the solution{f' in {born}' if born else ''}, and is hidden by `{by}`{where}. What depends "
            "on it is left out of the answer, and has the derivative 0. Look why it arises, and whether x is one that "
            "you want.",
        )
    undefined = [p.name for p in seen.parameters if not np.isfinite(p.reverse)]
    if nans.lacking and not undefined:
        # The solution's own derivative did not need it.
        yield Finding(
            "warning",
            "nan-in-reverse",
            f"In reverse mode the derivative of {_letter(seen)} with respect to {listed(nans.lacking)} is not finite. "
            f"{_slope(seen)} The derivatives below are not affected, since forward mode served for them; larger "
            "problems use reverse mode.",
        )


def _slope(seen: Evidence) -> str:
    """Why F has no finite derivative, and what to do."""
    nans = seen.nans
    if nans is None:
        return ""
    if not nans.infinite:
        line = nans.branch or nans.slope
        return (
            f"NaN arises{f' in {line}' if line else ''}, in a branch that is not taken: the value does not show it, "
            "the derivative does, 0 · NaN. Put a harmless number in before: "
            "`jnp.where(inside, f(jnp.where(inside, y, 1.0)), other)`."
        )
    return (
        f"There is an infinite derivative{f' in {nans.slope}' if nans.slope else ''}: that of a root, a power, a norm, "
        "or a logarithm at 0. If a `jnp.where` is to leave it out, do so before: "
        "`jnp.where(inside, f(jnp.where(inside, y, 1.0)), other)`; or add a small number under the root."
    )


def _undefined(seen: Evidence, bad_input: bool) -> Iterator[Finding]:
    names = [p.name for p in seen.parameters if not np.isfinite(p.reverse)]
    if not names:
        return
    matrix = "I − ∂F/∂x" if _letter(seen) == "F" else "∂R/∂x"
    if bad_input:
        cause = (
            "0 · NaN is NaN, so an input that is NaN spoils what all rows share, though its row is left out. Put "
            "any number in its place before the call, and leave out the row after it."
        )
    elif seen.nans is not None and set(names) & set(seen.nans.lacking):
        cause = _slope(seen)
    elif seen.local is not None and not (seen.local.condition_scaled or np.inf) < np.inf:
        cause = f"{matrix} is singular at x, or not finite."
    else:
        cause = f"its equations could not be solved: {matrix} may be singular, or nearly so."
    yield Finding("error", "gradient-undefined", f"There is no gradient with respect to {listed(names)}: {cause}")


def _of_solution(seen: Evidence) -> Iterator[Finding]:
    """The implicit derivative, in both modes, and beside differences of the solve."""
    largest = max((abs(p.differences) for p in seen.parameters if np.isfinite(p.differences)), default=0.0)
    known = {moved.name: moved.verdict for moved in seen.moved}
    faulty = [m for m in seen.moved if m.verdict in ("cut", "wrong", "steps", "undefined")]
    state = any(m.state for m in faulty)
    unlike, unsolved = [], []
    for p in seen.parameters:
        if not np.isfinite(p.reverse):
            continue
        if not np.isfinite(p.differences):
            unsolved.append(p.name)
            continue
        size = max(abs(p.reverse), abs(p.differences))
        if abs(p.forward - p.reverse) > _TRANSPOSED * max(size, 1e-3 * largest):
            yield Finding(
                "error",
                "not-transposed",
                f"Forward and reverse mode differ for {p.name}: {p.forward:.8g} and {p.reverse:.8g}. A custom "
                "derivative rule inside F may not be linear, or a linear solver needs more steps.",
            )
        elif _is_off(p, size, largest) and not state and known.get(p.name) not in ("cut", "wrong", "steps"):
            unlike.append(p)
    if unlike:
        which = listed(f"{p.name} ({p.reverse:.5g}, by differences {p.differences:.5g})" for p in unlike)
        yield Finding(
            "note",
            "differences",
            f"Differences of the solve are not like the derivative for {which}. F's own derivatives are like its "
            "values, so it may be the differences: a tolerance too loose for them, a kink close to x, or another "
            "solution at the moved parameter.",
        )
    if unsolved:
        yield Finding(
            "note",
            "differences",
            f"No differences for {listed(unsolved)}: where it is moved the solver does not solve the problem.",
        )


def _is_off(p: Parameter, size: float, largest: float) -> bool:
    return abs(p.reverse - p.differences) > max(10 * p.uncertainty, _WRONG * size, _NEGLIGIBLE * largest)
