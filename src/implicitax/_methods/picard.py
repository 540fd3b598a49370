"""Plain iteration, with or without damping."""

from typing import Any

from jaxtyping import Array

from .. import _tree, _xla
from .._errors.values import check_damping
from .._tree import Leaves
from .contract import AbstractMethod, Evaluation, Proposal, Tolerance, reaching


class Picard(AbstractMethod):
    """Picard iteration: `x ← x + damping·(F(x) − x)`.

    Converges from nearby if every eigenvalue λ of ∂F/∂x has `|1 + damping·(λ − 1)| < 1`, by that factor an iteration.
    With `damping=1` this is `x ← F(x)`; a smaller damping suppresses oscillations (real λ < −1). It finds the fixed
    point that plain iteration finds, by definition.

    **Arguments:**

    - `damping`: factor of the step, in (0, 1]; a float or a scalar array.

    **Cost:** one evaluation of F an iteration.

    **Fails:** with `Status.NON_FINITE` at the first iterate where F is not finite, with `Status.STALLED` where the
    residual has stopped decreasing (a cycle, divergence), with `Status.STEP_LIMIT` where it is too slow.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> sol = ix.fixed_point(lambda x: jnp.cos(x), 1.0, solver=ix.Picard())
    >>> print(round(float(sol.x), 3), int(sol.nit))
    0.739 24

    ```
    """

    damping: float | Array = 1.0
    default_max_steps = 10_000

    def __check_init__(self) -> None:
        check_damping("Picard", self.damping, "1 is plain iteration, a smaller one takes that part of each step.")

    def init(self, x: Leaves, setting: Array) -> tuple[()]:
        return ()

    def full_step(self, at: Evaluation, tolerance: Tolerance) -> Leaves:
        return _tree.axpy(self.damping, at.residual, at.x)

    def step(self, at: Evaluation, state: Any, tolerance: Tolerance) -> Proposal:
        return Proposal(self.full_step(at, tolerance), state)

    def reach(self, at: Evaluation, proposal: Proposal, rate: Array) -> Leaves:
        # The sum of the geometric series of steps that each are shorter by the rate.
        more = _xla.where(rate < 1, 1 / _xla.where(rate < 1, 1 - rate, 1), 1)
        return reaching(at, proposal, tuple((more * leaf).astype(leaf.dtype) for leaf in at.residual))
