"""The entries of a sparse A from products with it: columns of one colour share no row, so one product shows them all.

(Curtis, Powell and Reid, IMA J. Appl. Math. 13 (1974) 117, doi:10.1093/imamat/13.1.117.)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _xla

CHUNK = 2**26  # bytes of the products that are computed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Colouring:
    """A pattern, entry k of which is at (rows[k], cols[k]), and the colour of each column, 0 ≤ colour < count."""

    rows: np.ndarray
    cols: np.ndarray
    colours: np.ndarray
    count: int


def gather(products: Float[Array, "count n"], colouring: Colouring) -> Float[Array, " nnz"]:
    """The entries, if products[c] is the sum of the columns of colour c."""
    colours, rows = (jnp.asarray(index, jnp.int32) for index in (colouring.colours[colouring.cols], colouring.rows))
    return products.at[colours, rows].get(mode="promise_in_bounds", wrap_negative_indices=False)


def from_tangents(
    product: Callable[[Float[Array, " n"]], Float[Array, " n"]], colouring: Colouring, dtype: Any
) -> Float[Array, " nnz"]:
    """The entries of the A of v ↦ A v, by a product a colour, as many at once as fit into `CHUNK`.

    All products are kept: of a good colouring they are about as many numbers as the entries.
    """
    n, count = colouring.colours.size, colouring.count
    chunks = min(count, -(-count * n * jnp.dtype(dtype).itemsize // CHUNK))
    size = -(-count // chunks)
    # The colours beyond the last have no columns. The seeds are compared where they are used: a matrix of them, which
    # is constant, XLA would work out while it compiles.
    wanted = jnp.arange(chunks * size, dtype=jnp.int32).reshape(chunks, size)
    colours = jax.lax.optimization_barrier(jnp.asarray(colouring.colours, jnp.int32))
    seed = lambda colour: _xla.where(colours == colour, jnp.ones((), dtype), jnp.zeros((), dtype))
    some = jax.vmap(lambda colour: product(seed(colour)))
    products = some(wanted[0])[None] if chunks == 1 else jax.lax.map(some, wanted)
    return gather(products.reshape(-1, n), colouring)
