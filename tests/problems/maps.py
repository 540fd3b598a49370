"""Fixed points `x = F(x, p)` whose solution and derivative are known, drawn from a seed.

Most are made from the answer: `F(x, p) = x*(p) + J g(x − x*(p))` with g(0) = 0 and g'(0) = 1, so that ∂F/∂x at the
solution is J, of which the spectrum is prescribed, and x*(p) = a + B sin p. J is not symmetric; it is applied at the
cost of a few dot products, whatever the size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .extended import find, namespace
from .systems import bratu, bratu_square, chandrasekhar_map

P = np.array([0.3, -0.5, 0.8])


class Map(NamedTuple):
    """`x = F(x, p)`. `x_star(p)` is the solution in closed form, so that JAX's derivative of it is one too; or None.

    `spectrum`: the eigenvalues of ∂F/∂x at the solution, where they are prescribed. `units`: those of x, where they
    differ from one entry to the next.
    """

    name: str
    family: str
    F: Callable[[Any, Any], Any]
    x0: Any
    p: Any = P
    x_star: Callable[[Any], Any] | None = None
    spectrum: np.ndarray | None = None
    units: Any = None

    def solution(self, p: Any = None) -> Any:
        """The fixed point to all digits of float64."""
        p = self.p if p is None else p
        if self.x_star is not None:
            return jax.tree.map(np.asarray, self.x_star(p))
        return np.asarray(find(lambda x, p: x - self.F(x, p), self.x0, p), float)


# J = Q D Qᵀ: D of 2×2 blocks, Q a product of reflections.


def real(rng: np.random.Generator, n: int) -> np.ndarray:
    """Real eigenvalues from −3 to 0.9: plain iteration diverges, or ends in a cycle."""
    return np.concatenate([[-3.0], rng.uniform(-3, 0.9, n - 1)])


def complex_pairs(rng: np.random.Generator, n: int) -> np.ndarray:
    """Pairs of the moduli 1.05 to 1.3, none of them near 1: plain iteration diverges, damped it converges."""
    pairs = rng.uniform(1.05, 1.3, n // 2) * np.exp(1j * rng.uniform(np.pi / 4, 3 * np.pi / 4, n // 2))
    return np.stack([pairs, pairs.conj()], axis=1).ravel()


def slow(rng: np.random.Generator, n: int) -> np.ndarray:
    """Real eigenvalues from −0.9 to 0.999: plain iteration takes about 20,000 steps."""
    return np.concatenate([[0.999], rng.uniform(-0.9, 0.99, n - 1)])


def similar(spectrum: np.ndarray, rng: np.random.Generator) -> Callable[[Any], Any]:
    """x ↦ J x, where J has this spectrum: pairs of conjugates, or real numbers, of which the last may be alone."""
    n, even = len(spectrum), len(spectrum) + len(spectrum) % 2
    first, second = np.concatenate([spectrum, np.zeros(even - n)]).reshape(-1, 2).T
    D = np.zeros((even // 2, 2, 2))
    D[:, 0, 0], D[:, 1, 1] = first.real, second.real
    # What makes J not normal: an entry above the diagonal, or the axes of a rotation unlike.
    D[:, 0, 1] = np.where(first.imag == 0, rng.uniform(-1, 1, even // 2), 2 * first.imag)
    D[:, 1, 0] = -first.imag / 2
    reflections = rng.normal(size=(3, n))
    reflections /= np.linalg.norm(reflections, axis=1, keepdims=True)

    def apply(x: Any) -> Any:
        for v in reflections:
            x = x - 2 * v * (v @ x)
        x = jnp.einsum("bij,bj->bi", D, jnp.pad(x, (0, even - n)).reshape(-1, 2)).ravel()[:n]
        for v in reflections[::-1]:
            x = x - 2 * v * (v @ x)
        return x

    return apply


class Target(NamedTuple):
    """x*(p) = a + B sin p"""

    a: np.ndarray
    B: np.ndarray

    def __call__(self, p: Any) -> Any:
        return self.a + self.B @ namespace(p).sin(p)


def around(
    family: str,
    spectrum: Callable[[np.random.Generator, int], np.ndarray],
    n: int,
    seed: int,
    g: Callable[[Any], Any] = lambda v: v,
    away: float = 1.0,
) -> Map:
    """x*(p) + J g(x − x*(p)), and a guess that is away from the solution by so much in every component."""
    rng = np.random.default_rng(seed)
    eigenvalues = spectrum(rng, n)
    J, target = similar(eigenvalues, rng), Target(rng.normal(size=n), rng.normal(size=(n, P.size)))
    x0 = target(P) + away * rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1, n)
    name = f"{family}, {spectrum.__name__.replace('_', ' ')} {n}"
    return Map(name, family, lambda x, p: target(p) + J(g(x - target(p))), x0, P, target, eigenvalues)


def linear(spectrum: Callable[[np.random.Generator, int], np.ndarray], n: int, seed: int = 0) -> Map:
    return around("linear", spectrum, n, seed)


def smooth(spectrum: Callable[[np.random.Generator, int], np.ndarray], n: int, seed: int = 0) -> Map:
    """The nonlinear version of the same: bounded, so that what diverged becomes a cycle."""
    return around("smooth", spectrum, n, seed, jnp.tanh)


def in_units(problem: Map, seed: int = 0, decades: float = 6.0) -> Map:
    """The same map with every component in a unit of its own, over up to 12 decades."""
    units = 10.0 ** np.random.default_rng(seed).uniform(-decades, decades, problem.x0.size)
    F, x_star = problem.F, problem.x_star
    assert x_star is not None
    return problem._replace(
        name=f"{problem.name}, in units",
        family="stiff units",
        F=lambda x, p: units * F(x / units, p),
        x0=units * problem.x0,
        x_star=lambda p: units * x_star(p),
        units=units,
    )


# Kinks: g is the identity near 0, and another branch beyond.


def _clip(v: Array) -> Array:
    return jnp.clip(v, -0.4, 0.6)


def _where(v: Array) -> Array:
    return jnp.where(v > 0.3, 0.6 * v + 0.12, jnp.where(v < -0.5, -0.5, v))


def _cond(v: Array) -> Array:
    s = jnp.sum(v)
    return jax.lax.cond(s > 1, lambda v: v - 0.5 * (s - 1) / v.size, lambda v: v, v)


def _switch(v: Array) -> Array:
    regime = jnp.clip(jnp.floor(2 * jnp.max(jnp.abs(v))), 0, 2).astype(int)
    return jax.lax.switch(regime, [lambda v: v, lambda v: 0.7 * v, jnp.tanh], v)


# Cycles of period 2, and maps that are finite on a part of the space only; n = P.size, each component by itself.


def _reciprocal(x: Any, p: Any) -> Any:
    """Every guess is on a cycle: the derivative is −1."""
    return (1 + p**2) / x


def _logistic(x: Any, p: Any) -> Any:
    return (3.2 + p / 10) * x * (1 - x)


def _ricker(x: Any, p: Any) -> Any:
    """Of population dynamics; the derivative is −1.3."""
    return x * jnp.exp(2.3 * (1 - x / (2 + p)))


def _root_of(x: Any, p: Any) -> Any:
    """Finite for x ≤ 1 + p/2; the derivative is about −1.4."""
    return jnp.sqrt(2 + p - 2 * x)


def _logarithm(x: Any, p: Any) -> Any:
    """Finite for x > 0; the derivative is −1.3, and the first iterate from the guess is negative."""
    return jnp.exp(p) * (1 - 1.3 * (jnp.log(x) - p))


CYCLES = (
    Map("reciprocal", "cycle", _reciprocal, np.full(3, 3.0), P, lambda p: (1 + p**2) ** 0.5),
    Map("logistic", "cycle", _logistic, np.full(3, 0.3), P, lambda p: 1 - 1 / (3.2 + p / 10)),
    Map("Ricker", "cycle", _ricker, np.full(3, 0.5), P, lambda p: 2 + p),
)

KINKS = tuple(
    around("kink", real, n, 10 + n, g, away=1.5)._replace(name=f"kink, {g.__name__[1:]} {n}")
    for g in (_clip, _where, _cond, _switch)
    for n in (2, 10)
)

DOMAINS = (
    Map("sqrt", "domain", _root_of, np.zeros(3), P, lambda p: (3 + p) ** 0.5 - 1),
    Map("log", "domain", _logarithm, 8 * np.exp(P), P, lambda p: namespace(p).exp(p)),
)


# Equations of physics, as they are iterated; p is the one number in them.

PHYSICS = (
    Map("Bratu, interval 31", "physics", lambda x, p: x - bratu(namespace(x, p), x, p) / 2, np.zeros(31), 3.0),
    Map("Bratu, square 12×12", "physics", lambda x, p: x - bratu_square(namespace(x, p), x, p) / 4, np.zeros(144), 6.0),
    *(
        Map(
            f"Chandrasekhar H, c = {c}",
            "physics",
            lambda x, p: chandrasekhar_map(namespace(x, p), x, p),
            np.ones(100),
            c,
        )
        for c in (0.9, 0.9999)
    ),
)


# A state as of a model: modules in containers, leaves of several shapes, in kelvin, pascal and mole fractions.


class Leaf(eqx.Module):
    temperature: Float[Array, " layers"]
    pressure: Float[Array, " layers"]
    conductance: Float[Array, ""]
    pathway: str = eqx.field(static=True, default="C3")


class Canopy(eqx.Module):
    leaves: dict[str, Leaf]
    soil: list[Any]
    snow: None = None


def canopy(seed: int = 0) -> Map:
    """A smooth map of 26 unknowns, of which ∂F/∂x has real eigenvalues down to −3, in units over 12 decades."""
    flat = in_units(smooth(real, 26, seed), seed)

    def state(x: Any) -> Canopy:
        leaves = {name: Leaf(x[i : i + 4], x[i + 4 : i + 8], x[i + 8]) for name, i in (("sun", 0), ("shade", 9))}
        return Canopy(leaves, [x[18:24].reshape(2, 3), None, (x[24], x[25:26])])

    def vector(x: Canopy) -> Any:
        # By name: the leaves of a dict are in the order of its sorted keys.
        parts = (x.leaves["sun"], x.leaves["shade"], x.soil)
        return jnp.concatenate([jnp.ravel(leaf) for part in parts for leaf in jax.tree.leaves(part)])

    def F(x: Canopy, p: Any) -> Canopy:
        return state(flat.F(vector(x), p))

    assert flat.x_star is not None
    return Map(
        "canopy", "pytree", F, state(flat.x0), P, lambda p: state(flat.x_star(p)), flat.spectrum, state(flat.units)
    )


# By family. Where a solver needs a dense Jacobian, LARGE is out of its reach.

MAPS = (
    *(linear(real, n) for n in (1, 2, 10, 100)),
    *(linear(spectrum, n) for spectrum in (complex_pairs, slow) for n in (2, 10, 100)),
    *(smooth(real, n) for n in (1, 2, 10, 100)),
    *(smooth(spectrum, n) for spectrum in (complex_pairs, slow) for n in (2, 10, 100)),
    *(in_units(kind(real, n), n) for kind in (linear, smooth) for n in (2, 10, 100)),
    *CYCLES,
    *KINKS,
    *DOMAINS,
    *PHYSICS,
    canopy(),
)

LARGE = tuple(kind(spectrum, 10_000) for kind in (linear, smooth) for spectrum in (real, complex_pairs, slow))
