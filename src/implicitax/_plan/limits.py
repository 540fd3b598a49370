"""Tolerances and bounds as the user gives them, spread over the real leaves of the state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import values as check
from .._errors.keywords import check_determined
from .._loop import Bounds
from .._methods import AbstractMethod, Tolerance
from .._problem import Problem
from .._rule import Unrolled
from .keywords import Wanted
from .plan import Options
from .prefix import spread


def tolerances(problem: Problem, wanted: Wanted) -> Tolerance:
    """One value a real leaf of the state; each of those given may be a pytree prefix of x0."""
    check_determined(problem.caller, "residual_atol", wanted.residual_atol, problem.size, problem.excess)
    default = tuple(float(jnp.finfo(leaf.dtype).eps) ** (2 / 3) for leaf in problem.x_struct)
    rtol, atol, residual = (
        None if value is None else _tolerance(problem, name, value)
        for name, value in (("rtol", wanted.rtol), ("atol", wanted.atol), ("residual_atol", wanted.residual_atol))
    )
    return Tolerance(default if rtol is None else rtol, atol, residual)


def _tolerance(problem: Problem, name: str, value: Any) -> tuple[Any, ...]:
    check.check_tolerance(problem.caller, name, value)
    return spread(problem, f"{problem.caller}({name}=...)", "tolerance", value)


def box(problem: Problem, options: Options, bounds: Any) -> Bounds | None:
    """`bounds=(lower, upper)`, each None, or a pytree prefix of x0, as one value a real leaf of the state."""
    if bounds is None:
        return None
    unrolled, ours = isinstance(options.adjoint, Unrolled), isinstance(options.solver, AbstractMethod)
    culprit = options.adjoint if unrolled else None if ours else options.solver
    check.check_box(problem.caller, bounds, culprit, real=not any(problem.state.complex_))
    sides = []
    for side, name, unbounded in zip(bounds, ("lower", "upper"), (-np.inf, np.inf)):
        is_none = lambda leaf: leaf is None
        side = jax.tree.map(lambda leaf, free=unbounded: free if leaf is None else leaf, side, is_leaf=is_none)
        check.check_bound(problem.caller, name, side)
        sides.append(spread(problem, f"{problem.caller}(bounds=...)", "bound", side))
    check.check_room(problem.caller, problem.paths, *sides)
    return Bounds(*sides)
