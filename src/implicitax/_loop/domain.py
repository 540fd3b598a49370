"""Where F is not finite at the guess: points around it, tried one after the other until it is.

One guess serves all parameters as a rule, and the domain of F moves with these: a chain of a sampler must not end
where it leaves the guess outside. Which way the domain lies F does not say, so the points are nearer to 0 and farther,
above and below in all unknowns, and then scattered: `benchmarks/domains.py` has how often one is inside.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .. import _tree
from .._methods import around, size_of_each
from .._tree import Leaves

# Multiples of x0, and of the size of each unknown that are added.
_FACTORS = np.array([0.5, 2, 1, 1, 0.1, 10, 1, 1, 0.01, 100, -1, 1, 1])
_SHIFTS = np.array([0, 0, 1, -1, 0, 0, 10, -10, 0, 0, 0, 100, -100])


def place(x0: Leaves, number: Int[Array, ""]) -> Leaves:
    """The point to try after `number` others."""

    def together(x: Array) -> Array:
        factor, shift = (jnp.asarray(table, x.dtype)[number] for table in (_FACTORS, _SHIFTS))
        return factor * x + shift * size_of_each(x)

    scattered = around(x0, x0, number)
    return _tree.where(number < len(_FACTORS), tuple(map(together, x0)), scattered)
