"""What the numbers mean, in words, and what to do about it."""

from collections.abc import Iterable, Iterator

import numpy as np

from .._tree import is_differentiable
from .problem import Case
from .record import ORDER, Attempt, Finding, Local, Parameter, PlainIteration, Severity

_LISTED = 5  # names in a list, before "and 12 more"
_COUNT = 15  # iterations of plain iteration that a model may be thought to do
_ILL, _SINGULAR = 1e8, 1e13  # condition in units of x
_UNITS = 1e4  # by what factor the condition is worse as it is
_WRONG = 1e-3  # relative error of a derivative,
_NEGLIGIBLE = 1e-7  # or relative to the largest of all parameters
_TRANSPOSED = 1e-6  # difference of forward and reverse mode


def findings(
    case: Case,
    attempts: tuple[Attempt, ...],
    picard: PlainIteration | None,
    local: Local | None,
    parameters: tuple[Parameter, ...],
) -> tuple[Finding, ...]:
    """All of them, the gravest first."""
    inputs = list(_inputs(case))
    found = [*inputs, *_solve(case, attempts)]
    if picard is not None and not inputs:
        found += _plain(attempts, picard, local)
    if local is not None:
        found += _structure(case, local)
    found += _derivatives(case, parameters, bool(inputs))
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.severity)))


def verdict(
    case: Case, found: tuple[Finding, ...], attempts: tuple[Attempt, ...], parameters: tuple[Parameter, ...]
) -> str:
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        return f"Do not trust this: {first_sentence(errors[0].text)}."
    # Where the parameter matters more than the differences are uncertain.
    errors_known = [p.error for p in parameters if abs(p.differences) > 10 * p.uncertainty]
    agrees = f", and its gradient agrees with finite differences to {max(errors_known):.0e}" if errors_known else ""
    return f"The answer is right: max|{_residual(case)}| = {attempts[0].residual:.1e}{agrees}."


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")


def _residual(case: Case) -> str:
    return "F(x) − x" if case.problem.kind == "fixed_point" else "R(x)"


def _matrix(case: Case) -> str:
    return "I − ∂F/∂x" if case.problem.kind == "fixed_point" else "∂R/∂x"


def _list(names: Iterable[object]) -> str:
    texts = list(map(str, names))
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _inputs(case: Case) -> Iterator[Finding]:
    if not case.pure:
        function = "F" if case.problem.kind == "fixed_point" else "R"
        yield Finding(
            "error",
            "impure",
            f"{function} returns something else each time for the same x and arguments: by a random number, or by what "
            "it counts or changes. There is no solution of that. Pass what changes as an argument, random numbers as a "
            f"key of `jax.random` that is the same in each evaluation.",
        )
    for name, leaf in zip((*case.problem.paths, *case.names), (*case.x0, *case.theta)):
        bad = np.argwhere(~np.isfinite(np.asarray(leaf))) if is_differentiable(leaf) else ()
        if len(bad):
            places = _list(f"{name}[{', '.join(map(str, place))}]" if leaf.shape else name for place in bad)
            yield Finding(
                "error",
                "input-not-finite",
                f"{places} is NaN or infinite, and so is everything that depends on it. Look where it comes from: a "
                "missing value in data, a division by zero.",
            )


def _solve(case: Case, attempts: tuple[Attempt, ...]) -> Iterator[Finding]:
    asked, *others = attempts
    if asked.success:
        return
    better = next((attempt for attempt in others if attempt.success), None)
    remedy = f" ix.{better.call} solves it in {better.nfev} evaluations." if better else ""
    if asked.failed_rows and case.batch_axis is not None:
        count = case.x0[0].shape[case.batch_axis]
        solved = count - len(asked.failed_rows)
        yield Finding(
            "error",
            "rows-failed",
            f"{len(asked.failed_rows)} of {count} rows not solved: {_list(asked.failed_rows)}. "
            + (f"The other {solved} are. " if solved else "")
            + f"Look at what the inputs of these rows have in common; or mask them with `sol.success` under "
            f"`throw=False`. What the solver says: {asked.message}{remedy}",
        )
    else:
        yield Finding(
            "error",
            "not-converged",
            f"{asked.name} has not solved it after {asked.nit} iterations: max|{_residual(case)}| = "
            f"{asked.residual:.2g}, the largest at {asked.worst}. {asked.message}{remedy}",
        )


