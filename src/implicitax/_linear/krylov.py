"""Matrix-free solves: the cheap Krylov method first, the robust one where it fails."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from .. import _tree, _xla
from .._problem.slopes import runs
from .._tree import Leaves
from .dense import DenseLU


class Krylov(lx.AbstractLinearSolver[lx.AbstractLinearOperator]):
    """BiCGStab, and where that has failed GMRES, or with `dense` an LU decomposition.

    BiCGStab keeps 8 vectors and passes over them a few times for each product with A, where GMRES makes each new vector
    orthogonal to all before it: of a tridiagonal A with a million unknowns, 50 products by GMRES cost as much as 5000
    alone. But BiCGStab may break down, or stagnate where A has eigenvalues far from the real axis; GMRES does not.

    **Cost:** two products with A an iteration.

    **Source:** van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631, doi:10.1137/0913035; both as in Lineax.
    """

    tolerance: float = eqx.field(static=True)
    dense: bool = eqx.field(static=True, default=False)  # whether LAPACK's LU takes the place of GMRES
    max_steps: int = eqx.field(static=True, default=500)
    preconditioner: Callable[[Leaves, Leaves], Leaves] | None = None  # (x, v) ↦ about A⁻¹ v, linear in v
    x: Leaves | None = eqx.field(default=None, repr=False)  # where A is evaluated, for the preconditioner

    def at(self, x: Leaves) -> "Krylov":
        return self if self.preconditioner is None else dataclasses.replace(self, x=x)

    def options(self, like: Leaves, scale: Leaves, inverse: Leaves, transpose: bool) -> dict[str, Any]:
        """For Lineax, of the A that is D⁻¹ A D with D = diag(scale), and of which `like` is a vector."""
        preconditioner, x = self.preconditioner, self.x
        if preconditioner is None or x is None:
            return {}
        structure = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in like)
        near: Any = lambda v: preconditioner(x, v)
        if transpose:
            pull = jax.linear_transpose(near, structure)
            near = lambda v: pull(v)[0]
            if not runs(near, structure):
                return {}
        scaled = lambda v: _tree.mul(inverse, near(_tree.mul(scale, v)))
        return {"preconditioner": lx.FunctionLinearOperator(scaled, structure)}

    @property
    def _stages(self) -> tuple[lx.AbstractLinearSolver, lx.AbstractLinearSolver]:
        tol = self.tolerance
        gmres = lx.GMRES(rtol=tol, atol=tol, restart=50, max_steps=40, stagnation_iters=10)
        return lx.BiCGStab(rtol=tol, atol=tol, max_steps=self.max_steps), DenseLU() if self.dense else gmres

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> lx.AbstractLinearOperator:
        del options
        return operator

    def compute(
        self, state: lx.AbstractLinearOperator, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        cheap, robust = self._stages

        def solve(solver: lx.AbstractLinearSolver) -> tuple[PyTree[Array], Array]:
            y, result, _ = solver.compute(solver.init(state, {}), vector, dict(options))
            # BiCGStab ends with 0/0, and calls it a success, where its first step is exact: A a multiple of I.
            return y, (result == lx.RESULTS.successful) & jnp.isfinite(_tree.largest(tuple(jax.tree.leaves(y))))

        y, solved = solve(cheap)

        def again() -> tuple[PyTree[Array], Array]:
            other, ok = solve(robust)
            return jax.tree.map(lambda a, b: _xla.where(solved, a, b), (y, solved), (other, ok))

        y, solved = _xla.if_all(solved, lambda: (y, solved), again)
        return y, lx.RESULTS.where(solved, lx.RESULTS.successful, lx.RESULTS.max_steps_reached), {}

    def transpose(
        self, state: lx.AbstractLinearOperator, options: dict[str, Any]
    ) -> tuple[lx.AbstractLinearOperator, dict[str, Any]]:
        return state.transpose(), options

    def conj(
        self, state: lx.AbstractLinearOperator, options: dict[str, Any]
    ) -> tuple[lx.AbstractLinearOperator, dict[str, Any]]:
        return lx.conj(state), options

    def assume_full_rank(self) -> bool:
        return True
