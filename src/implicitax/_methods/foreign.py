"""Optimistix's solvers, run as they are."""

from typing import Any, TypeAlias

import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array

from .._problem import Equations
from .._tree import Leaves
from .contract import AbstractMethod

# What `solver` may be.
Solver: TypeAlias = (
    AbstractMethod
    | optx.AbstractRootFinder
    | optx.AbstractFixedPointSolver
    | optx.AbstractLeastSquaresSolver
    | optx.AbstractMinimiser
)
FOREIGN = (
    optx.AbstractRootFinder,
    optx.AbstractFixedPointSolver,
    optx.AbstractLeastSquaresSolver,
    optx.AbstractMinimiser,
)


def kinds_of(solver: Any) -> tuple[str, ...] | None:
    """Of problems that an Optimistix solver solves; None if it is none."""
    if not isinstance(solver, FOREIGN):
        return None
    return ("fixed_point",) if isinstance(solver, optx.AbstractFixedPointSolver) else ("fixed_point", "root")


def run(problem: Equations, solver: Any, theta: Leaves, x0: Leaves, max_steps: int) -> tuple[Leaves, Array]:
    """The point at which an Optimistix solver stops, by its own tolerances, and the steps it took."""
    if isinstance(solver, optx.AbstractFixedPointSolver):

        def F(x: Leaves, theta: Leaves) -> Leaves:
            return tuple(xi + ri for xi, ri in zip(x, problem.residual(x, theta)))

        sol = optx.fixed_point(F, solver, x0, theta, max_steps=max_steps, throw=False)
    else:
        sol = optx.root_find(problem.residual, solver, x0, theta, max_steps=max_steps, throw=False)
    return sol.value, jnp.asarray(sol.stats["num_steps"], jnp.int32)
