"""How a solve ended, and what that means. What to try then is in `advice.py`."""

import enum


class Status(enum.IntEnum):
    """How a solve ended. 0 is success, as in SciPy; each has a `text` that says what happened."""

    CONVERGED = 0
    RUNNING = 1
    STEP_LIMIT = -2
    NON_FINITE = -3
    NON_FINITE_GUESS = -4
    STALLED = -5
    SINGULAR = -6
    LINEAR_SOLVE_FAILED = -7
    NOT_A_SOLUTION = -8
    AT_BOUND = -9
    GUESS_OUT_OF_BOUNDS = -10
    UNBOUNDED = -11
    UNRESOLVED = -12
    UNCERTIFIED = -13
    CONTRADICTION = -14
    NO_PROGRESS = -15
    INCOMPLETE_PATTERN = -16

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Status.CONVERGED: "Converged: the residual at x meets the tolerance.",
    Status.RUNNING: "Not finished.",
    Status.STEP_LIMIT: "Reached max_steps before the residual met the tolerance.",
    Status.NON_FINITE: "The residual is NaN or infinite.",
    Status.NON_FINITE_GUESS: (
        "x0 itself is NaN or infinite. Look where the guess comes from: a division by zero, a missing value in data."
    ),
    Status.STALLED: (
        "The residual has stopped decreasing: a cycle, a jump or kink, or a tolerance below the rounding errors."
    ),
    Status.SINGULAR: (
        "∂R/∂x is singular (for a fixed point R = F(x) − x): the equations do not determine every unknown. Look for a "
        "component that is passed through unchanged, equations that say the same twice, or a double root."
    ),
    Status.LINEAR_SOLVE_FAILED: (
        "The linear solve of the derivative failed: ∂R/∂x is singular at x (for a fixed point R = F(x) − x), as where "
        "a component is passed through unchanged."
    ),
    Status.NOT_A_SOLUTION: "The solver returned a point at which the residual does not meet the tolerance.",
    Status.AT_BOUND: (
        "Stuck at a bound: the iterates press against it, and there is no solution inside that this x0 leads to. Look "
        "whether the bound is meant, whether the parameters allow a solution, or start elsewhere."
    ),
    Status.UNBOUNDED: (
        "Running off to infinity: the map moves x ever less, but the fixed point is as far away as x is large. Look "
        "whether there is one at all for these parameters; if x is that large, choose units in which it is not."
    ),
    Status.UNRESOLVED: (
        "A root is near, but R resolves x to fewer digits than the tolerance asks for: rounding or noise in R, a "
        "double root, or a jump over 0. How many, `Solution.error` says, with `error_estimate=True` and `throw=False`. "
        "Loosen `rtol` or `atol`, compute R in more digits, or say by `residual_atol` how small an R is a root."
    ),
    Status.UNCERTIFIED: (
        "R is as small as at a root, but how far one is cannot be told: ∂R/∂x is singular there (a double root, an "
        "unknown that is not determined), or the linear solver does not get to the digits that it takes."
    ),
    Status.CONTRADICTION: ("There is no solution near at which all holds that is asked for."),
    Status.GUESS_OUT_OF_BOUNDS: "x0 is not strictly inside the bounds. Move it there, or widen `bounds`.",
    Status.NO_PROGRESS: "The residual does not decrease: no point was better than x0.",
    Status.INCOMPLETE_PATTERN: (
        "`sparsity` leaves out an entry of ∂R/∂x that is not 0 (for a fixed point of ∂F/∂x): steps and derivatives "
        "would be wrong. Add it, or leave `sparsity` out: above 200 unknowns the pattern is found from the function."
    ),
}
