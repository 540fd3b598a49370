"""What to try after a failure: by what was observed, and by what has run, which is never what is advised."""

from typing import NamedTuple

from .status import Status

_LONG = 500  # iterations after which more of them would not have helped; a first attempt may take half of those allowed
_SMALL = 1000  # unknowns up to which a method with a matrix is worth a try


class Run(NamedTuple):
    """What has run."""

    kind: str  # "fixed_point" or "root"
    solver: str  # the name of its class; "" for a solver of the user's own
    auto: bool  # whether that was chosen for the user
    ours: bool = True  # whether it is no solver of another library
    max_steps: int = 0
    size: int = 1  # unknowns
    damped: bool = False
    matrix: bool = True  # whether the linear solver of the derivative has one
    differentiable: bool = True  # F
    own_tolerances: str = ""  # those of a solver of another library
    unrolled: int | None = None  # the steps that were asked for
    points: int = 0  # tried around x0, where F is not finite there
    tags: str = ""  # what the user has said of A
    excess: int | None = None  # equations, where these are more than the unknowns
    preconditioned: bool = False

    @property
    def preconditioner(self) -> str:
        """What to give."""
        return "a better preconditioner" if self.preconditioned else "a preconditioner"

    @property
    def letter(self) -> str:
        return "F" if self.kind == "fixed_point" else "R"


def advise(status: Status, run: Run, nit: int) -> str:
    """What to try, in a sentence or two; "" where the text of the status says it all."""
    found = _ADVICE.get(status)
    return "" if found is None else found(run, nit)


def _step_limit(run: Run, nit: int) -> str:
    more = f"Raise `max_steps`, which is {run.max_steps}"
    if not run.ours:
        return f"{more}."
    if not run.auto:
        return f"{more}, or leave `solver` out: the default as a rule needs fewer."
    if run.solver == "NewtonKrylov":
        return f"{more}, or give {run.preconditioner}: `solver=ix.NewtonKrylov(preconditioner)`."
    if run.solver == "Anderson" and _newton_may_help(run):
        return f"{more}, or try `solver=ix.Newton()`, which near a solution takes few."
    return f"{more}, or start nearer to the solution."


def _stalled(run: Run, nit: int) -> str:
    if run.kind == "root":
        if not run.auto and run.solver not in ("Ladder", "NewtonKrylov"):
            return "Leave `solver` out: the default steps back where others overshoot."
        nearer = "Start elsewhere; there may be no root for these parameters, which `ix.diagnose` helps to find out."
        if run.solver == "NewtonKrylov":
            return f"Give {run.preconditioner}, `solver=ix.NewtonKrylov(preconditioner)`. {nearer}"
        return nearer
    if run.solver == "Picard":
        step = "a smaller damping" if run.damped else "a damping, `solver=ix.Picard(damping=0.5)`"
        return f"Give {step}, or leave `solver` out: the default damps where it has to."
    if not run.auto:
        return "Leave `solver` out: the default damps where it has to, and begins anew."
    return (
        f"Where F jumps across x there is no fixed point: `ix.diagnose` helps to find out. Start elsewhere"
        f"{_newton(run)}, bring unknowns of different size to one, or loosen `rtol` and `atol`."
    )


def _no_progress(run: Run, nit: int) -> str:
    more = f" Or raise `max_steps`, which is {run.max_steps}." if run.max_steps / 2 <= nit < _LONG else ""
    if run.kind == "fixed_point" and run.solver == "Picard":
        return "Plain iteration leads away from a fixed point here. " + _stalled(run, nit)
    if not run.auto:
        return _stalled(run, nit) + more
    sought = "root" if run.kind == "root" else "fixed point"
    return (
        f"Start elsewhere{_newton(run)}: x0 may be far off, or at a kink, or there may be no {sought} for these "
        f"parameters, which `ix.diagnose` helps to find out.{more}"
    )


def _non_finite(run: Run, nit: int) -> str:
    domain = f"the domain of {run.letter} (no square root or logarithm of a negative number)"
    if nit == 0:
        where = f"finite neither at x0 nor at {run.points} points around it" if run.points else "not finite at x0"
        return f"{run.letter} is {where}: start inside {domain}."
    if run.auto or not run.ours:
        return f"Say where {domain} ends, by `bounds`, or start nearer to the solution."
    return (
        f"The iteration has left {domain}. Leave `solver` out: the default steps back from such points; or say by "
        "`bounds` where it ends."
    )


def _linear_solve(run: Run, nit: int) -> str:
    if run.matrix:
        return "Look for an unknown that the equations do not determine."
    if run.tags:
        of = "I − ∂F/∂x" if run.kind == "fixed_point" else "∂R/∂x"
        return f"Or {of} is not {run.tags}, as `tags` say; or the linear solver needs more steps."
    return (
        "Or the iterative linear solver needs more steps: give it more, by `adjoint=ix.Implicit(linear_solver=...)`, "
        f"or {run.preconditioner}, by `solver=ix.NewtonKrylov(preconditioner)`, which serves the derivative, too."
    )


def _not_a_solution(run: Run, nit: int) -> str:
    if run.unrolled is not None:
        return f"{run.unrolled} steps are too few, or the iteration does not converge: raise those of `ix.Unrolled`."
    judged = "It is judged by `rtol` and `atol`, by default 3.7e-11 of x in float64, 2.4e-5 in float32."
    if not run.ours and run.own_tolerances:
        return f"It stops by tolerances of its own, {run.own_tolerances}. {judged} Tighten those, or loosen these."
    return f"{judged} Solve it more exactly, or loosen these."


def _uncertified(run: Run, nit: int) -> str:
    accept = "say by `residual_atol` how small an R is a root."
    if run.solver == "NewtonKrylov":
        return f"Give {run.preconditioner} or a larger `restart`, or {accept}"
    return accept[0].upper() + accept[1:]


def _newton_may_help(run: Run) -> bool:
    return run.size <= _SMALL and run.differentiable


def _newton(run: Run) -> str:
    return ", or with `solver=ix.Newton()`" if _newton_may_help(run) else ""


def _contradiction(run: Run, nit: int) -> str:
    if run.excess is None:
        return (
            "The constraint contradicts x = F(x). Look whether F leaves it undetermined, as a total that F keeps, and "
            "whether there is a fixed point at the value it asks for; where F has but one fixed point anyway, leave "
            "`constraint` out."
        )
    return (
        f"The sum of squares of the {run.excess} equations for {run.size} unknowns is stationary at x, but R is not 0 "
        "there. Look whether so many are meant, and whether they agree; if they need not, as with data, it is a "
        "least-squares problem: `optimistix.least_squares`. If they do, start elsewhere."
    )


_ADVICE = {
    Status.CONTRADICTION: _contradiction,
    Status.STEP_LIMIT: _step_limit,
    Status.STALLED: _stalled,
    Status.NO_PROGRESS: _no_progress,
    Status.NON_FINITE: _non_finite,
    Status.LINEAR_SOLVE_FAILED: _linear_solve,
    Status.NOT_A_SOLUTION: _not_a_solution,
    Status.UNCERTIFIED: _uncertified,
}
