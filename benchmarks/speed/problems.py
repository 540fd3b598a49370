"""The problems x = F(x, *args), with their exact solutions and gradients in NumPy, independent of any solver's code.

The loss is ½ Σ x² throughout: its gradient is Bᵀ λ with B = ∂F/∂θ and (I − ∂F/∂x)ᵀ λ = x, at the solution.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_banded

Array = Any  # of NumPy or of JAX


def reference(xp: Any) -> Callable[..., Array]:
    """The small system, F₀ = √(α − x₀x₁), F₁ = √((57 − x₁) / (β F₀)), in NumPy or in JAX."""

    def F(x: Array, alpha: Array, beta: Array) -> Array:
        F0 = xp.sqrt(alpha - x[0] * x[1])
        return xp.stack([F0, xp.sqrt((57 - x[1]) / (beta * F0))])

    return F


class Problem:
    """`F` is for JAX, `F_np` for NumPy; `inverse` applies (I − ∂F/∂x)⁻¹ at x, `pullback` Bᵀ."""

    F: Callable[..., Array]
    F_np: Callable[..., np.ndarray]
    x0: np.ndarray
    args: tuple[np.ndarray, ...]

    def inverse(self, x: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        raise NotImplementedError

    def pullback(self, x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
        raise NotImplementedError

    def residual(self, x: Array) -> float:
        """max |F(x) − x|"""
        x = np.asarray(x)
        with np.errstate(invalid="ignore"):  # a point outside F's domain has the residual NaN
            return float(np.max(np.abs(self.F_np(x, *self.args) - x)))

    def solution(self) -> np.ndarray:
        """By Newton's method, as far as the rounding errors allow; plain iteration brings it near."""
        x, best = self.x0, np.inf
        for _ in range(50):
            x = self.F_np(x, *self.args)
        while (size := np.max(np.abs(residual := self.F_np(x, *self.args) - x))) < best:
            x, best = x + self.inverse(x, residual, transpose=False), size
        return x

    def gradient(self) -> tuple[np.ndarray, ...]:
        x = self.solution()
        return self.pullback(x, self.inverse(x, x, transpose=True))


class Reference(Problem):
    """The small system, once or for arrays of α and β: x is of shape (2,) or (2, lanes)."""

    F = staticmethod(reference(jnp))
    F_np = staticmethod(reference(np))

    def __init__(self, alpha: Any = 10.0, beta: Any = 3.0):
        self.args = np.asarray(alpha), np.asarray(beta)
        self.x0 = np.stack(np.broadcast_arrays(1.5, 3.5, *self.args)[:2])

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        F0, F1 = self.F_np(x, *self.args)
        a, b = -x[1] / (2 * F0), -x[0] / (2 * F0)
        return np.array([[a, b], [-F1 / (2 * F0) * a, -F1 / (2 * (57 - x[1])) - F1 / (2 * F0) * b]])

    def partials(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """∂F/∂α and ∂F/∂β"""
        F0, F1 = self.F_np(x, *self.args)
        return np.array([1 / (2 * F0), -F1 / (4 * F0**2)]), np.array([0 * F0, -F1 / (2 * self.args[1])])

    def inverse(self, x: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        (j00, j01), (j10, j11) = self.jacobian(x)
        if transpose:
            j01, j10 = j10, j01
        return np.stack([(1 - j11) * b[0] + j01 * b[1], j10 * b[0] + (1 - j00) * b[1]]) / (
            (1 - j00) * (1 - j11) - j01 * j10
        )

    def pullback(self, x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.sum(partial * cotangent, axis=0) for partial in self.partials(x))

    def derivatives(self) -> np.ndarray:
        """dx/dα and dx/dβ"""
        x = self.solution()
        return np.stack([self.inverse(x, partial, transpose=False) for partial in self.partials(x)])


class Dense(Problem):
    """x = tanh(W x + b) with a random dense W of spectral radius 0.7"""

    F = staticmethod(lambda x, W, b: jnp.tanh(W @ x + b))
    F_np = staticmethod(lambda x, W, b: np.tanh(W @ x + b))

    def __init__(self, n: int):
        rng = np.random.default_rng(n)
        self.args = 0.7 * rng.normal(size=(n, n)) / np.sqrt(n), 0.5 * rng.normal(size=n)
        self.x0 = np.zeros(n)

    def inverse(self, x: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        A = np.eye(x.size) - (1 - self.F_np(x, *self.args) ** 2)[:, None] * self.args[0]
        return np.linalg.solve(A.T if transpose else A, b)

    def pullback(self, x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
        cotangent = (1 - self.F_np(x, *self.args) ** 2) * cotangent
        return np.outer(cotangent, x), cotangent


def stencil(xp: Any) -> Callable[..., Array]:
    """F(x) = c tanh(the mean of x and its two neighbours + b), 0 beyond the ends"""

    def F(x: Array, c: Array, b: Array) -> Array:
        padded = xp.pad(x, 1)
        return c * xp.tanh((padded[:-2] + x + padded[2:]) / 3 + b)

    return F


class Stencil(Problem):
    """Contraction c; x is so small, 0.03, that tanh is nearly linear, and the contraction at the solution nearly c."""

    F = staticmethod(stencil(jnp))
    F_np = staticmethod(stencil(np))

    def __init__(self, n: int, c: float):
        noise, wave = np.random.default_rng(n).normal(size=n), np.sin(np.linspace(0, 20, n))
        self.args = np.asarray(c), 0.03 * (1 - c) * (wave + noise)
        self.x0 = np.zeros(n)

    def slope(self, x: np.ndarray) -> np.ndarray:
        return self.args[0] * (1 - (self.F_np(x, *self.args) / self.args[0]) ** 2)

    def inverse(self, x: np.ndarray, b: np.ndarray, transpose: bool) -> np.ndarray:
        third = self.slope(x) / 3
        upper, lower = (third[1:], third[:-1]) if transpose else (third[:-1], third[1:])
        bands = np.stack([np.append(0, -upper), 1 - third, np.append(-lower, 0)])
        return solve_banded((1, 1), bands, b)

    def pullback(self, x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
        return np.sum(self.F_np(x, *self.args) / self.args[0] * cotangent), self.slope(x) * cotangent


def loss(x: Array) -> Array:
    return 0.5 * jnp.sum(x**2)


def gradient_error(found: Any, exact: tuple[np.ndarray, ...]) -> float:
    """The largest error of a gradient, relative to the largest entry of the array it is in."""
    return max(float(np.max(np.abs(np.asarray(f) - e)) / np.max(np.abs(e))) for f, e in zip(found, exact))
