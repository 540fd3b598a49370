"""What our solvers with a matrix share, and LAPACK's LU decomposition."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from .. import _tree, _xla
from .._errors.values import check_square


def reciprocal(values: Array) -> Array:
    """By which rows and columns are scaled to a largest entry of 1; 1 where that is 0."""
    return 1 / _xla.where(values > 0, values, 1)


class Structure(NamedTuple):
    """Treedef, shapes and dtypes of a pytree of arrays; without shardings, so that it also serves in `shard_map`."""

    treedef: Any
    leaves: tuple[tuple[tuple[int, ...], str], ...]

    @classmethod
    def of(cls, tree: PyTree) -> "Structure":
        leaves, treedef = jax.tree.flatten(tree)
        return cls(treedef, tuple((leaf.shape, jnp.dtype(leaf.dtype).name) for leaf in leaves))

    def unravel(self, vector: Array) -> PyTree[Array]:
        like = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in self.leaves]
        return jax.tree.unflatten(self.treedef, _tree.unravel(vector, like))


class State(eqx.Module):
    """The factors of a matrix, and the structures of what it maps from and to."""

    factors: Any
    columns: Structure = eqx.field(static=True)
    rows: Structure = eqx.field(static=True)
    transposed: bool = eqx.field(static=True)

    @classmethod
    def of(cls, name: str, operator: lx.AbstractLinearOperator, factors: Any) -> "State":
        check_square(name, operator.out_size(), operator.in_size())
        columns, rows = Structure.of(operator.in_structure()), Structure.of(operator.out_structure())
        return cls(factors(operator.as_matrix()), columns, rows, transposed=False)

    def transpose(self) -> "State":
        return State(self.factors, self.rows, self.columns, not self.transposed)


class DenseLU(lx.AbstractLinearSolver[State]):
    """LAPACK's LU decomposition. Like `lineax.LU`, but it works inside `shard_map`, and reports a singular matrix."""

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> State:
        del options
        return State.of("DenseLU", operator, jax.scipy.linalg.lu_factor)

    def compute(
        self, state: State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        del options
        b = _tree.ravel(tuple(jax.tree.leaves(vector)))
        y = jax.scipy.linalg.lu_solve(state.factors, b, trans=1 if state.transposed else 0)
        singular = jnp.any(jnp.diagonal(state.factors[0]) == 0)
        result = lx.RESULTS.where(singular, lx.RESULTS.singular, lx.RESULTS.successful)
        return state.columns.unravel(y), result, {}

    def transpose(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        del options
        return state.transpose(), {}

    def conj(self, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        del options
        lu, pivots = state.factors
        return State((jnp.conj(lu), pivots), state.columns, state.rows, state.transposed), {}

    def assume_full_rank(self) -> bool:
        return True
