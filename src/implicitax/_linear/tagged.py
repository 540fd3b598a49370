"""A linear solver for matrices of a certain form, of which the user says that A has it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import wadler_lindig as wl

from .. import _tree, _xla
from .._problem import Kind
from .._tree import Leaves
from . import trust

# What those of Lineax that are not for general matrices ask for, one of these.
_DEFINITE = (lx.positive_semidefinite_tag, lx.negative_semidefinite_tag)
_ASKED = (
    (lx.CG, _DEFINITE),
    (lx.Cholesky, _DEFINITE),
    (lx.Triangular, (lx.lower_triangular_tag, lx.upper_triangular_tag)),
    (lx.Tridiagonal, (lx.tridiagonal_tag,)),
    (lx.Diagonal, (lx.diagonal_tag,)),
)
TAGS = (
    lx.symmetric_tag,
    *_DEFINITE,
    lx.diagonal_tag,
    lx.tridiagonal_tag,
    lx.lower_triangular_tag,
    lx.upper_triangular_tag,
    lx.unit_diagonal_tag,
)


def asked_for(solver: Any) -> tuple[object, ...]:
    """The tags of which this solver wants one; none if it is for general matrices."""
    return next((tags for kind, tags in _ASKED if isinstance(solver, kind)), ())


class Tagged(eqx.Module):
    """A linear solver with what is said of ∂R/∂x, or, of a fixed point, of I − ∂F/∂x.

    What is said is not believed: that the answer solves the equations, with products of A itself, is looked at as with
    any other solver (`solve.py`).
    """

    solver: lx.AbstractLinearSolver
    tags: frozenset[object] = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)

    def __pdoc__(self, **keywords: Any) -> Any:
        return wl.pdoc(self.solver, **keywords) + wl.TextDoc(f", A {self.words}")

    @property
    def words(self) -> str:
        return ", ".join(sorted(repr(tag).removesuffix("_tag").replace("_", " ") for tag in self.tags))

    def scaled(self, A: Callable[[Leaves], Leaves], scale: Leaves, transpose: bool) -> tuple[Leaves, Leaves]:
        """L and R of L A R, on which the solver works: of the form that A, or its transpose, has, and positive.

        A fixed point is turned to I − ∂F/∂x, and not scaled: where that is symmetric, its unknowns are of one unit. Of
        a root a symmetric A stays so under D A D, with one number for each leaf, and divided by its size, since a step
        of conjugate gradients along which A is small is taken for a breakdown. Other forms stay under D⁻¹ A D.
        """
        sign = -1 if (self.kind == "fixed_point") != (lx.negative_semidefinite_tag in self.tags) else 1
        if self.kind == "fixed_point":
            one = tuple(jnp.ones_like(leaf) for leaf in scale)
            return tuple(sign * leaf for leaf in one), one
        if self.tags & {lx.symmetric_tag, *_DEFINITE}:
            both = tuple(jnp.full_like(leaf, _tree.max_norm((leaf,))) for leaf in scale)
            size = _tree.max_norm(_tree.mul(both, A(_tree.mul(both, trust.direction(both)))))
            factor = sign / _xla.where(size > 0, size, 1)
            return tuple((factor * leaf).astype(leaf.dtype) for leaf in both), both
        inverse = tuple(1 / leaf for leaf in scale)
        return (scale, inverse) if transpose else (inverse, scale)

    def of(self, transpose: bool) -> frozenset[object]:
        """The tags of that."""
        turned = {lx.positive_semidefinite_tag} if lx.negative_semidefinite_tag in self.tags else set()
        tags = self.tags - {lx.negative_semidefinite_tag} | turned
        return lx.transpose_tags(tags) if transpose else tags
