"""Kelvin and °C in one model: what looks like it. No more than that can be known, so it is said with "may"."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _tree
from .._rule import Found
from .._solution import Status
from .._tree import is_differentiable
from .evaluate import Evaluated
from .inside import MOST, Operation, of_values
from .problem import Case
from .record import Finding

_ZERO = 273.15
_ZEROS = (273.15, 273.16, 273.0)
_REFERENCES = (*_ZEROS, 283.15, 288.15, 293.15, 298.15, 303.15, 308.15)
_KELVIN, _CELSIUS = (215.0, 345.0), (-60.0, 70.0)  # of the air, a leaf, the soil, a sea, a room
_SPREAD = 60.0  # by how much two temperatures of one model may differ
_MOST = 20  # parameters that are tried
_CODE = "temperature"


def findings(case: Case, at: Evaluated, solver: Any, found: Found | None) -> Iterator[Finding]:
    """`found`: the solution, if there is one."""
    converted = list(_conversions(case, at))
    yield from converted
    if not converted and case.batch_axis is None:
        yield from _apart(case, solver, found)


def _conversions(case: Case, at: Evaluated) -> Iterator[Finding]:
    """273.15 taken from what is in °C, or added to what is in kelvin, by the values at x0."""
    if case.problem.operations > MOST:
        return
    said = set()
    for operation in of_values(at, case.x0):
        what = _conversion(case, operation)
        if what and what not in said:
            said.add(what)
            place = f"In {operation.line} F {what}" if operation.line else f"F {what}"
            yield Finding("warning", _CODE, f"{place}. Look which unit each temperature has.")


def _conversion(case: Case, operation: Operation) -> str | None:
    if operation.low.size != 2 or not np.all(np.isfinite([operation.low, operation.high])):
        return None
    for i in (0, 1):
        constant, low, high = operation.low[i], operation.low[1 - i], operation.high[1 - i]
        if operation.high[i] != constant or low == 0 == high:
            continue
        value = _named(case, low, high)
        taken = operation.name == "sub" or constant < 0
        if taken and _is_one_of(abs(constant), _REFERENCES) and _within(low, high, _CELSIUS):
            return f"takes {abs(constant):.6g} K from {value}, which may be in °C"
        if not taken and _is_one_of(constant, _ZEROS) and _within(low, high, _KELVIN):
            return f"adds {constant:.6g} to {value}, which may be in kelvin already"
    return None


def _named(case: Case, low: float, high: float) -> str:
    number = f"{low:.4g}" if low == high else f"values from {low:.4g} to {high:.4g}"
    for name, leaf in zip((*case.problem.paths, *case.names), (*case.x0, *case.theta)):
        values = np.asarray(leaf) if is_differentiable(leaf) and leaf.size else np.zeros(1)
        if np.min(values) == low and np.max(values) == high:
            return f"{name} = {number}" if low == high else f"{name}, {number}"
    return number


def _apart(case: Case, solver: Any, found: Found | None) -> Iterator[Finding]:
    """A guess in one unit and a solution in the other; or none, until a parameter is converted."""
    x0 = np.asarray(_tree.ravel(case.x0))
    kelvin, celsius = _marked(x0, _KELVIN), _marked(x0, _CELSIUS)
    if found is not None:
        x = np.asarray(_tree.ravel(found.x))
        apart = np.abs(np.abs(x - x0) - _ZERO) < _SPREAD
        marked = apart & ((kelvin & _marked(x, _CELSIUS)) | (celsius & _marked(x, _KELVIN)))
        if not marked.any():
            return
        first = int(np.argmax(marked))
        text = (
            f"{case.locate(first)} is {x0[first]:.4g} in the guess and {x[first]:.4g} at the solution: as far apart as "
            "kelvin and °C. "
        )
        which = "The guess may be in °C." if celsius[first] else "A parameter may be in °C."
        kelvin = kelvin & marked & ~celsius[first]  # what else has such a value in the guess may be no temperature
    elif kelvin.any():
        text, which = "", ""
    else:
        return
    if kelvin.any():
        which = _parameter(case, solver, kelvin) or which
    if which:
        yield Finding("warning", _CODE, f"{text}{which} 0 °C is 273.15 K: give all in one unit.")


def _parameter(case: Case, solver: Any, kelvin: np.ndarray) -> str:
    """The parameter with which, 273.15 added, the solution is near the guess."""
    x0 = np.asarray(_tree.ravel(case.x0))
    program = case.program(solver)
    candidates = [i for i in case.smooth if _within(*_ends(case.theta[i]), _CELSIUS) and np.any(case.theta[i])]
    for i in candidates[:_MOST]:
        theta = tuple(leaf + _ZERO if j == i else leaf for j, leaf in enumerate(case.theta))
        found = case.solve(program, theta, case.x0)
        near = np.abs(np.asarray(_tree.ravel(found.x)) - x0)[kelvin] < _SPREAD
        if np.all(near) and np.all(np.asarray(found.outcome.status) == Status.CONVERGED):
            return f"{case.names[i]} may be in °C: with 273.15 added to it the solution is near the guess."
    return ""


def _ends(leaf: Any) -> tuple[float, float]:
    return float(np.min(leaf)), float(np.max(leaf))


def _is_one_of(value: float, known: tuple[float, ...]) -> bool:
    return bool(np.any(np.isclose(value, known, rtol=1e-6, atol=0)))


def _within(low: float, high: float, span: tuple[float, float]) -> bool:
    return bool(span[0] <= low and high <= span[1])


def _marked(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    return (span[0] <= values) & (values <= span[1]) & (values != 0)
