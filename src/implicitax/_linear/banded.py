"""Narrow bands, in parts that are eliminated beside each other.

Of the unknowns every L + w-th group of w is a separator, so that the L unknowns between two are an interior that is
coupled to no other. The elimination goes through all interiors at once, one row of each a step,

    ⎡ A₁       F₁    ⎤     Aₚ an interior, a band of half-width w: LU with partial pivoting in Aₚ,
    ⎢    A₂    F₂ G₂ ⎥     Fₚ, Gₚ its columns that belong to the separators before and after it,
    ⎢       ⋱     ⋱  ⎥     and below, the rows of the separators,
    ⎣ B₁ B₂ …   D    ⎦

and leaves of the separators D − B A⁻¹ [F G], which is block-tridiagonal. (Wang, ACM Trans. Math. Softw. 7 (1981) 170,
doi:10.1145/355945.355947; Polizzi and Sameh, doi:10.1016/j.parco.2005.07.005.)

No row of a separator is a pivot in an interior. A pivot that is 0 to half the digits, as where an interior is singular
and the whole is not, is replaced by one of that size: the answer then has half the digits, which refining makes whole.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import _xla
from . import block_tridiagonal
from .sparse import Factors
from .tridiagonal import Diagonals

_MOST_PARTS = 256  # more lanes than this are no faster on a CPU, and make a longer system of separators

Solve: TypeAlias = Callable[[Float[Array, "w P"]], Float[Array, "w P"]]


class Interiors(NamedTuple):
    """What each step leaves, for all P interiors."""

    pivot: Int[Array, "L P"]  # the row that was exchanged with the first of the w + 1 candidates
    diagonal: Float[Array, "L P"]  # of U
    upper: Float[Array, "L 2*w P"]  # and the rest of its row
    before: Float[Array, "L w P"]  # with its entries in the columns of the separator before
    lower: list[Float[Array, "L P"]]  # the factors of the w rows that follow
    lower_before: Float[Array, "L w P"]  # and of the rows of the separator before


class Window(NamedTuple):
    """The rows that are not eliminated yet and reach the next column, w + 1 candidates and the w of the separator.

    The candidates are apart, so that a new one comes in without a copy of the others.
    """

    rows: list[Float[Array, "d P"]]
    before: list[Float[Array, "w P"]]
    separator: Float[Array, "w d P"]
    separator_before: Float[Array, "w w P"]


def _window(rows: Float[Array, "m d P"], own: Float[Array, "w d P"]) -> Window:
    """The first of them, with the columns that belong to the separators apart."""
    (w, d, _), shape = own.shape, own.shape[2:]
    nothing = functools.partial(jnp.zeros, dtype=own.dtype)
    # Of row j the first w − j entries are in the separator before, of row s of that, the last s + 1 in this interior.
    filled = lambda *parts: jnp.concatenate([part for part in parts if part.shape[0]])
    first = [filled(rows[j, w - j :], nothing((w - j, *shape))) for j in range(w + 1)]
    before = [filled(nothing((j, *shape)), rows[j, : w - j]) for j in range(w)] + [nothing((w, *shape))]
    previous = jnp.concatenate([jnp.zeros_like(own[..., :1]), own[..., :-1]], -1)
    separator = [filled(previous[s, 2 * w - s :], nothing((d - 1 - s, *shape))) for s in range(w)]
    return Window(first, before, jnp.stack(separator), nothing((w, w, *shape)))


def eliminate(rows: Float[Array, "m d P"], smallest: Float[Array, ""]) -> tuple[Interiors, Float[Array, "P w 3*w"]]:
    """The LU decomposition of the interiors, and the block-tridiagonal system that is left of the separators."""
    w = rows.shape[1] // 2
    interior, own = rows[:-w], rows[-w:]
    within = (np.arange(w)[:, None] + np.arange(2 * w + 1) < 2 * w)[..., None]
    rows = jnp.concatenate([interior, own * within, jnp.zeros_like(rows[:1])])
    length = interior.shape[0]

    def step(window: Window, row: tuple[Array, Array]) -> tuple[Window, Interiors]:
        index, entering = row
        candidates, spikes, separator, corner = window
        pivot = _choose([candidate[0] for candidate in candidates], length - index)
        top, before = _chosen(pivot, candidates), _chosen(pivot, spikes)
        first = _xla.where(jnp.abs(top[0]) < smallest, jnp.copysign(smallest, top[0]), top[0])
        others = _others(pivot, candidates)
        lower, lower_before = [other[0] / first for other in others], separator[:, 0] / first
        window = Window(
            [*(_shifted(other[1:] - m * top[1:]) for other, m in zip(others, lower)), entering],
            [*(spike - m * before for spike, m in zip(_others(pivot, spikes), lower)), jnp.zeros_like(before)],
            _shifted(separator[:, 1:] - lower_before[:, None] * top[1:]),
            corner - lower_before[:, None] * before,
        )
        return window, Interiors(pivot, first, top[1:], before, lower, lower_before)

    window = _window(rows, own)
    end, interiors = jax.lax.scan(step, window, (jnp.arange(length), rows[w + 1 :]))
    # What the interior after it leaves in the rows of a separator is in the next lane.
    after, corner = (_next(part) for part in (end.separator[:, :w], end.separator_before))
    diagonal = jnp.stack(end.rows[:w])[:, :w] + corner
    left = jnp.concatenate([jnp.stack(end.before[:w]), diagonal, after], 1)
    return interiors, jnp.moveaxis(left, 2, 0)


def apply_inverse(interiors: Interiors, separators: Solve, b: Array) -> Array:
    """A⁻¹ b, b of shape (L + w, P): forward with L, the separators, and back with U."""
    w = len(interiors.lower)

    def forward(carry: tuple[list, Array], step: tuple[Interiors, Array]) -> tuple[tuple[list, Array], Array]:
        (candidates, before), (factors, entering) = carry, step
        y = _chosen(factors.pivot, candidates)
        others = [row - m * y for row, m in zip(_others(factors.pivot, candidates), factors.lower)]
        return ([*others, entering], before - factors.lower_before * y), y

    def back(after: Array, step: tuple[Interiors, Array]) -> tuple[Array, Array]:
        factors, y = step
        x = (y - _sum(factors.upper * after)) / factors.diagonal
        return jnp.concatenate([x[None], after[:-1]]), x

    entering = jnp.concatenate([b[w + 1 :], jnp.zeros_like(b[:1])])
    (rows, before), y = jax.lax.scan(forward, (list(b[: w + 1]), jnp.zeros_like(b[:w])), (interiors, entering))
    x = separators(jnp.stack(rows[:w]) + _next(before))
    y = y - jnp.einsum("lwp,wp->lp", interiors.before, _previous(x), precision=jax.lax.Precision.HIGHEST)
    inner = jax.lax.scan(back, jnp.concatenate([x, jnp.zeros_like(x)]), (interiors, y), reverse=True)[1]
    return jnp.concatenate([inner, x])


def apply_inverse_transposed(interiors: Interiors, separators: Solve, b: Array) -> Array:
    """A⁻ᵀ b: forward with Uᵀ, the separators, and back with Lᵀ, each step's exchange undone."""
    w = len(interiors.lower)

    def forward(known: Array, step: tuple[Interiors, Array]) -> tuple[Array, Array]:
        factors, of_b = step
        y = (of_b - known[0]) / factors.diagonal
        return _shifted(known[1:]) + factors.upper * y, y

    def back(after: list[Array], step: tuple[Interiors, Array]) -> tuple[list[Array], Array]:
        factors, y = step
        rows = [y - _sum([m * row for m, row in zip(factors.lower, after)]), *after]
        rows = [_chosen(factors.pivot, rows), *_others(factors.pivot, rows)]
        return rows[:-1], rows[-1]

    known, y = jax.lax.scan(forward, jnp.zeros_like(b, shape=(2 * w, b.shape[1])), (interiors, b[:-w]))
    before = jnp.einsum("lwp,lp->wp", interiors.before, y, precision=jax.lax.Precision.HIGHEST)
    x = separators(b[-w:] - known[:w] - _next(before))
    y = y - jnp.einsum("lwp,wp->lp", interiors.lower_before, _previous(x), precision=jax.lax.Precision.HIGHEST)
    first, rest = jax.lax.scan(back, list(x), (interiors, y), reverse=True)
    return jnp.concatenate([jnp.stack(first), rest])


