"""What a solve returns, and every text about how it ended."""

import enum
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree


class Status(enum.IntEnum):
    """How a solve ended. 0 is success, as in SciPy; each has a `text` that says what happened and what to try."""

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

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Status.CONVERGED: "Converged: the residual at x meets the tolerance.",
    Status.RUNNING: "Not finished.",
    Status.STEP_LIMIT: (
        "Reached max_steps before the residual met the tolerance. If the residual was still decreasing, raise "
        "`max_steps` or loosen `rtol` and `atol`, which may be below the rounding errors; otherwise try "
        "`solver=ix.Auto()`."
    ),
    Status.NON_FINITE: (
        "The residual is NaN or infinite. Start inside the domain of the function (no square root or logarithm of a "
        "negative number), or use a solver that steps back from such points: `solver=ix.Auto()`."
    ),
    Status.NON_FINITE_GUESS: (
        "x0 itself is NaN or infinite. Look where the guess comes from: a division by zero, a missing value in data."
    ),
    Status.STALLED: (
        "The residual has stopped decreasing: a cycle, a jump or kink, or a tolerance below the rounding errors. Try "
        "`solver=ix.Auto()`, `ix.Anderson(damping=0.5)` or `ix.Picard(damping=0.5)`, another x0, or a larger tolerance."
    ),
    Status.SINGULAR: (
        "∂R/∂x is singular (for a fixed point R = F(x) − x): the equations do not determine every unknown. Look for a "
        "component that is passed through unchanged, equations that say the same twice, or a double root."
    ),
    Status.LINEAR_SOLVE_FAILED: (
        "The linear solve of the derivative failed: ∂R/∂x is singular at x (for a fixed point R = F(x) − x), as where "
        "a component is passed through unchanged, or an iterative linear solver needs more steps. Look for an unknown "
        "that the equations do not determine, or give `adjoint=ix.Implicit(linear_solver=lineax.GMRES(...))` more."
    ),
    Status.NOT_A_SOLUTION: (
        "The solver returned a point at which the residual does not meet the tolerance. Tighten the solver's own "
        "tolerances, or loosen `rtol` and `atol`."
    ),
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
        "unknown that is not determined), or the linear solver does not get to the digits that it takes. Give a matrix-"
        "free solver a preconditioner or a larger `restart`, or say by `residual_atol` how small an R is a root."
    ),
    Status.CONTRADICTION: (
        "The constraint contradicts x = F(x): there is no fixed point near at which it holds. Look whether F leaves it "
        "undetermined, as a total that F keeps, and whether there is a fixed point at the value it asks for; where F "
        "has but one fixed point anyway, leave `constraint` out."
    ),
    Status.GUESS_OUT_OF_BOUNDS: "x0 is not strictly inside the bounds. Move it there, or widen `bounds`.",
}


_APART = (
    "The constraint and x = F(x) agree at these parameters, but not at any next to them, so that x has no derivative. "
    "Look whether F keeps the total at all parameters, or only while a rate, say, is 0."
)


class Ending(NamedTuple):
    """The numbers of which a message is made, one value a lane."""

    status: Any
    nit: Any
    residual: Any
    component: Any


class Signs(NamedTuple):
    """What else is seen where a derivative is refused, one value a lane."""

    given: Any  # NaN in the tangent or cotangent
    undefined: Any  # NaN in ∂F/∂θ
    holds: Any  # the constraint


