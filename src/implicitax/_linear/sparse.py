"""A sparse A: its entries in the layout of a form, and what a solve asks of a matrix.

The form is what the pattern is by structure (blocks, a band), found once a problem and static. Its layout holds the
entries in order, with slots for what is 0, so that a product with A is a few operations on whole arrays: no scattering.
"""

import abc
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import _xla

_ROUNDING = 64  # times eps (‖A‖ ‖x‖ + ‖b‖) is the residual that a stable elimination may leave
_REFINED = 3  # times, where that leaves more
_SINGULAR = 8  # times m eps is the reciprocal of a condition at which A is singular to rounding, m entries in a row

Reduction = Callable[..., Array]  # jnp.sum or jnp.max, along an axis


class Factors(eqx.Module):
    """A factorised: one factorisation for solves with A and with Aᵀ."""

    @abc.abstractmethod
    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        """A⁻¹ b or A⁻ᵀ b, linear in b also to JAX; not finite where a pivot is 0."""


class Form(abc.ABC):
    """The structure of a pattern: where each entry stands in the layout, and how a matrix in this layout is solved.

    Equal, and of one hash, are forms with one structure and one pattern: so a form can be static in `jit`. Vectors in
    a form are in its order and may be longer than n: `_enter` and `_leave` translate.
    """

    def __init__(self, n: int, slots: np.ndarray | None, index: np.ndarray, key: tuple[Any, ...]):
        """`slots[s]` is the unknown in the slot s of a vector, n in those left empty; None: unknown s in slot s.
        `index`, of the layout's shape, is which value stands there, nnz for a 0, nnz + 1 for the 1 of an empty slot."""
        self.n, self.slots, self.index = n, slots, index
        self.place = None if slots is None else _inverse(slots, n)
        digest = hashlib.blake2b(index.tobytes(), digest_size=16)
        digest.update(b"" if slots is None else slots.tobytes())
        self._key = (type(self), n, *key, digest.digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()}, n={self.n})"

    @abc.abstractmethod
    def describe(self) -> str:
        """The structure in words."""

    def pack(self, values: Float[Array, " nnz"]) -> "Sparse":
        """A from the values of its pattern, in the pattern's order."""
        extended = jnp.concatenate([values, jnp.array([0, 1], values.dtype)])
        return Sparse(take(extended, self.index), self)

    def in_rows(self, v: Array, empty: int) -> Array:
        """vᵢ beside every entry Aᵢⱼ, by broadcasting."""
        return self._beside_rows(self._enter(v, empty))

    def in_columns(self, v: Array, empty: int) -> Array:
        """vⱼ beside every entry Aᵢⱼ, by broadcasting."""
        return self._beside_columns(self._enter(v, empty))

    def over_rows(self, reduction: Reduction, data: Array) -> Array:
        """By row, the reduction of its entries."""
        return self._leave(self._over_rows(reduction, data))

    def over_columns(self, reduction: Reduction, data: Array) -> Array:
        return self._leave(self._over_columns(reduction, data))

    def matvec(self, data: Array, x: Array) -> Array:
        return self.over_rows(jnp.sum, data * self.in_columns(x, 0))

    def rmatvec(self, data: Array, x: Array) -> Array:
        return self.over_columns(jnp.sum, data * self.in_rows(x, 0))

    @abc.abstractmethod
    def factor(self, data: Array) -> Factors: ...

    @abc.abstractmethod
    def _beside_rows(self, v: Array) -> Array: ...

    @abc.abstractmethod
    def _beside_columns(self, v: Array) -> Array: ...

    @abc.abstractmethod
    def _over_rows(self, reduction: Reduction, data: Array) -> Array: ...

    @abc.abstractmethod
    def _over_columns(self, reduction: Reduction, data: Array) -> Array: ...

    @property
    @abc.abstractmethod
    def _length(self) -> int:
        """Slots in a vector."""

    def _enter(self, v: Array, empty: int = 0) -> Array:
        if self.slots is not None:
            # Without empty slots no copy of v with one entry more is needed.
            return take(v if self._length == self.n else jnp.append(v, jnp.array(empty, v.dtype)), self.slots)
        return v if self._length == self.n else jnp.pad(v, (0, self._length - self.n), constant_values=empty)

    def _leave(self, v: Array) -> Array:
        return v[: self.n] if self.place is None else take(v, self.place)