def _plain(attempts: tuple[Attempt, ...], picard: PlainIteration, local: Local | None) -> Iterator[Finding]:
    severity: Severity = "error" if attempts[0].name.startswith("Picard") and not attempts[0].success else "note"
    solved = next((a for a in attempts if a.success and not a.name.startswith("Picard")), None)
    instead = f"ix.{solved.call} converges in {solved.nfev} evaluations." if solved else "Try ix.Auto()."
    if picard.bad is not None:
        yield Finding(
            severity,
            "picard-not-finite",
            f"Plain iteration leaves the domain of F: the first NaN or infinite value is in {picard.bad}. {instead}",
        )
    elif not picard.converged and (picard.period or picard.needed is None):
        how = f"cycles with period {picard.period}" if picard.period else "does not converge"
        yield Finding(
            severity,
            "picard-cycles" if picard.period else "picard-diverges",
            f"Plain iteration {how}: no number of iterations is enough.{_eigenvalue(local)} {instead}",
        )
    elif picard.needed is not None and picard.needed > _COUNT:
        rate = "" if picard.rate is None else f", in each of which the residual changes by the factor {picard.rate:.4g}"
        yield Finding(
            "note",
            "picard-count",
            f"Plain iteration needs {picard.needed} iterations{rate}. A loop with a fixed number of fewer has neither "
            "the answer nor its gradient.",
        )


def _eigenvalue(local: Local | None) -> str:
    """Why plain iteration does not converge, and which damping would."""
    if local is None or local.radius <= 1 or not np.all(np.isfinite(local.eigenvalues)):
        return ""
    worst = complex(local.eigenvalues[0])
    real = abs(worst.imag) < 1e-12 * abs(worst)
    number = f"{worst.real:.3g}" if real else f"{worst.real:.3g} ± {abs(worst.imag):.3g}i"
    text = f" At the solution ∂F/∂x has the eigenvalue {number}"
    gap = 1 - local.eigenvalues
    if np.min(np.real(gap)) <= 0:
        return f"{text}; no damping helps, since one has a real part above 1."
    # |1 − β (1 − λ)| < 1 for every eigenvalue λ.
    damping = float(np.min(2 * np.real(gap) / np.abs(gap) ** 2))
    return f"{text}; with damping below {damping:.2g}, as in ix.Picard({0.8 * damping:.1g}), it converges."


def _structure(case: Case, local: Local) -> Iterator[Finding]:
    fixed = case.problem.kind == "fixed_point"
    if fixed and set(local.ignored) == set(case.problem.paths):
        yield Finding(
            "error",
            "state-ignored",
            f"F does not depend on its state: ∂F/∂x = 0 for all of {_list(case.problem.paths)}. So the answer is one "
            "evaluation of F, and its implicit derivative that of one step. If the model iterates, what it carries "
            "from one iteration to the next is something else: make that x0, and return it from F.",
        )
        return
    if local.ignored:
        yield Finding(
            "note",
            "leaf-ignored",
            f"F does not depend on {_list(local.ignored)}: outputs rather than unknowns. That is no mistake.",
        )
    if local.passed:
        paths = _list(local.passed)
        yield Finding(
            "error",
            "passed-through",
            f"{f'F returns {paths} as it is' if fixed else f'R does not depend on {paths}'}: every value is a solution "
            f"and none has a derivative, {_matrix(case)} is singular. Take it out of the state, and pass it to "
            f"{'F' if fixed else 'R'} as an argument.",
        )
    else:
        yield from _condition(case, local)
    if local.unreached:
        yield Finding("note", "unreached", f"No parameter changes {_list(local.unreached)}.")
    if local.blocks and local.blocks > 1 and case.batch_axis is None and not local.ignored:
        yield Finding(
            "note",
            "independent",
            f"x falls into {local.blocks} systems that do not depend on each other: one of them under `ix.sweep` or "
            "`jax.vmap` is cheaper, and has a status of its own for each.",
        )


