"""The two systems of the demonstration, each with its answer worked out by hand."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Parameters(eqx.Module):
    """The two numbers that the derivatives are taken by."""

    alpha: Float[Array, ""]
    beta: Float[Array, ""]


class Curve(NamedTuple):
    """One equation of a system, as a line in the plane (x₀, x₁)."""

    label: str
    x0: Float[np.ndarray, " points"]
    x1: Float[np.ndarray, " points"]


class Reference(eqx.Module):
    """`F₀ = √(α − x₀x₁)`, `F₁ = √((57 − x₁)/(β F₀))`: a fixed point x = F(x), which iteration finds.

    At x = F(x) this says `x₀² + x₀x₁ = α` and `x₁ + β x₀x₁² = 57`.
    """

    para: Parameters

    def __call__(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        F0 = jnp.sqrt(self.para.alpha - x[0] * x[1])
        F1 = jnp.sqrt((57 - x[1]) / (self.para.beta * F0))
        return jnp.stack([F0, F1])


class Sister(eqx.Module):
    """`x₀² + x₁² = α`, `β x₀³ = x₁`: a root R(x) = 0, of which there are two, x and −x."""

    para: Parameters

    def __call__(self, x: Float[Array, "2"]) -> Float[Array, "2"]:
        return jnp.stack([x[0] ** 2 + x[1] ** 2 - self.para.alpha, self.para.beta * x[0] ** 3 - x[1]])


class Answer(NamedTuple):
    """A solution, and its derivatives by (α, β) in the columns."""

    x: Float[np.ndarray, "2"]
    derivative: Float[np.ndarray, "2 2"]


def reference() -> Reference:
    """The reference system at α = 10, β = 3, where x = (2, 3)."""
    return Reference(Parameters(jnp.asarray(10.0), jnp.asarray(3.0)))


def sister() -> Sister:
    """The sister system at α = 4, β = 1."""
    return Sister(Parameters(jnp.asarray(4.0), jnp.asarray(1.0)))


def reference_answer() -> Answer:
    """What `reference()` must give, without JAX: A and B of its two equations by hand, at x = (2, 3)."""
    x0, x1, beta = 2.0, 3.0, 3.0
    A = [[2 * x0 + x1, x0], [beta * x1**2, 1 + 2 * beta * x0 * x1]]
    B = [[-1, 0], [0, x0 * x1**2]]
    return Answer(np.array([x0, x1]), -np.linalg.solve(A, B))


def sister_answer(system: Sister, sign: float) -> Answer:
    """What the sister system must give, without JAX: x₀² is the one real root s of `β² s³ + s = α`."""
    alpha, beta = _numbers(system)
    s = next(root.real for root in np.roots([beta**2, 0, 1, -alpha]) if abs(root.imag) < 1e-9)
    x0 = sign * np.sqrt(s)
    x1 = beta * x0**3
    A = [[2 * x0, 2 * x1], [3 * beta * x0**2, -1]]
    B = [[-1, 0], [0, x0**3]]
    return Answer(np.array([x0, x1]), -np.linalg.solve(A, B))


def reference_curves(system: Reference) -> tuple[Curve, Curve]:
    """The two equations of the reference system, in the quadrant where the square roots are real."""
    alpha, beta = _numbers(system)
    x1 = np.linspace(0.5, 8, 500)
    first = (np.sqrt(x1**2 + 4 * alpha) - x1) / 2
    second = (57 - x1) / (beta * x1**2)
    return (
        Curve(f"$x_0^2 + x_0 x_1 = {alpha:g}$", first, x1),
        Curve(rf"$x_1 + {beta:g}\,x_0 x_1^2 = 57$", second, x1),
    )


def sister_curves(system: Sister) -> tuple[Curve, Curve]:
    """The two equations of the sister system."""
    alpha, beta = _numbers(system)
    angle, x0 = np.linspace(0, 2 * np.pi, 500), np.linspace(-3, 3, 500)
    radius = np.sqrt(alpha)
    factor = "" if beta == 1 else rf"{beta:g}\,"
    return (
        Curve(f"$x_0^2 + x_1^2 = {alpha:g}$", radius * np.cos(angle), radius * np.sin(angle)),
        Curve(f"${factor}x_0^3 = x_1$", x0, beta * x0**3),
    )


def _numbers(system: Reference | Sister) -> tuple[float, float]:
    return float(system.para.alpha), float(system.para.beta)