def _choose(entries: list[Float[Array, " P"]], rows: Array) -> Int[Array, " P"]:
    """Where the largest is, among the rows that are of the interior."""
    best, pivot = jnp.abs(entries[0]), jnp.zeros_like(entries[0], jnp.int32)
    for j, entry in enumerate(entries[1:], start=1):
        larger = (jnp.abs(entry) > best) & (j < rows)
        best, pivot = _xla.where(larger, jnp.abs(entry), best), _xla.where(larger, j, pivot)
    return pivot


def _chosen(pivot: Array, rows: list[Array]) -> Array:
    """The pivot's row."""
    return functools.reduce(lambda top, j: _xla.where(pivot == j, rows[j], top), range(1, len(rows)), rows[0])


def _others(pivot: Array, rows: list[Array]) -> list[Array]:
    """The rows but the first, which stands in the place of the pivot's."""
    return [_xla.where(pivot == j, rows[0], row) for j, row in enumerate(rows[1:], start=1)]


def _shifted(rows: Array) -> Array:
    """The columns after the one that was eliminated, and one of zeros."""
    return jnp.concatenate([rows, jnp.zeros_like(rows[..., :1, :])], -2)


def _next(lanes: Array) -> Array:
    return jnp.concatenate([lanes[..., 1:], jnp.zeros_like(lanes[..., :1])], -1)


