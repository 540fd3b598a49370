"""The default method, chosen in this one place."""

from typing import Any

from jaxtyping import Array

from .. import _linear
from .._tree import Leaves
from .anderson import RETRIES, Anderson
from .base import AbstractSolver, Evaluation, Proposal, Tolerance
from .ladder import Ladder
from .newton_krylov import NewtonKrylov
from .pseudo_transient import PseudoTransient

FEW = 8  # unknowns up to which n tangents of F an iteration cost less than the iterations that they save


class Auto(AbstractSolver):
    """The default: the method chosen by kind and by size. With `batch_axis` the size is that of a row.

    | | few unknowns (n ≤ 8) | more | n > 1000 |
    |---|---|---|---|
    | `fixed_point` | `PseudoTransient(restarts=3)` | `Anderson(10, warmup=30, retries=…, restarts=4)` | the same |
    | `root` | `Ladder()` | `Ladder()` | `NewtonKrylov()` |

    In a batch, which waits for its last row, there are no restarts.

    For a fixed point it aims at the one that plain iteration from x0 reaches, in less time, and converges where
    plain iteration oscillates or leaves the domain of F. `Solution.solver` says what was chosen.

    If F has few operations, both begin with an attempt that costs next to nothing beside F: up to 4 unknowns a few
    steps of plain iteration and then Newton's; of more, plain iteration as long as its rate says that it will converge
    in 50 evaluations, or where one costs little, in 200.

    ```python
    >>> import implicitax as ix
    >>> sol = ix.fixed_point(lambda x: 10 / x**2, 2.0)  # plain iteration diverges: ∂F/∂x = −2
    >>> print(round(float(sol.x), 3), sol.solver)
    2.154 PseudoTransient(linear_solver=SmallLU(), restarts=3)

    ```
    """

    kinds = ("fixed_point", "root")

    def choose(self, kind: str, size: int, batch: bool = False) -> AbstractSolver:
        if kind == "root":
            return Ladder() if size <= _linear.DENSE else NewtonKrylov()
        if size <= FEW:
            return PseudoTransient(restarts=0 if batch else 3)
        return Anderson(memory=10, warmup=30, retries=RETRIES, restarts=0 if batch else 4)

    def init(self, x: Leaves, setting: Array) -> Any:
        raise NotImplementedError("`Auto` is replaced by the method it chooses before it runs.")

    def step(self, at: Evaluation, state: Any, tolerance: Tolerance) -> Proposal:
        raise NotImplementedError("`Auto` is replaced by the method it chooses before it runs.")
