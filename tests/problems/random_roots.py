"""Systems `R(x, p) = 0` drawn from a seed, on which no method was tuned: `R = unit (G(x / size) − G(x* / size))`.

G is one of nine families of smooth functions, with random coefficients that p holds; so the root x* is known, though it
need not be the only one. The systems of a family that have the same size share R, and can be solved under one `vmap`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .extended import namespace

DISTANCES = (1.0, 3.0, 10.0)  # of the starts from the root, in sizes of x
SMALLEST = 1e-3  # of all units of R and sizes of x


class RandomRoot(NamedTuple):
    """`R(x, p) = 0`, with a root at `x_star`. `starts` has a row for each of `DISTANCES`, `units` are those of R."""

    name: str
    family: str
    R: Callable[[Any, Any], Any]
    p: dict[str, np.ndarray]
    x_star: np.ndarray
    starts: np.ndarray

    @property
    def units(self) -> np.ndarray:
        return self.p["unit"]


# G(u), with normal matrices A, B, C, whose products with u have entries as large as those of u, and a normal vector c.


def network(xp, u, p):
    return 2 * p["A"] @ xp.tanh(2 * p["B"] @ u + p["c"]) + 0.2 * u


def polynomial(xp, u, p):
    return p["A"] @ u + (p["B"] @ u) * (p["C"] @ u) + 0.3 * (p["C"] @ u) ** 3


def exponential(xp, u, p):
    return p["A"] @ xp.exp(p["B"] @ u) + p["C"] @ u


def trigonometric(xp, u, p):
    return p["A"] @ xp.sin(2 * p["B"] @ u + p["c"]) + 0.5 * p["C"] @ u


def rational(xp, u, p):
    v = p["B"] @ u
    return p["A"] @ (v / (1 + v**2)) + 0.2 * u + p["C"] @ xp.exp(-((v - p["c"]) ** 2))


def banded(xp, u, p):
    zero = xp.zeros(1, u.dtype)
    before, after = xp.concatenate([zero, u[:-1]]), xp.concatenate([u[1:], zero])
    return u**3 + p["c"] * u + before * after - 2 * xp.sin(before) + xp.tanh(2 * after)


def logarithm(xp, u, p):
    """Not finite where an unknown is negative."""
    return p["A"] @ xp.log(u) + p["B"] @ xp.sqrt(u) + 0.3 * p["C"] @ u**2


def reactions(xp, u, p):
    """A steady state: outflow, and reactions of two partners each, whose rates have different orders of magnitude."""
    return u - p["A"] @ (10 ** p["c"] * (abs(p["B"]) @ u) * (abs(p["C"]) @ u))


def ill_conditioned(xp, u, p):
    """∂G/∂u at the root has singular values from 1 down to about 1e-6."""
    w = u - p["root"]
    return p["A"] @ (10 ** (-3 * abs(p["c"])) * (p["B"] @ w)) + 0.3 * (p["A"] @ w) * (p["C"] @ w)


FAMILIES = (
    network,
    polynomial,
    exponential,
    trigonometric,
    rational,
    banded,
    logarithm,
    reactions,
    ill_conditioned,
)
IN_UNITS = (polynomial, network)


def _residual(G: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def R(x: Any, p: Any) -> Any:
        return p["unit"] * (G(namespace(x, *p.values()), x / p["size"], p) - p["value"])

    return R


def _draw(name: str, family: str, G: Any, R: Any, n: int, rng: np.random.Generator, spread: float) -> RandomRoot:
    positive = G in (logarithm, reactions)
    p = {key: rng.normal(size=(n, n)) / np.sqrt(n) for key in "ABC"} | {"c": rng.normal(size=n)}
    p["root"] = np.exp(0.5 * rng.normal(size=n)) if positive else rng.normal(size=n)
    p["value"] = G(np, p["root"], p)
    p["size"], p["unit"] = 10 ** rng.uniform(-spread, spread, (2, n))
    directions = rng.normal(size=(len(DISTANCES), n))
    distances = np.array(DISTANCES)[:, None]
    starts = p["root"] * np.exp(0.5 * distances**0.5 * directions) if positive else p["root"] + distances * directions
    return RandomRoot(name, family, R, p, p["size"] * p["root"], p["size"] * starts)


def draw(seed: int, sizes: int = 3, each: int = 7) -> list[RandomRoot]:
    """For each family `sizes` numbers of unknowns from 2 to 12, and `each` systems of that size."""
    found = []
    families = [(G.__name__.replace("_", "-"), G, 0.0) for G in FAMILIES]
    families += [(f"{G.__name__} in units", G, -np.log10(SMALLEST)) for G in IN_UNITS]
    for k, (family, G, spread) in enumerate(families):
        R = _residual(G)
        rng = np.random.default_rng([seed, k])
        for n in sorted(rng.choice(np.arange(2, 13), sizes, replace=False)):
            found += [_draw(f"{family} {n}, {i}", family, G, R, n, rng, spread) for i in range(each)]
    return found
