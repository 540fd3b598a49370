"""What each solver costs on this problem, and which is to be recommended."""

from typing import Any

from .._methods import Anderson, Broyden, Newton, NewtonKrylov, Picard
from .._plan import Auto
from .problem import Case
from .record import Attempt

_DENSE = 300  # unknowns up to which Newton's method with a matrix is tried
_CLEARLY, _SHORT = 1.5, 1e-3  # a solver so much faster than the default, if that takes as long as this, is recommended


def candidates(case: Case) -> dict[str, Any]:
    """The solvers worth a try, by what is to be typed."""
    size, fixed, rows = case.problem.size, case.problem.kind == "fixed_point", case.batch_axis is not None
    found: dict[str, Any] = {"Auto": Auto()}
    if fixed:
        found |= {"Picard": Picard(), "Picard(0.5)": Picard(0.5), "Anderson": Anderson()}
    if size <= _DENSE and not rows:
        found |= {"Newton": Newton()}
    if size > _DENSE and not rows:
        found |= {"NewtonKrylov": NewtonKrylov()}
    if not fixed:
        found |= {"Broyden": Broyden()}
    return found


def name_of(solver: Any) -> str:
    """What is to be typed for a solver; `Auto` for none."""
    text = "Auto" if solver is None else repr(solver)
    return text.removesuffix("()") if text.endswith("()") else text


def recommend(case: Case, attempts: tuple[Attempt, ...]) -> tuple[str, str]:
    """A line of code to paste, and why."""
    call = "ix.fixed_point(F, x0, *args" if case.problem.kind == "fixed_point" else "ix.root(R, x0, *args"
    call += "" if case.batch_axis is None else f", batch_axis={case.batch_axis}"
    fewest = min(len(attempt.failed_rows) for attempt in attempts)
    rows = 0 if case.batch_axis is None else case.x0[0].shape[case.batch_axis]
    right = [a for a in attempts if a.success or (rows and len(a.failed_rows) == fewest < rows)]
    if not right:
        return f"{call}, throw=False)", "No solver has solved it; look at `sol.status`."
    default = next((attempt for attempt in right if attempt.name == "Auto"), None)
    fastest = min(right, key=lambda attempt: attempt.seconds or 0.0)
    best = fastest
    if default is not None and (default.seconds or 0) <= max(_CLEARLY * (fastest.seconds or 0), _SHORT):
        best = default
    code = "" if best.name == "Auto" else f", solver=ix.{best.call}"
    code += "" if best.success else ", throw=False"
    return f"{call}{code})", f"{best.nfev} evaluations of {'F' if case.problem.kind == 'fixed_point' else 'R'}."