def _condition(case: Case, local: Local) -> Iterator[Finding]:
    plain, scaled = local.condition, local.condition_scaled
    if plain is None or scaled is None:
        return
    if scaled > _ILL:
        singular = scaled > _SINGULAR
        yield Finding(
            "error" if singular else "warning",
            "singular" if singular else "ill-conditioned",
            f"{_matrix(case)} has the condition {scaled:.1e} in units of x, so the equations hardly determine x. Look "
            "for equations that say the same twice, a double root, an unknown that nothing depends on.",
        )
    elif plain > _UNITS * scaled:
        yield Finding(
            "note",
            "units",
            f"The units of x differ much: {_matrix(case)} has the condition {plain:.1e}, and {scaled:.1e} in units of "
            "x. implicitax scales; a dense solve by hand loses digits.",
        )


def _derivatives(case: Case, parameters: tuple[Parameter, ...], bad_input: bool) -> Iterator[Finding]:
    largest = max((abs(p.differences) for p in parameters if np.isfinite(p.differences)), default=0.0)
    undefined = [p.name for p in parameters if not np.isfinite(p.reverse)]
    if undefined:
        cause = f"{_matrix(case)} is singular at x, or F has an infinite derivative there."
        if bad_input:
            cause = (
                "0 · NaN is NaN, so an input that is NaN spoils what all rows share, though its row is left out. Put "
                "any number in its place before the call, and leave out the row after it."
            )
        names = _list(undefined)
        yield Finding("error", "gradient-undefined", f"There is no gradient with respect to {names}: {cause}")
    for p in parameters:
        if not (np.isfinite(p.reverse) and np.isfinite(p.differences)):
            continue
        size = max(abs(p.reverse), abs(p.differences))
        if abs(p.reverse - p.differences) > max(10 * p.uncertainty, _WRONG * size, _NEGLIGIBLE * largest):
            yield _wrong(p)
        elif abs(p.forward - p.reverse) > _TRANSPOSED * max(size, 1e-3 * largest):
            yield Finding(
                "error",
                "not-transposed",
                f"Forward and reverse mode differ for {p.name}: {p.forward:.8g} and {p.reverse:.8g}. A custom "
                "derivative rule inside F may not be linear, or a linear solver needs more steps.",
            )
    idle = [p.name for p in parameters if p.differences == 0 == p.reverse]
    if idle:
        yield Finding("note", "no-influence", f"Without influence on x: {_list(idle)}.")
    others = [name for i, name in enumerate(case.names) if i not in case.smooth]
    if others:
        yield Finding("note", "not-differentiable", f"Integers, without a derivative: {_list(others)}.")


def _wrong(p: Parameter) -> Finding:
    if p.reverse == 0:
        return Finding(
            "error",
            "derivative-cut",
            f"The derivative with respect to {p.name} is cut off inside F: by finite differences x changes by "
            f"{p.differences:.3g}, by the derivative of F not at all. Look for `stop_gradient`, a `custom_jvp` or "
            "`custom_vjp` that drops this argument, a conversion to NumPy or to an integer.",
        )
    return Finding(
        "error",
        "derivative-wrong",
        f"The derivative with respect to {p.name} is wrong: {p.reverse:.5g}, by finite differences "
        f"{p.differences:.5g}. What F says of its derivative is not that of its values: look for a custom derivative "
        "rule, `stop_gradient` on a part, or a kink of F close to x.",
    )
