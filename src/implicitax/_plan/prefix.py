"""A pytree prefix of x0, spread over the real leaves of the state."""

from typing import Any

import jax

from .._errors import values as check
from .._errors.problem import structs
from .._problem import Problem


def spread(problem: Problem, argument: str, noun: str, value: Any) -> tuple[Any, ...]:
    """A pytree prefix of x0 as one value a real leaf."""
    places = jax.tree.unflatten(problem.state.treedef, range(len(problem.state.static)))
    try:
        spread = jax.tree.map(lambda leaf, below: [leaf] * len(jax.tree.leaves(below)), value, places)
    except ValueError as error:
        x0 = jax.tree.unflatten(problem.state.treedef, structs(problem.state, problem.x_struct))
        raise check.wrong_prefix(argument, noun, x0, value) from error
    values = problem.state.repeat(jax.tree.leaves(spread))
    for path, struct, leaf in zip(problem.paths, problem.x_struct, values):
        check.check_broadcast(argument, noun, path, leaf, struct)
    return values