def _previous(lanes: Array) -> Array:
    return jnp.concatenate([jnp.zeros_like(lanes[..., :1]), lanes[..., :-1]], -1)


def _sum(rows: Iterable[Array]) -> Array:
    """Over the rows, written out: each is of all lanes."""
    return functools.reduce(jnp.add, rows)


class Band(Diagonals):
    """A band of half-width 2 or more."""

    def describe(self) -> str:
        return f"band of width {self.width}"

    def factor(self, data: Array) -> "BandFactors":
        smallest = float(jnp.finfo(data.dtype).eps) ** 0.5 * jnp.max(jnp.abs(data))
        interiors, left = eliminate(self._by_part(data, 1), smallest)
        return BandFactors(interiors, block_tridiagonal.factorise(left), self)

    @property
    def parts(self) -> int:
        """About √n, the steps through an interior being as many as those through the separators."""
        return int(min(_MOST_PARTS, 2 ** (self.n.bit_length() // 2), max(1, self.n // (4 * self.width))))

    def _by_part(self, data: Float[Array, "... n"], empty: int) -> Float[Array, "m ... P"]:
        """The position in its part leading, so that a step takes one row of all; parts as lanes. Filled up by rows of
        the unit matrix, or zeros."""
        length = -(-self.n // self.parts)
        missing = self.parts * length - self.n
        padded = jnp.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, missing)])
        if empty and missing:
            padded = padded.at[self.width, self.n :].set(1)
        return jnp.moveaxis(padded.reshape(*data.shape[:-1], self.parts, length), -1, 0)


class BandFactors(Factors):
    interiors: Interiors
    separators: block_tridiagonal.Panels
    form: Band = eqx.field(static=True)

    def solve(self, b: Float[Array, " n"], *, transpose: bool = False) -> Float[Array, " n"]:
        form, of_separators = self.form, block_tridiagonal.apply_inverse
        apply = apply_inverse
        if transpose:
            apply, of_separators = apply_inverse_transposed, block_tridiagonal.apply_inverse_transposed
        separators = lambda b: of_separators(self.separators, b.T).T
        x = apply(self.interiors, separators, form._by_part(form._enter(b), 0))
        return form._leave(x.T.reshape(-1)[: form.n])
