"""F and its own derivatives, compiled once and evaluated anywhere: what the solves are compared with."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._tree import Leaves
from .problem import Case

MOST_LEAVES = 40  # arrays of parameters that are looked at
MOST_UNKNOWNS = 100  # up to which ∂F/∂x is made column by column


class Evaluated:
    """F, or R for a root, at any x and θ, as NumPy's vectors; 0 in the rows that were not solved."""

    def __init__(self, case: Case, keep: Leaves):
        self.case, self.keep = case, np.asarray(_tree.ravel(keep)) != 0
        self.fixed = case.problem.kind == "fixed_point"
        self.chosen = case.smooth[:MOST_LEAVES]

    def values(self, x: Leaves, theta: Leaves) -> np.ndarray:
        return np.where(self.keep, np.asarray(self._values(x, theta)), 0)

    def forward(self, x: Leaves, theta: Leaves, moved: tuple[Leaves, Leaves]) -> np.ndarray:
        """The derivative of the values when x moves by the first, and the chosen leaves of θ by the second."""
        return np.where(self.keep, np.asarray(self._forward(x, theta, moved)), 0)

    def reverse(self, x: Leaves, theta: Leaves, u: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The cotangents of x and of the chosen leaves of θ, for the cotangent u of the values."""
        kept = jnp.asarray(np.where(self.keep, u, 0), _tree.work_dtype(x))
        of_x, of_theta = self._reverse(x, theta, kept)
        return list(map(np.asarray, of_x)), list(map(np.asarray, of_theta))

    def jacobian(self, x: Leaves) -> np.ndarray:
        """Column by column: for few unknowns."""
        still = tuple(map(jnp.zeros_like, self.smooth(self.case.theta)))
        units = (_tree.unravel(jnp.asarray(unit, _tree.work_dtype(x)), x) for unit in np.eye(self.case.problem.size))
        return np.array([self.forward(x, self.case.theta, (unit, still)) for unit in units]).T

    def correction(self, x: Leaves) -> np.ndarray | None:
        """Newton's, by which x is off; None for many unknowns, or where there is no derivative."""
        if self.case.problem.size > MOST_UNKNOWNS or self.case.problem.lacks((), False):
            return None
        A, values = self.jacobian(x), self.values(x, self.case.theta)
        if self.fixed:
            A, values = A - np.eye(values.size), values - np.asarray(_tree.ravel(x))
        if not (np.all(np.isfinite(A)) and np.all(np.isfinite(values))):
            return None
        # By the size of each row: those of a root have units of their own.
        rows = np.max(np.abs(A), axis=1)
        rows = 1 / np.where(rows > 0, rows, 1)
        return np.linalg.lstsq(rows[:, None] * A, -rows * values, rcond=None)[0]

    def function(self, x: Leaves, smooth: Leaves, theta: Leaves) -> jax.Array:
        """F(x, θ) as a vector, with the chosen leaves of θ given by themselves."""
        full = list(theta)
        for i, leaf in zip(self.chosen, smooth):
            full[i] = leaf
        residual = _tree.ravel(self.case.problem.residual(x, tuple(full)))
        return residual + _tree.ravel(x) if self.fixed else residual

    def smooth(self, theta: Leaves) -> Leaves:
        return tuple(theta[i] for i in self.chosen)

    @functools.cached_property
    def _values(self) -> Any:
        return jax.jit(lambda x, theta: self.function(x, self.smooth(theta), theta))

    @functools.cached_property
    def _forward(self) -> Any:
        def tangent(x: Leaves, theta: Leaves, moved: tuple[Leaves, Leaves]) -> jax.Array:
            return jax.jvp(lambda x, s: self.function(x, s, theta), (x, self.smooth(theta)), moved)[1]

        return jax.jit(tangent)

    @functools.cached_property
    def _reverse(self) -> Any:
        def cotangents(x: Leaves, theta: Leaves, u: jax.Array) -> tuple[Leaves, Leaves]:
            return jax.vjp(lambda x, s: self.function(x, s, theta), x, self.smooth(theta))[1](u)

        return jax.jit(cotangents)