class Summary(eqx.Module):
    """What a message needs to know besides the numbers; static, so equal for equal problems."""

    caller: str = eqx.field(static=True)
    solver: str = eqx.field(static=True)
    linear_solver: str = eqx.field(static=True)
    names: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)  # path and shape of each real leaf
    noun: str = eqx.field(static=True, default="solves")  # what there are several of: "rows" in a batch

    def locate(self, index: int) -> str:
        """The name of one real unknown: its tree path, and its index in the leaf."""
        for path, shape in self.names:
            count = int(np.prod(shape))
            if index < count:
                position = ", ".join(str(int(i)) for i in np.unravel_index(index, shape))
                return f"{path}[{position}]" if shape else path
            index -= count
        return "an unknown component"

    def of_failure(self, *numbers: Any) -> str:
        """The message of an error."""
        return f"`{self.caller}`: {self.describe(Ending(*numbers))}"

    def describe(self, ending: Ending, text: str | None = None) -> str:
        """The message of a solve; for arrays, one value a lane, of the first lane that failed. `text`: instead of that
        of its status."""
        status, nit, residual, component = map(np.asarray, ending)
        failed = status != Status.CONVERGED
        if status.ndim and not failed.any():
            return f"{status.size} of {status.size} {self.noun}: {Status.CONVERGED.text}"
        lane = tuple(np.argwhere(failed)[0]) if status.ndim else ()
        code = Status(int(status[lane]))
        where = (
            f"{failed.sum()} of {status.size} {self.noun} failed, at {_indices(failed)}. The first: " if lane else ""
        )
        what = f"{self.solver}, iteration {int(nit[lane])}, max|residual| = {float(residual[lane]):.3g}"
        if code in (Status.NON_FINITE_GUESS, Status.GUESS_OUT_OF_BOUNDS):
            what = f"first at {self.locate(int(component[lane]))}"
        if code is Status.NON_FINITE:
            when = "at x0" if int(nit[lane]) == 0 else f"at iteration {int(nit[lane])}"
            what = f"{self.solver}, {when}, first in the component of {self.locate(int(component[lane]))}"
        if code is Status.AT_BOUND:
            what += f", first at {self.locate(int(component[lane]))}"
        return f"{where}{text or code.text} ({what})"

    def describe_derivative(self, transposed: bool, failed: np.ndarray, *numbers: np.ndarray) -> str:
        """The message of a derivative that is refused; for arrays, of the first lane. The numbers are those of an
        `Ending`, of `Signs`, and the leaves of a null vector."""
        ending, signs, null = Ending(*numbers[:4]), Signs(*numbers[4:7]), numbers[7:]
        if np.any(signs.given) or np.any(signs.undefined):
            return f"`{self.caller}`, derivative: {self.describe_nan(transposed, bool(np.any(signs.given)))}"
        if failed.ndim and self.noun == "solves" and failed.all() and _are_alike(ending):
            # One solution, and the lanes are directions in which it is differentiated.
            first = (0,) * failed.ndim
            failed, numbers = failed[first], tuple(np.asarray(number)[first] for number in numbers)
            ending, signs, null = Ending(*numbers[:4]), Signs(*numbers[4:7]), numbers[7:]
        solved = ending.status == Status.CONVERGED
        parted = failed & solved & ~np.asarray(signs.holds)
        status = np.where(failed & solved, Status.LINEAR_SOLVE_FAILED, np.where(failed, ending.status, 0))
        status = np.where(parted, Status.CONTRADICTION, status)
        lane = tuple(np.argwhere(failed)[0]) if failed.ndim else ()
        instead = _APART if status[lane] == Status.CONTRADICTION and ending.status[lane] == 0 else None
        text = f"`{self.caller}`, derivative: {self.describe(ending._replace(status=status), instead)}"
        if status[lane] == Status.LINEAR_SOLVE_FAILED and null:
            text += self.describe_null(np.concatenate([leaf[lane].ravel() for leaf in null]), transposed)
        return text

    def describe_nan(self, transposed: bool, given: bool) -> str:
        """In what the derivative was asked of, or in ∂F/∂θ, in forward or in reverse mode."""
        if given:
            what = "cotangent of the solution" if transposed else "tangent"
            where = "after" if transposed else "before"
            return f"the {what} is NaN already. Look for it in what is computed {where} the solve."
        if not transposed:
            return (
                "∂F/∂θ is NaN at the solution. Look for the square root or the logarithm of 0, or 0/0, in what F "
                "computes from its parameters."
            )
        return (
            "∂F/∂θ is NaN at the solution, in reverse mode. If it is not in forward mode (`jax.jacfwd`), F has a "
            "`jnp.where` of which the branch not taken has no finite derivative, and reverse mode multiplies that by "
            "0. Mask the argument of that branch, too: `where(ok, f(where(ok, a, 1)), 0)`."
        )

    def describe_null(self, null: np.ndarray, transposed: bool) -> str:
        """Which unknowns are not determined, or which equations say the same, by the null vector of A, or of Aᵀ."""
        # After division by a pivot that is exactly 0 infinite, or NaN where that meets another 0.
        size = np.nan_to_num(np.abs(null), nan=0 if np.isinf(null).any() else np.inf, posinf=np.inf)
        if not size.max() * np.finfo(null.dtype).eps ** (2 / 3) > 1:
            return ""
        entries = np.flatnonzero(size >= 0.1 * size.max())
        largest = entries[np.argsort(-size[entries], kind="stable")][:5]
        names = ", ".join(self.locate(int(i)) for i in np.sort(largest)) + (", ..." if entries.size > 5 else "")
        if not transposed:
            return f" Not determined by the equations: {names}."
        if entries.size == 1:
            return f" The equation of {names} holds whatever x is, as where a component is passed through."
        return (
            f" A combination of the equations of {names} holds whatever x is. Where they keep a total, as reactions "
            "do, say which value it has: `constraint=lambda x, *args: x.sum() - total` of a fixed point, of a root an "
            "equation in the place of one of theirs."
        )


