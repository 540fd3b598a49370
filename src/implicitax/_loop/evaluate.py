"""The evaluation of R, and of A = ∂R/∂x where the method needs it: one place of the code, so F is compiled once."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import _linear, _tree, _xla
from .._methods import AbstractMethod, Needs, wants, wants_matrix
from .._problem import Equations
from .._tree import Leaves


class Evaluator(NamedTuple):
    """Evaluates one problem, or all rows of a batch together, which then have their rows along axis 0."""

    problem: Equations
    method: AbstractMethod
    theta: Leaves
    batch_axis: int | None
    by_column: bool  # whether each column of a small A is compiled by itself

    def residual(self, x: Leaves) -> Leaves:
        x = _tree.rows_back(x, self.batch_axis)
        return _tree.rows_first(self.problem.residual(x, self.theta), self.batch_axis)

    def evaluate(self, x: Leaves) -> tuple[Leaves, Any]:
        """R at x, and A in the form that the method needs; of a batch a matrix for each row."""
        if self.method.needs is Needs.NONE:
            return self.residual(x), None
        if self.batch_axis is not None:
            return _linear.linearise_rows(self.residual, x)
        return _linear.linearise(self.residual, x, wants(self.method), self.by_column)

    def __call__(self, x: Leaves, unfinished: Bool[Array, ""]) -> tuple[Leaves, Any]:
        """The same; for small x behind a branch (`_xla.evaluated_once`), which for a large one would cost a copy."""
        needs = self.method.needs
        matrix_free = needs is not Needs.NONE and not wants_matrix(self.method)
        if matrix_free or self.problem.size > _xla.COPIED:
            return self.evaluate(x)
        rows = () if self.batch_axis is None else (x[0].shape[0],)
        count = self.problem.size // (rows[0] if rows else 1)
        nothing = x, None if needs is Needs.NONE else jnp.zeros((*rows, count, count), _tree.work_dtype(x))
        nothing = _xla.varying(nothing, (*self.theta, *x))
        return _xla.evaluated_once(unfinished, self.evaluate, nothing, x)
