"""What a solve returns."""

from typing import TYPE_CHECKING, Any, Generic

import equinox as eqx
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeVar

from .._errors import words
from . import show
from .status import Status
from .summary import Ending, Summary

X = TypeVar("X", default=Any)  # the type of x0
Aux = TypeVar("Aux", default=Any)


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


class Solution(eqx.Module, Generic[X, Aux]):
    """The result of `fixed_point` or `root`. Under `vmap` every field has the lanes as leading axes.

    At the prompt and in a notebook it shows itself: how it ended, x, the residual, the iterations, what was used; of
    lanes and rows how many ended how, and the worst. To a type checker it is a `Solution[X, Aux]`, X the type of x0.

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

    x: X
    aux: Aux
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

    if not TYPE_CHECKING:  # for which there would be every name

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(words.attribute(name, _NAMES))

        def __getitem__(self, key: Any) -> Any:  # by which Python unpacks, too
            raise TypeError(words.item(key))

    def __repr__(self) -> str:
        return show.as_text(self._parts)

    def _repr_html_(self) -> str:
        return show.as_html(self._parts)

    @property
    def _parts(self) -> show.Parts:
        ending = Ending(self.status, self.nit, self.residual, self.component)
        return show.Parts(self.x, self.aux, ending, self.nfev, self.error, self.history, self.summary)


_NAMES = ("x", "success", "status", "message", "nit", "nfev", "residual", "aux", "error", "history", "solver")