class Sparse(eqx.Module):
    """A matrix in the layout of a form."""

    data: Array
    form: Form = eqx.field(static=True)

    def matvec(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """A x."""
        return self.form.matvec(self.data, x)

    def rmatvec(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Aᵀ x."""
        return self.form.rmatvec(self.data, x)

    def times(self, x: Float[Array, " n"], transpose: bool) -> Float[Array, " n"]:
        """A x, or Aᵀ x."""
        return self.rmatvec(x) if transpose else self.matvec(x)

    def abs(self) -> "Sparse":
        return Sparse(jnp.abs(self.data), self.form)

    def largest_in_rows(self) -> Float[Array, " n"]:
        """max |Aᵢⱼ| over j."""
        return self.form.over_rows(jnp.max, jnp.abs(self.data))

    def largest_in_columns(self) -> Float[Array, " n"]:
        """max |Aᵢⱼ| over i."""
        return self.form.over_columns(jnp.max, jnp.abs(self.data))

    def scaled(self, rows: Float[Array, " n"], columns: Float[Array, " n"]) -> "Sparse":
        """diag(rows) A diag(columns)."""
        data = self.data * self.form.in_rows(rows, 1)
        return Sparse(data * self.form.in_columns(columns, 1), self.form)

    def factor(self) -> Factors:
        return self.form.factor(self.data)


class Solved(NamedTuple):
    """The answer of a sparse system, with a verdict."""

    y: Float[Array, " n"]
    ok: Bool[Array, ""]  # whether it solves a system within rounding of this one, of a matrix that is not singular


def solve_sparse(A: Sparse, factors: Factors, b: Float[Array, " n"], *, transpose: bool = False) -> Solved:
    """A⁻¹ b, refined where the elimination has lost digits, and judged by its backward error

        ‖A y − b‖ / (‖A‖ ‖y‖ + ‖b‖)

    in the norm of the largest entry (Rigal and Gaches, doi:10.1145/321406.321416). What A is near to being singular is
    for `trust.py` to say; here only what is singular to rounding is refused, in the units that A has been scaled to.
    """
    norm, largest = _xla.max_abs(A.abs().times(jnp.ones_like(b), transpose)), _xla.max_abs(b)
    eps = float(jnp.finfo(b.dtype).eps)

    def judged(y: Array) -> tuple[Array, Array]:
        residual = b - A.times(y, transpose)
        return residual, _xla.max_abs(residual) <= _ROUNDING * eps * (norm * _xla.max_abs(y) + largest)

    def refined(_: Any, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        y, residual, ok = found
        better = y + factors.solve(residual, transpose=transpose)
        left, solved = judged(better)
        return _xla.where(ok, y, better), _xla.where(ok, residual, left), ok | solved

    y = factors.solve(b, transpose=transpose)
    found = y, *judged(y)
    y, _, ok = _xla.if_all(
        found[2], lambda *found: found, lambda *found: jax.lax.fori_loop(0, _REFINED, refined, found), *found
    )
    in_row = A.data.size / b.size
    common = jnp.minimum(norm, in_row * _xla.max_abs(A.data))  # that of rows of which one may be far longer
    regular = common * _xla.max_abs(y) * (_SINGULAR * in_row * eps) <= largest
    return Solved(y, ok & ((largest == 0) | regular))


def _inverse(slots: np.ndarray, n: int) -> np.ndarray:
    place = np.empty(n + 1, np.int32)
    place[slots] = np.arange(slots.size, dtype=np.int32)
    return place[:n]


def take(v: Array, index: np.ndarray) -> Array:
    """v[index], with no test of bounds that XLA would work out for a long constant index while it compiles."""
    return v.at[jnp.asarray(index)].get(mode="promise_in_bounds", wrap_negative_indices=False)


def precise(subscripts: str, *operands: Array) -> Array:
    """Einstein's sums in the precision of the operands, on a GPU too."""
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)
