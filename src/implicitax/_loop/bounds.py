"""Where an iteration begins, how exactly it is to solve, and the box that it has to stay in."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .. import _tree, _xla
from .._methods import Tolerance
from .._tree import Leaves

_FRACTION = 0.9  # of the way to a bound that a step may go
_STUCK = 1e-3  # of its distance at the guess: an unknown this close to a bound has been pushed against it
_DECADES, _MOST = 3, 12  # for a start as far from the guess as the guess is large, and for any


class Bounds(NamedTuple):
    """`lower < x < upper`, a pair of numbers or arrays a leaf; infinite where there is no bound."""

    lower: tuple[Any, ...]
    upper: tuple[Any, ...]

    def contain(self, x: Leaves) -> tuple[Bool[Array, "..."], ...]:
        """Component by component, whether x is strictly inside."""
        return tuple((low < xi) & (xi < up) for low, xi, up in zip(self.lower, x, self.upper))

    def shorten(self, x: Leaves, proposed: Leaves) -> Leaves:
        """The step from x, which is inside, to `proposed`, shortened in the components that it would take out.

        Component by component: one unknown pushed against its bound must not hold up the others.
        """

        def inside(xi: Array, to: Array, low: Any, up: Any) -> Array:
            least, most = ((xi + _FRACTION * (bound - xi)).astype(xi.dtype) for bound in (low, up))
            # Next to its bound an unknown stays where it is, or rounding would take it there.
            least, most = _xla.where(least > low, least, xi), _xla.where(most < up, most, xi)
            return jnp.clip(to, _xla.where(jnp.isinf(low), low, least), _xla.where(jnp.isinf(up), up, most))

        return tuple(map(inside, x, proposed, self.lower, self.upper))

    def spread(self, x0: Leaves, best: Leaves, start: Leaves) -> Leaves:
        """A start somewhere around x0, inside. An unknown with one bound is one whose order of magnitude is not known:
        it is moved by decades of its distance from the bound where another would be moved by its size."""

        def inside(guess: Array, known: Array, to: Array, low: Any, up: Any) -> Array:
            elsewhere = (to != guess) & (to != known)
            room = _xla.where(jnp.isinf(low), guess - up, guess - low)  # negative below an upper bound
            decades = jnp.clip(_DECADES * (to - guess) / jnp.abs(room), -_MOST, _MOST)
            moved = _xla.where(jnp.isinf(low), up, low) + room * 10**decades
            one_sided = jnp.isinf(low) != jnp.isinf(up)
            return _xla.where(elsewhere & one_sided, moved, to).astype(guess.dtype)

        return self.shorten(x0, tuple(map(inside, x0, best, start, self.lower, self.upper)))

    def pressed(self, x: Leaves, x0: Leaves) -> Int[Array, ""]:
        """The first component of x that lies against a bound to which it was not close at x0; their number if none."""

        def close(xi: Array, guess: Array, bound: Any) -> Array:
            return jnp.isfinite(bound) & (jnp.abs(xi - bound) <= _STUCK * jnp.abs(guess - bound))

        return _tree.first(
            tuple(
                jnp.broadcast_to(close(xi, guess, low) | close(xi, guess, up), xi.shape)
                for xi, guess, low, up in zip(x, x0, self.lower, self.upper)
            )
        )

    def each_row(self, like: Leaves, batch_axis: int) -> "Bounds":
        return Bounds(*(_tree.each_row(bound, like, batch_axis) for bound in self))


class Limits(NamedTuple):
    """Where a row begins, how exactly it is to be solved, and where it has to stay."""

    x0: Leaves
    tolerance: Tolerance
    bounds: Bounds | None = None

    @classmethod
    def of(cls, x0: Leaves, tolerance: Tolerance, bounds: Bounds | None = None, batch_axis: int | None = None):
        """With the size of the guess in the tolerance, of each row of a batch by itself."""
        return cls(x0, tolerance.sized(x0, batch_axis), bounds)

    def beginning_at(self, x: Leaves) -> "Limits":
        """The same for a method that goes on where another has come to."""
        return self._replace(x0=x, tolerance=self.tolerance.settled(_tree.sub(x, self.x0)))

    def each_row(self, batch_axis: int) -> "Limits":
        """The same with the rows along axis 0."""
        bounds = self.bounds and self.bounds.each_row(self.x0, batch_axis)
        return Limits(_tree.rows_first(self.x0, batch_axis), self.tolerance.each_row(self.x0, batch_axis), bounds)
