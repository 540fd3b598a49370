"""`diagnose`: is this answer right, and is its gradient?"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from typing_extensions import Unpack

from .._errors.lines import line_of_error
from .._plan import Auto, DiagnosedKeywords, complete, declares
from .._problem import Call, Kind
from .._rule import Found
from . import cost, elsewhere, gradient, jump, local, mistaken, moved, nans, picard, shape, temperature, untraced, words
from .diagnosis import Diagnosis
from .evaluate import Evaluated
from .evidence import Evidence
from .problem import Case
from .record import Attempt, Finding, Severity

Tried = dict[str, tuple[Attempt, Found]]  # by the name of the solver, the one asked for first


@declares(DiagnosedKeywords)
def diagnose(
    F: Callable[..., Any],
    x0: PyTree,
    *args: Any,
    kind: Kind = "fixed_point",
    **keywords: Unpack[DiagnosedKeywords],
) -> Diagnosis:
    r"""Says whether the solution of `x = F(x, *args)`, or of `F(x, *args) = 0`, is right, and whether its gradient is.

    It solves the problem with the solver asked for and with others, and from other guesses, follows plain iteration,
    looks at ∂F/∂x at the solution, compares F's own derivatives with its values, leaf by leaf, and the implicit
    derivative in both modes with central differences and with unrolling, one row for each of the first 40 arrays of
    parameters. What it finds it says in words, with what to do; a suspicion says "may". It never raises for a bad
    problem.

    **Arguments:** as in `fixed_point` and `root`; `kind` says which of the two, `"fixed_point"` or `"root"`. Give
    `solver` and `max_steps` as in your model, to see what they do to it.

    **Returns:** a `Diagnosis`: print it, `plot()` it, or take its numbers.

    **Cost:** some seconds, most of which is compiling: a few solvers, and the derivative in both modes. Up to 500
    unknowns the matrix ∂F/∂x is built, beyond that its largest eigenvalues come from products with it.

    **Fails:** outside of Python: the arrays must have values, so not inside `jit`.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> report = ix.diagnose(lambda x, a: a - 3 * jnp.tanh(x), 1.0, 1.0, solver=ix.Picard(), max_steps=15)
    >>> report.healthy, report.findings[1].code
    (False, 'picard-cycles')

    ```
    """
    wanted = complete("diagnose", keywords, DiagnosedKeywords)
    solver, max_steps = wanted.solver, wanted.max_steps
    call = Call(kind, "diagnose", F, x0, args, constraint=wanted.constraint, again=False)
    try:
        case = Case.of(call, wanted)
        asked = cost.name_of(solver)
        solver = Auto() if solver is None else solver
        tried: Tried = {asked: case.attempt(asked, solver, max_steps)}
    except Exception as error:
        return _unusable(kind, error)
    guarded = _Guarded()
    tried |= _try_others(case, asked, guarded)
    history = guarded("history", lambda: case.history(solver, max_steps), None)
    first, *others = (attempt for attempt, _ in tried.values())
    seen = _look(_Given(call, case, solver, tried), first.with_history(history), others, guarded)
    # Without them it is not known that nothing is wrong.
    found = (*guarded("findings", lambda: words.findings(seen), (), "error"), *guarded.missing)
    line, why = cost.recommend(case, seen.attempts)
    return Diagnosis(
        verdict=words.verdict(case, found, seen.attempts, seen.parameters),
        findings=found,
        recommended=f"{line}  # {why}",
        kind=kind,
        size=case.problem.size,
        picard=seen.picard,
        attempts=seen.attempts,
        local=seen.local,
        pattern=seen.pattern,
        parameters=seen.parameters,
        step=gradient.step_of(case.x0),
    )


class _Given(NamedTuple):
    """What is diagnosed, and what the solvers have found."""

    call: Call
    case: Case
    solver: Any
    tried: Tried


def _look(given: _Given, first: Attempt, others: list[Attempt], guarded: "_Guarded") -> Evidence:
    """The derivative is looked at where there is a solution, whoever found it."""
    call, case, solver, tried = given
    seen = Evidence(case, (first, *others), pattern=guarded("pattern", lambda: shape.look(case), None))
    if case.problem.kind == "fixed_point":
        seen = seen._replace(picard=guarded("plain iteration", lambda: picard.iterate(case), None))
    name, good = _solution(tried, first.name)
    chosen = solver if name == first.name else cost.candidates(case)[name]
    found = tried[name][1] if good.any() else None
    start = Evaluated(case, case.each_row(np.ones_like(good)))
    if found is not None:
        seen = _look_at(seen, given._replace(solver=chosen), found, good, guarded)
    if not first.success and case.batch_axis is None:
        look = lambda: jump.look(start, tried[first.name][1].x)
        seen = seen._replace(jump=guarded("look for a jump", look, None))
    whole = found if good.all() else None
    suspect: list[Callable[[], Iterator[Finding]]] = [
        lambda: temperature.findings(case, start, chosen, whole),
        lambda: mistaken.kind(case, start, whole, seen.picard),
        lambda: mistaken.unit(case, start, whole),
        lambda: untraced.findings(call, case, case.x0 if found is None else found.x),
    ]
    said = [guarded("suspicions", lambda each=each: tuple(each()), ()) for each in suspect]
    return seen._replace(suspicions=tuple(finding for each in said for finding in each))


def _look_at(seen: Evidence, given: _Given, found: Found, good: Any, guarded: "_Guarded") -> Evidence:
    """At a solution."""
    case, solver, x = seen.case, given.solver, found.x
    at = Evaluated(case, case.each_row(good))
    needed = None if seen.picard is None else seen.picard.needed
    lacks = tuple(sorted(case.problem.lacks(case.smooth, True)))
    parameters, tangent = (), None
    if not lacks:
        compare = lambda: gradient.compare(case, solver, x, good, needed)
        parameters, tangent, _ = guarded("comparison of derivatives", compare, ((), None, 0.0))
    near = guarded("local picture", lambda: local.look(case, x, good, tangent), None)
    # Where a total is kept, or a leaf passed through, every guess has a solution of its own: that is said elsewhere.
    determined = near is None or not (near.passed or (near.condition_scaled or 0) > words.SINGULAR)
    return seen._replace(
        parameters=parameters,
        local=near,
        lacks=lacks,
        moved=guarded("look at F's own derivatives", lambda: moved.look(at, x), ()) if case.pure else (),
        nans=guarded("look for NaN", lambda: nans.look(at, x), None) if case.pure else None,
        unstable=guarded("plain iteration from beside x0", lambda: elsewhere.unstable_start(case, found, near), None),
        another=guarded(
            "solves from other guesses",
            lambda: elsewhere.second_solution(case, solver, found, seen.attempts[0].seconds) if determined else None,
            None,
        ),
    )


class _Guarded:
    """Runs a part of the report; one that fails is missing, and says why."""

    def __init__(self) -> None:
        self.missing: list[Finding] = []

    def __call__(self, stage: str, run: Callable[[], Any], otherwise: Any, severity: Severity = "warning") -> Any:
        try:
            return run()
        except Exception as error:
            lines = str(error).strip().split("\n")
            traced = any(line.startswith("Traceback") for line in lines)  # of a callback: what it is ends it
            reason = next((line for line in reversed(lines) if line[:1].strip()), lines[0]) if traced else lines[0]
            reason = reason[:300]
            self.missing.append(Finding(severity, "missing", f"No {stage}: {type(error).__name__}: {reason}"))
            return otherwise


def _try_others(case: Case, asked: str, guarded: _Guarded) -> Tried:
    """The solvers worth a try, beside the one asked for."""
    tried = {
        name: guarded(f"figures for {name}", lambda c=candidate, n=name: case.attempt(n, c), None)
        for name, candidate in cost.candidates(case).items()
        if name != asked
    }
    return {name: pair for name, pair in tried.items() if pair is not None}


def _solution(tried: Tried, asked: str) -> tuple[str, Any]:
    """The solver whose answer is looked at, and in which rows it is one."""
    names = [asked, *(name for name in tried if name != asked)]
    rows = {name: gradient.solved_rows(tried[name][1].outcome.status) for name in names}
    best = max(names, key=lambda name: rows[name].mean() if rows[name].size else 1.0)
    return best, rows[best]


def _unusable(kind: str, error: Exception) -> Diagnosis:
    reason = str(error).strip() or type(error).__name__
    # The argument that the library's own messages begin with is not news here.
    what = reason.partition("`: ")[2] if reason.startswith("`diagnose(") else f"{type(error).__name__}: {reason}"
    line = line_of_error(error)
    where = f" In {line}." if line and str(line) not in what else ""
    finding = Finding("error", "unusable", f"This is refused before anything is solved: {what}{where}")
    return Diagnosis(f"Do not trust this: {words.first_sentence(what)}.", (finding,), "", kind, 0)
