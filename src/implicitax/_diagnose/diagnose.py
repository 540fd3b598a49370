"""`diagnose`: is this answer right, and is its gradient?"""

from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree
from typing_extensions import Unpack

from .._plan import Auto, DiagnosedKeywords, complete, declares
from .._problem import Kind
from .._rule import Found
from .._tree import Leaves
from . import cost, gradient, local, picard, words
from .diagnosis import Diagnosis
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

    It solves the problem with the solver asked for and with others, follows plain iteration, looks at ∂F/∂x at the
    solution, and compares the implicit derivative in both modes with central differences and with unrolling, one row
    for each of the first 40 arrays of parameters. What it finds it says in words, with what to do. It never raises for
    a bad problem.

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
    try:
        case = Case.of(kind, F, x0, args, wanted)
        asked = cost.name_of(solver)
        solver = Auto() if solver is None else solver
        tried: Tried = {asked: case.attempt(asked, solver, max_steps)}
    except Exception as error:
        return _unusable(kind, error)
    guarded = _Guarded()
    tried |= _try_others(case, asked, guarded)
    attempts = tuple(attempt for attempt, _ in tried.values())
    history = guarded("history", lambda: case.history(solver, max_steps), None)
    attempts = (attempts[0].with_history(history), *attempts[1:])
    plain = guarded("plain iteration", lambda: picard.iterate(case), None) if kind == "fixed_point" else None

    # The derivative is looked at where there is a solution, whoever found it.
    name, x, good = _solution(tried, asked)
    near, parameters, step = None, (), 0.0
    if x is not None:
        chosen = solver if name == asked else cost.candidates(case)[name]
        needed = None if plain is None else plain.needed
        compare = lambda: gradient.compare(case, chosen, x, good, needed)
        parameters, tangent, step = guarded("comparison of derivatives", compare, ((), None, 0.0))
        near = guarded("local picture", lambda: local.look(case, x, good, tangent), None)
    # Without them it is not known that nothing is wrong.
    say = lambda: words.findings(case, attempts, plain, near, parameters)
    found = (*guarded("findings", say, (), "error"), *guarded.missing)
    line, why = cost.recommend(case, attempts)
    return Diagnosis(
        verdict=words.verdict(case, found, attempts, parameters),
        findings=found,
        recommended=f"{line}  # {why}",
        kind=kind,
        size=case.problem.size,
        picard=plain,
        attempts=attempts,
        local=near,
        parameters=parameters,
        step=step,
    )


class _Guarded:
    """Runs a part of the report; one that fails is missing, and says why."""

    def __init__(self) -> None:
        self.missing: list[Finding] = []

    def __call__(self, stage: str, run: Callable[[], Any], otherwise: Any, severity: Severity = "warning") -> Any:
        try:
            return run()
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][:300]
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


def _solution(tried: Tried, asked: str) -> tuple[str, Leaves | None, Any]:
    """The solver whose answer is looked at, the answer, and in which rows it is one."""
    names = [asked, *(name for name in tried if name != asked)]
    rows = {name: gradient.solved_rows(tried[name][1].outcome.status) for name in names}
    best = max(names, key=lambda name: rows[name].mean() if rows[name].size else 1.0)
    return (best, tried[best][1].x, rows[best]) if rows[best].any() else (best, None, rows[best])


def _unusable(kind: str, error: Exception) -> Diagnosis:
    reason = str(error).strip() or type(error).__name__
    # The argument that the library's own messages begin with is not news here.
    what = reason.partition("`: ")[2] if reason.startswith("`diagnose(") else f"{type(error).__name__}: {reason}"
    finding = Finding("error", "unusable", f"This cannot be solved at all: {what}")
    return Diagnosis(f"Do not trust this: {words.first_sentence(what)}.", (finding,), "", kind, 0)
