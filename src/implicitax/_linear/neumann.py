"""The truncated Neumann series, a solver that is wrong on purpose by a known amount."""

from typing import Any, TypeAlias

import jax
import lineax as lx
from jaxtyping import Array, PyTree

_State: TypeAlias = lx.AbstractLinearOperator


class NeumannSeries(lx.AbstractLinearSolver[_State]):
    """`A⁻¹ b ≈ −Σₖ (A + I)ᵏ b`, k = 0 … terms, for A = ∂F/∂x − I of a fixed point."""

    terms: int

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        del options
        return operator

    def compute(
        self, state: _State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        del options
        first = jax.tree.map(lambda b: -b, vector)

        def add_term(carry: Any, _: None) -> tuple[Any, None]:
            term, total = carry
            term = jax.tree.map(lambda t, at: t + at, term, state.mv(term))
            return (term, jax.tree.map(lambda s, t: s + t, total, term)), None

        (_, total), _ = jax.lax.scan(add_term, (first, first), length=self.terms)
        return total, lx.RESULTS.successful, {}

    def transpose(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        return state.T, options

    def conj(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        return lx.conj(state), options

    def assume_full_rank(self) -> bool:
        return True
