"""What the numbers mean, in words, and what to do about it."""

from collections.abc import Iterator

import numpy as np

from .._tree import is_differentiable
from . import derivatives, meant, shape
from .evidence import Evidence, listed
from .problem import Case
from .record import ORDER, Attempt, Finding, Local, Parameter, PlainIteration, Severity

_COUNT = 15  # iterations of plain iteration that a model may be thought to do
_ILL, SINGULAR = 1e8, 1e13  # condition in units of x
_SAME = ("still", "unclear")  # verdicts that say nothing against a derivative of 0
_AGREES = 1e-2  # relative error of a derivative up to which it is said that it agrees
_OFF, _OFF_SINGLE = 1e-4, 3e-2  # Newton's correction, relative to x, beyond which a solution is called inaccurate
_UNITS = 1e4  # by what factor the condition is worse as it is


def findings(seen: Evidence) -> tuple[Finding, ...]:
    """All of them, the gravest first."""
    case, local = seen.case, seen.local
    inputs = list(_inputs(case))
    found = [*inputs, *_solve(seen)]
    if seen.picard is not None and not inputs:
        found += _plain(seen.attempts, seen.picard, local)
    if local is not None:
        found += _structure(seen, local)
    if seen.pattern is not None and seen.pattern.form:
        found.append(shape.finding(seen.pattern, case.problem.size))
    found += derivatives.findings(seen, bool(inputs))
    if not inputs:
        found += [*meant.findings(seen), *seen.suspicions]
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.severity)))


def verdict(
    case: Case, found: tuple[Finding, ...], attempts: tuple[Attempt, ...], parameters: tuple[Parameter, ...]
) -> str:
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        return f"Do not trust this: {first_sentence(errors[0].text)}."
    # Where the parameter matters more than the differences are uncertain.
    errors_known = [p.error for p in parameters if abs(p.differences) > 10 * p.uncertainty]
    known = errors_known and max(errors_known) < _AGREES
    which = "what gradient it has" if any(finding.code == "untraced" for finding in found) else "its gradient"
    agrees = f", and {which} agrees with finite differences to {max(errors_known):.0e}" if known else ""
    warnings = {finding.code: None for finding in found if finding.severity == "warning"}
    look = f" Look at the warnings, though: {', '.join(warnings)}." if warnings else ""
    return f"The answer is right: max|{_residual(case)}| = {attempts[0].residual:.1e}{agrees}.{look}"


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")


def _residual(case: Case) -> str:
    return "F(x) − x" if case.problem.kind == "fixed_point" else "R(x)"


def _matrix(case: Case) -> str:
    return "I − ∂F/∂x" if case.problem.kind == "fixed_point" else "∂R/∂x"


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
            places = listed(f"{name}[{', '.join(map(str, place))}]" if leaf.shape else name for place in bad)
            yield Finding(
                "error",
                "input-not-finite",
                f"{places} is NaN or infinite, and so is everything that depends on it. Look where it comes from: a "
                "missing value in data, a division by zero.",
            )


def _solve(seen: Evidence) -> Iterator[Finding]:
    case, (asked, *others) = seen.case, seen.attempts
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
            f"{len(asked.failed_rows)} of {count} rows not solved: {listed(asked.failed_rows)}. "
            + (f"The other {solved} are. " if solved else "")
            + f"Look at what the inputs of these rows have in common; or mask them with `sol.success` under "
            f"`throw=False`. What the solver says: {asked.message}{remedy}",
        )
    else:
        yield Finding(
            "error",
            "not-converged",
            f"{asked.name} has not solved it after {asked.nit} iterations: max|{_residual(case)}| = "
            f"{asked.residual:.2g}, the largest at {asked.worst}. {_why(seen, better)}{remedy}",
        )


def _why(seen: Evidence, better: Attempt | None) -> str:
    """What is known about why it is not solved; where nothing is, what the solver says."""
    fixed, local, jump = seen.case.problem.kind == "fixed_point", seen.local, seen.jump
    if fixed and better and local and np.all(np.isfinite(local.eigenvalues)) and local.complete:
        real = float(np.max(np.real(local.eigenvalues)))
        if real > 1:
            return (
                f"There is a fixed point, but an unstable one: ∂F/∂x has the eigenvalue {real:.3g} there, above 1, so "
                "plain iteration, damped or not, moves away from it, and the default follows that. If it is the one "
                "that you want, use ix.Newton(), or `ix.root` of F(x) − x."
            )
    plain = seen.picard
    if plain is not None and seen.attempts[0].name == "Picard" and (plain.period or plain.needed is None):
        return "More iterations would not help, as is said below."
    if jump is not None:
        return (
            f"{'F' if fixed else 'R'} jumps: where {jump.place} is {jump.x:.6g} it changes by "
            f"{abs(jump.change):.3g} between neighbouring numbers, and the residual changes its sign. So there is no "
            f"{'fixed point' if fixed else 'root'} between the two: replace the comparison, or what else jumps, by a "
            "smooth transition."
        )
    return seen.attempts[0].message


