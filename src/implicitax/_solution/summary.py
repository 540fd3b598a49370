"""The message of a solve, and of a derivative."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .advice import Run, advise
from .status import Status

_APART = (
    "The constraint and x = F(x) agree at these parameters, but not at any next to them, so that x has no derivative. "
    "Look whether F keeps the total at all parameters, or only while a rate, say, is 0."
)
_BY_LEAST_SQUARES = (
    "The equations, more than there are unknowns, agree at these parameters, but not at all next to them. In such a "
    "direction x has a first derivative, by the pseudo-inverse, but no second."
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
    run: Run = eqx.field(static=True, default=Run("fixed_point", "", True))

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
        where = f"{failed.sum()} of {status.size} {self.noun} failed, at {indices(failed)}. The first: " if lane else ""
        what = f"{self.solver}, iteration {int(nit[lane])}, max|residual| = {float(residual[lane]):.3g}"
        if code in (Status.NON_FINITE_GUESS, Status.GUESS_OUT_OF_BOUNDS):
            what = f"first at {self.locate(int(component[lane]))}"
        if code is Status.NON_FINITE:
            when = "at x0" if int(nit[lane]) == 0 else f"at iteration {int(nit[lane])}"
            what = f"{self.solver}, {when}, first in the component of {self.locate(int(component[lane]))}"
        if code is Status.INCOMPLETE_PATTERN:
            what += f", first in the equation of {self.locate(int(component[lane]))}"
        if code is Status.AT_BOUND:
            what += f", first at {self.locate(int(component[lane]))}"
        text = text or " ".join(filter(None, (code.text, advise(code, self.run, int(nit[lane])))))
        return f"{where}{text} ({what})"

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
        apart = _APART if self.run.excess is None else _BY_LEAST_SQUARES
        instead = apart if status[lane] == Status.CONTRADICTION and ending.status[lane] == 0 else None
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


def indices(failed: np.ndarray) -> str:
    """Where it is true, as many as one can read."""
    found = [int(index[0]) if failed.ndim == 1 else tuple(map(int, index)) for index in np.argwhere(failed)]
    shown = ", ".join(map(str, found[:10]))
    return f"{'index' if len(found) == 1 else 'indices'} {shown}{', ...' if len(found) > 10 else ''}"
