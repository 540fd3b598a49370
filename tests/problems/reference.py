"""Problems with known solutions and derivatives, used throughout the tests."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Parameters(eqx.Module):
    alpha: Any
    beta: Any


class Reference(eqx.Module):
    """F₀ = √(α − x₀x₁), F₁ = √((57 − x₁)/(β F₀)). At (10, 3): x* = (2, 3)."""

    para: Parameters

    def __init__(self, alpha: Any = 10.0, beta: Any = 3.0) -> None:
        self.para = Parameters(alpha, beta)

    def __call__(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        F0 = jnp.sqrt(self.para.alpha - x[0] * x[1])
        F1 = jnp.sqrt((57 - x[1]) / (self.para.beta * F0))
        return jnp.stack([F0, F1])


def reference(x: Array, alpha: Any, beta: Any) -> Array:
    return Reference(alpha, beta)(x)


class AsPrinted(Reference):
    """The form printed in the source of the example: x₀ in place of F₀. Same solution, but plain iteration diverges.

    The example is that of Chapra and Canale, Numerical Methods for Engineers, on fixed-point iteration for nonlinear
    systems: `x₀² + x₀x₁ = 10`, `x₁ + 3x₀x₁² = 57`. It teaches that the form decides: at the solution ∂F/∂x of this one
    has an eigenvalue of −1.10.
    """

    def __call__(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        return jnp.stack([jnp.sqrt(self.para.alpha - x[0] * x[1]), jnp.sqrt((57 - x[1]) / (self.para.beta * x[0]))])


def sister(x: Float[Array, "2"], alpha: Any, beta: Any) -> Float[Array, "2"]:
    """x₀² + x₁² = α, β x₀³ = x₁. At (4, 1): ±(1.174, 1.619)."""
    return jnp.stack([x[0] ** 2 + x[1] ** 2 - alpha, beta * x[0] ** 3 - x[1]])


X0 = np.array([1.5, 3.5])
X_STAR = np.array([2.0, 3.0])


def closed_form(alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x*, ∂x/∂α, ∂x/∂β of the reference system, without JAX: Newton on the two curves, then Cramer's rule.

    The curves are `x₀² + x₀x₁ = α` and `x₁ + β x₀ x₁² = 57`.
    """
    x = X_STAR.copy()
    for _ in range(50):
        x = x - np.linalg.solve(_curves_x(x, beta), _curves(x, alpha, beta))
    A = _curves_x(x, beta)
    d_alpha = np.linalg.solve(A, np.array([1.0, 0.0]))
    d_beta = np.linalg.solve(A, np.array([0.0, -x[0] * x[1] ** 2]))
    return x, d_alpha, d_beta


def _curves(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.array([x[0] ** 2 + x[0] * x[1] - alpha, x[1] + beta * x[0] * x[1] ** 2 - 57])


def _curves_x(x: np.ndarray, beta: float) -> np.ndarray:
    return np.array([[2 * x[0] + x[1], x[0]], [beta * x[1] ** 2, 1 + 2 * beta * x[0] * x[1]]])


def closed_form_hessian(alpha: float, beta: float, step: float = 1e-5) -> np.ndarray:
    """∂²x/∂(α, β)², shape (2, 2, 2), by central differences of the closed-form first derivatives."""
    columns = []
    for direction in np.eye(2):
        plus, minus = (closed_form(*(np.array([alpha, beta]) + s * step * direction)) for s in (1, -1))
        columns.append((np.stack(plus[1:], axis=1) - np.stack(minus[1:], axis=1)) / (2 * step))
    return np.stack(columns, axis=-1)


def unrolled(F: Any, x0: Any, steps: int = 1000) -> Any:
    """Plain iteration that JAX differentiates: the naive way."""
    return jax.lax.scan(lambda x, _: (F(x), None), x0, length=steps)[0]
