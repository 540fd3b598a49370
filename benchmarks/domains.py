"""How often a point around a guess outside the domain of F lies inside: `python benchmarks/domains.py [--draws 500]`.

Domains drawn at random, in units of their own, of 1 to 50 unknowns; the guess lies outside by 0.03 to 30 of its size.
Printed is, by number of points tried (`_loop/domain.py`), in what share of the draws one of them is inside.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from implicitax._loop.domain import place

POINTS = 24
SIZES = (1, 2, 5, 50)
Domain = Callable[[np.ndarray], bool]


def above(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """Every unknown above, or every one below, a limit of its own."""
    sign, distance = rng.choice([-1, 1]), way * np.abs(x0).mean() * rng.uniform(0.3, 1, x0.size)
    return lambda x: bool(np.all(sign * (x - x0) > distance))


def one(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """One unknown above or below a limit, the others free."""
    i, sign = rng.integers(x0.size), rng.choice([-1, 1])
    return lambda x: bool(sign * (x[i] - x0[i]) > way * np.abs(x0[i]))


def half_space(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """On the other side of a plane."""
    normal = rng.normal(size=x0.size) / np.abs(x0)
    return lambda x: bool(normal @ (x - x0) > way * np.sqrt(x0.size))


def product(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """A product of all unknowns below a limit, as under the root of a difference."""
    return lambda x: bool(np.sum(np.log(np.abs(x / x0) + 1e-300)) < -np.log1p(way))


def ball(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """A norm below a limit."""
    return lambda x: bool(np.linalg.norm(x) < np.linalg.norm(x0) / (1 + way))


def signs(rng: np.random.Generator, x0: np.ndarray, way: float) -> Domain:
    """Every unknown on its own side of 0, which a guess has wrong for one of them; or of a guess of 0."""
    wanted = np.sign(x0) * np.where(np.arange(x0.size) == rng.integers(x0.size), -1, 1)
    return lambda x: bool(np.all(x * wanted > 0))


FAMILIES = (above, one, half_space, product, ball, signs)


def share(family: Callable[..., Domain], draws: int) -> np.ndarray:
    """By number of points, in how many of the draws one was inside."""
    points = jax.jit(lambda x0: jnp.stack([place((x0,), jnp.asarray(k))[0] for k in range(POINTS)]))
    inside = np.zeros((draws, POINTS), bool)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        size = SIZES[seed % len(SIZES)]
        unit, sign = 10 ** rng.uniform(-4, 4), rng.choice([-1, 1], size if rng.random() < 0.5 else 1)
        x0 = unit * sign * rng.uniform(0.5, 2, size)
        domain = family(rng, x0, 10 ** rng.uniform(-1.5, 1.5))
        inside[seed] = [domain(x) for x in np.asarray(points(x0))]
    return np.maximum.accumulate(inside, axis=1).mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=500)
    jax.config.update("jax_enable_x64", True)
    draws, shown = parser.parse_args().draws, (1, 2, 4, 6, 8, 10, 13, 16, 24)
    print("| domain | " + " | ".join(map(str, shown)) + " |\n|---|" + "---:|" * len(shown))
    for family in FAMILIES:
        found = share(family, draws)
        shares = " | ".join(f"{100 * found[k - 1]:.0f}%" for k in shown)
        print(f"| {family.__name__.replace('_', ' ')} | {shares} |")


if __name__ == "__main__":
    main()
