"""The entries of a sparse A from products with it: columns of one colour share no row, so one product shows them all.

(Curtis, Powell and Reid, IMA J. Appl. Math. 13 (1974) 117, doi:10.1093/imamat/13.1.117.) They may share the few rows
of the border, each of which is a product with Aᵀ.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _xla
from .._problem.pattern import Colouring

CHUNK = 2**26  # bytes of the products that are computed at a time

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]


def gather(products: Float[Array, "count n"], colouring: Colouring) -> Float[Array, " nnz"]:
    """The entries, if products[c] is the sum of the columns of colour c, and what comes after the last, border rows."""
    which, where = colouring.colours[colouring.cols], colouring.rows
    if colouring.border_rows.size:
        number = np.full(products.shape[1], -1)
        number[colouring.border_rows] = colouring.count + np.arange(colouring.border_rows.size)
        in_border = number[colouring.rows] >= 0
        which = np.where(in_border, number[colouring.rows], which)
        where = np.where(in_border, colouring.cols, where)
    which, where = jnp.asarray(which, jnp.int32), jnp.asarray(where, jnp.int32)
    return products.at[which, where].get(mode="promise_in_bounds", wrap_negative_indices=False)


def from_tangents(product: Product, colouring: Colouring, dtype: Any) -> Float[Array, " nnz"]:
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
    products = (some(wanted[0])[None] if chunks == 1 else jax.lax.map(some, wanted)).reshape(-1, n)
    if colouring.border_rows.size:
        products = jnp.concatenate([products[:count], _border(product, colouring, dtype)])
    return gather(products, colouring)


def _border(product: Product, colouring: Colouring, dtype: Any) -> Float[Array, "border n"]:
    n = colouring.colours.size
    pull = jax.linear_transpose(product, jax.ShapeDtypeStruct((n,), dtype))
    row = lambda i: pull(jnp.zeros(n, dtype).at[i].set(1))[0]
    return jax.vmap(row)(jnp.asarray(colouring.border_rows))
