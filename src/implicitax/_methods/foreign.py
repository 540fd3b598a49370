"""Optimistix's solvers, run as they are."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array

from .._errors.keywords import lacks_option
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
SIDES = ("lower", "upper")  # options that are one value, or a pytree prefix of x0
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


class Asked(NamedTuple):
    """What is asked of a solver of Optimistix."""

    caller: str
    max_steps: int
    options: Any  # its own; `lower` and `upper` one value a leaf of x


def run(problem: Equations, solver: Any, asked: Asked, theta: Leaves, x0: Leaves) -> tuple[Leaves, Array]:
    """The point at which an Optimistix solver stops, by its own tolerances, and the steps it took."""
    single = len(x0) == 1  # some are for one array only, or one number
    pack = lambda leaves: leaves[0] if single else leaves
    unpack = lambda y: (y,) if single else y
    R = lambda y, theta: pack(problem.residual(unpack(y), theta))
    F = lambda y, theta: jax.tree.map(jnp.add, y, R(y, theta))
    of_fixed_point = isinstance(solver, optx.AbstractFixedPointSolver)
    solve, function = (optx.fixed_point, F) if of_fixed_point else (optx.root_find, R)
    options = {name: pack(value) if name in SIDES else value for name, value in (asked.options or {}).items()}
    try:
        sol = solve(function, solver, pack(x0), theta, options=options, max_steps=asked.max_steps, throw=False)
    except KeyError as error:
        raise lacks_option(asked.caller, solver, error.args[0], options) from error
    return unpack(sol.value), jnp.asarray(sol.stats["num_steps"], jnp.int32)