def _are_alike(ending: Ending) -> bool:
    return all(np.all(np.asarray(values) == np.ravel(values)[0]) for values in ending)


def _indices(failed: np.ndarray) -> str:
    indices = [int(index[0]) if failed.ndim == 1 else tuple(map(int, index)) for index in np.argwhere(failed)]
    shown = ", ".join(map(str, indices[:10]))
    return f"{'index' if len(indices) == 1 else 'indices'} {shown}{', ...' if len(indices) > 10 else ''}"


class History(eqx.Module):
    """What was seen while a solve ran, an entry for each evaluation of F along the last axis; −1 after the last.

    - `residual`: max |F(x) − x|, or max |R(x)|; infinite where it was not finite.
    - `error`: the same in units of the tolerance: at most 1 where the solve may stop.
    - `step`: max |x_next − x|, to the point evaluated next.
    - `every`: of how many evaluations one has an entry: 1 up to 1000 evaluations, then 2, up to 2000, then 4, ...
    """

    residual: Float[Array, "... entries"]
    error: Float[Array, "... entries"]
    step: Float[Array, "... entries"]
    every: Int[Array, "..."]


class Solution(eqx.Module):
    """The result of `fixed_point` or `root`. Under `vmap` every field has the lanes as leading axes.

    - `x`: the solution, a pytree like x0. The only field, with `aux`, that has a derivative.
    - `success`: whether the residual, recomputed at `x`, meets the tolerance.
    - `status`: an int32, see `Status`.
    - `message`: what happened, with the numbers, and what to try. Made on the host: not inside `jit`.
    - `nit`: iterations, that is, steps from x0.
    - `nfev`: evaluations of F (a solve with a Jacobian counts each evaluation of F with its n tangents as one; with a
      solver of Optimistix, whose own are not seen, the one at its result).
    - `residual`: max |F(x) − x|, or max |R(x)|, at `x`.
    - `aux`: what F returned beside its value, at `x`; None without `has_aux=True`.
    - `error`: an estimate of max |x − x*|; None without `error_estimate=True`.
    - `history`: a record with the arrays `residual`, `error` (in units of the tolerance) and `step`, an entry for each
      evaluation of F along the last axis, −1 after the last; None without `history=True`.
    - `solver`, `linear_solver`: what solved it, and what solves the linear systems of its derivative, as text.
    """

    x: PyTree
    aux: PyTree
    status: Int[Array, "..."]
    nit: Int[Array, "..."]
    nfev: Int[Array, "..."]
    residual: Float[Array, "..."]
    component: Int[Array, "..."]  # the first real unknown that was not finite; their number if all were
    error: Float[Array, "..."] | None
    summary: Summary
    history: History | None = None

    @property
    def success(self) -> Bool[Array, "..."]:
        return self.status == Status.CONVERGED

    @property
    def solver(self) -> str:
        return self.summary.solver

    @property
    def linear_solver(self) -> str:
        return self.summary.linear_solver

    @property
    def message(self) -> str:
        if isinstance(self.status, Tracer):
            raise TypeError(
                "`Solution.message`: expected concrete numbers, got a traced `status`. Texts cannot be made inside "
                "`jit` or `vmap`. Return the Solution from the transformed function and ask it outside."
            )
        return self.summary.describe(Ending(self.status, self.nit, self.residual, self.component))
