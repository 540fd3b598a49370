"""Tolerances and bounds as the user gives them, checked, and spread over the real leaves of the state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._adjoints import Unrolled
from ._bounds import Bounds
from ._errors import mistake
from ._layout import is_dynamic, path_names
from ._methods import AbstractSolver, Tolerance
from ._options import Options
from ._problem import Problem


def tolerances(problem: Problem, rtol: Any, atol: Any) -> Tolerance:
    """One value a real leaf of the state; each of the two may be a pytree prefix of x0."""
    default = tuple(float(jnp.finfo(leaf.dtype).eps) ** (2 / 3) for leaf in problem.x_struct)
    return Tolerance(*(_tolerance(problem, name, value, default) for name, value in (("rtol", rtol), ("atol", atol))))


def _tolerance(problem: Problem, name: str, value: Any, default: tuple[float, ...]) -> tuple[Any, ...]:
    argument = f"{problem.caller}({name}=...)"
    if value is None:
        return default
    for path, leaf in zip(path_names(value, name), jax.tree.leaves(value)):
        if not isinstance(leaf, Tracer) and not (_is_real(leaf) and np.all(np.asarray(leaf) >= 0)):
            raise ValueError(
                mistake(
                    argument,
                    "a number of at least 0",
                    f"{leaf!r} at {path}",
                    "The solve stops where every |residual| ≤ atol + rtol·|x|.",
                    f"Use for instance {name}=1e-8, or leave it out: eps^(2/3) of the dtype of x.",
                )
            )
    return _spread(problem, argument, "tolerance", value)


def box(problem: Problem, options: Options, bounds: Any) -> Bounds | None:
    """`bounds=(lower, upper)`, each None, or a pytree prefix of x0, as one value a real leaf of the state."""
    if bounds is None:
        return None
    argument = f"{problem.caller}(bounds=...)"
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(
            mistake(
                argument,
                "a pair (lower, upper)",
                repr(bounds),
                "Each of the two is None, a number, or a pytree prefix of x0.",
                "Write for instance bounds=(0.0, None) for x > 0.",
            )
        )
    if not isinstance(options.solver, AbstractSolver) or isinstance(options.adjoint, Unrolled):
        raise ValueError(
            mistake(
                argument,
                "a solver that keeps to them, any of implicitax",
                repr(options.adjoint if isinstance(options.adjoint, Unrolled) else options.solver),
                "Solvers of Optimistix and a fixed number of iterations take their steps without looking at bounds.",
                "Leave out `bounds`, or `solver` and `adjoint`.",
            )
        )
    if any(problem.state.complex_):
        raise ValueError(
            mistake(
                argument,
                "a real x0",
                "complex leaves",
                "Complex numbers have no order.",
                "Solve for the real and the imaginary part, or for modulus and phase, as two leaves.",
            )
        )
    sides = []
    for side, name, unbounded in zip(bounds, ("lower", "upper"), (-np.inf, np.inf)):
        is_none = lambda leaf: leaf is None
        side = jax.tree.map(lambda leaf, free=unbounded: free if leaf is None else leaf, side, is_leaf=is_none)
        for path, leaf in zip(path_names(side, name), jax.tree.leaves(side)):
            if not isinstance(leaf, Tracer) and not (_is_real(leaf) and not np.any(np.isnan(np.asarray(leaf)))):
                raise ValueError(
                    mistake(
                        argument,
                        "numbers, or None where there is no bound",
                        f"{leaf!r} at {path}",
                        "Every component of x is kept strictly between its bounds.",
                        "Write for instance bounds=(0.0, None) for x > 0.",
                    )
                )
        sides.append(_spread(problem, argument, "bound", side))
    for path, low, up in zip(problem.paths, *sides):
        concrete = not isinstance(low, Tracer) and not isinstance(up, Tracer)
        if concrete and not np.all(np.asarray(low) < np.asarray(up)):
            raise ValueError(
                mistake(
                    argument,
                    "lower < upper",
                    f"{low} and {up} for {path}",
                    "There is no room between them.",
                    "Perhaps they were given as (upper, lower).",
                )
            )
    return Bounds(*sides)


def _is_real(leaf: Any) -> bool:
    return (is_dynamic(leaf) or isinstance(leaf, int)) and not np.iscomplexobj(leaf)


def _spread(problem: Problem, argument: str, noun: str, value: Any) -> tuple[Any, ...]:
    """A pytree prefix of x0 as one value a real leaf."""
    places = jax.tree.unflatten(problem.state.treedef, range(len(problem.state.static)))
    try:
        spread = jax.tree.map(lambda leaf, below: [leaf] * len(jax.tree.leaves(below)), value, places)
    except ValueError as error:
        raise ValueError(
            mistake(
                argument,
                f"one number, or a pytree prefix of x0, {problem.state.treedef}",
                str(jax.tree.structure(value)),
                f"Each leaf of the {noun} stands for everything below the same place of x0.",
                "Give one number, or one for each entry of x0.",
            )
        ) from error
    values = problem.state.repeat(jax.tree.leaves(spread))
    for path, struct, leaf in zip(problem.paths, problem.x_struct, values):
        try:
            fits = np.broadcast_shapes(np.shape(leaf), struct.shape) == struct.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                mistake(
                    argument,
                    f"a {noun} that broadcasts to the shape {struct.shape} of {path}",
                    f"the shape {np.shape(leaf)}",
                    "One number for a leaf, or an array with one for each component.",
                    "Give a number, or an array of the shape of the leaf.",
                )
            )
    return values