def _plain(attempts: tuple[Attempt, ...], picard: PlainIteration, local: Local | None) -> Iterator[Finding]:
    severity: Severity = "error" if attempts[0].name.startswith("Picard") and not attempts[0].success else "note"
    solved = next((a for a in attempts if a.success and not a.name.startswith("Picard")), None)
    instead = f"ix.{solved.call} converges in {solved.nfev} evaluations." if solved else "Try ix.Auto()."
    if picard.bad is not None and picard.grown:
        yield Finding(
            severity,
            "picard-diverges",
            f"Plain iteration does not converge: it grows beyond all numbers, in {picard.bad}.{_eigenvalue(local)} "
            f"{instead}",
        )
    elif picard.bad is not None:
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


def _structure(seen: Evidence, local: Local) -> Iterator[Finding]:
    case = seen.case
    fixed = case.problem.kind == "fixed_point"
    # A derivative of 0 is no proof: of some leaves F has been found to change with them.
    changes = {moved.name.partition("[")[0] for moved in seen.moved if moved.state and moved.verdict not in _SAME}
    changes |= {moved.name for moved in seen.moved if moved.state and moved.verdict not in _SAME}
    ignored = tuple(name for name in local.ignored if name not in changes)
    if fixed and set(ignored) == set(case.problem.paths):
        yield Finding(
            "error",
            "state-ignored",
            f"F does not depend on its state: ∂F/∂x = 0 for all of {listed(case.problem.paths)}. So the answer is one "
            "evaluation of F, and its implicit derivative that of one step. If the model iterates, what it carries "
            "from one iteration to the next is something else: make that x0, and return it from F.",
        )
        return
    if ignored:
        yield Finding(
            "note",
            "leaf-ignored",
            f"F does not depend on {listed(ignored)}: outputs rather than unknowns. That is no mistake, if they are "
            "meant as such.",
        )
    if local.passed:
        paths = listed(local.passed)
        yield Finding(
            "error",
            "passed-through",
            f"{f'F returns {paths} as it is' if fixed else f'R does not depend on {paths}'}: every value is a solution "
            f"and none has a derivative, {_matrix(case)} is singular. Take it out of the state, and pass it to "
            f"{'F' if fixed else 'R'} as an argument.",
        )
    else:
        yield from _condition(case, local)
        yield from _accuracy(seen, local)
    cut = [moved for moved in seen.moved if moved.verdict in ("steps", "undefined") or moved.hides]
    if local.unreached and not cut:
        yield Finding("note", "unreached", f"No parameter changes {listed(local.unreached)}.")
    if local.blocks and local.blocks > 1 and case.batch_axis is None and not ignored:
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
        singular = scaled > SINGULAR
        look = "Look for equations that say the same twice, a double root, an unknown that nothing depends on."
        if local.total:
            look = (
                f"F keeps the total of {listed(local.total)}, whatever it is: so there is a solution for each. Say "
                "which is meant by `constraint=lambda x, *args: ...`, 0 where the total is right."
            )
        yield Finding(
            "error" if singular else "warning",
            "singular" if singular else "ill-conditioned",
            f"{_matrix(case)} has the condition {scaled:.1e} in units of x, so the equations hardly determine x. "
            f"{look}",
        )
    elif plain > _UNITS * scaled:
        yield Finding(
            "note",
            "units",
            f"The units of x differ much: {_matrix(case)} has the condition {plain:.1e}, and {scaled:.1e} in units of "
            "x. implicitax scales; a dense solve by hand loses digits.",
        )


def _accuracy(seen: Evidence, local: Local) -> Iterator[Finding]:
    """The residual may meet the tolerance where x is far from a solution, and where there is none."""
    allowed = _OFF if seen.case.x0[0].dtype == np.float64 else _OFF_SINGLE
    if local.off is None or local.off <= allowed or (local.condition_scaled or 0) > SINGULAR:
        return
    yield Finding(
        "warning",
        "inaccurate",
        f"max|{_residual(seen.case)}| meets the tolerance, but Newton's correction is {local.off:.1g} of the size of "
        "x: by so much x may be off. Where plain iteration is slow a small residual means little; a map that creeps to "
        "infinity has no fixed point at all. Compare with a smaller `rtol`, or with ix.Newton().",
    )
