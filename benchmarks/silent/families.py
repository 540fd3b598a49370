"""Problems drawn at random, by kinds: of those in which a solver has been caught at saying "solved" of what is not.

`f(xp, x, p)` is R, or F(x), by NumPy or JAX, for one problem or, with NumPy, for many along the first axis.
"""

import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, dict[str, np.ndarray]]]


class Family(NamedTuple):
    """`solvable(p, tolerance)`: which have a solution. `exact(p)`: it, where there is one only; None: that next to the
    answer. `digits`: the part of the digits of an answer that its multiplicity leaves. `singular`: it has no
    derivative."""

    name: str
    f: Callable[[Any, Any, Any], Any]
    draw: Draw
    sizes: tuple[int, ...] = (1,)
    kind: Literal["root", "fixed_point"] = "root"
    solvable: Callable[[Any, float], Any] | None = None
    exact: Callable[[Any], Any] | None = None
    digits: float = 1.0
    singular: bool = False
    decades: float = 0.0  # of the units, in float64; a third of it in float32


def draw(family: Family, n: int, dtype: Any, count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """x0 and p of problems of one family, size and precision."""
    rng = np.random.default_rng((seed, zlib.crc32(family.name.encode()), n, np.dtype(dtype).itemsize))
    x0, p = family.draw(rng, count, n)
    if family.decades:
        spread = family.decades / (1 if dtype == np.float64 else 3)
        p |= {name: 10 ** rng.uniform(-spread, spread, x0.shape) for name in ("unit", "equation")}
        x0 = x0 * p["unit"]
    return x0.astype(dtype), {name: value.astype(dtype) for name, value in p.items()}


def times(xp: Any, A: Any, x: Any) -> Any:
    return xp.einsum("...ij,...j->...i", A, x)


def _near(rng: np.random.Generator, x: np.ndarray, distance: float = 0.3) -> np.ndarray:
    return x + distance * np.maximum(np.abs(x), 0.3) * rng.normal(size=x.shape)


def _smooth(xp: Any, x: Any, p: Any) -> Any:
    return times(xp, p["A"], x - p["s"]) + 0.3 * (xp.sin(x) - xp.sin(p["s"])) ** 2


def _draw_smooth(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    A = rng.normal(size=(count, n, n)) / np.sqrt(n) + 1.5 * np.eye(n)
    s = rng.normal(size=(count, n))
    return _near(rng, s), {"A": A, "s": s}


def _in_units(xp: Any, x: Any, p: Any) -> Any:
    return p["equation"] * _smooth(xp, x / p["unit"], p)


def _pole(xp: Any, x: Any, p: Any) -> Any:
    return times(xp, p["A"], 1 / x) - p["b"]


def _draw_pole(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    A = np.eye(n) + 0.3 * rng.normal(size=(count, n, n)) / n
    x = np.exp(rng.normal(size=(count, n))) * rng.choice((-1, 1), (count, n))
    return x * np.exp(0.5 * rng.normal(size=x.shape)), {"A": A, "b": times(np, A, 1 / x)}


def _tanks(xp: Any, x: Any, p: Any) -> Any:
    """A row of tanks, each of which flows into the next, and from each of which something is drawn."""
    out = p["k"] * xp.sqrt(x)
    above = xp.concatenate([xp.zeros_like(out[..., :1]), out[..., :-1]], axis=-1)
    return p["net"] + above - out


def _draw_tanks(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    total = np.cumsum(rng.uniform(-1, 1, (count, n)), -1)
    total += np.copysign(0.2, total)  # no root at the edge itself, where 0 is as good
    p = {"k": rng.uniform(0.3, 2, (count, n)), "net": np.diff(total, axis=-1, prepend=0)}
    return rng.uniform(0.5, 4, (count, n)), p


def _edge(xp: Any, x: Any, p: Any) -> Any:
    return x ** p["power"] * (1 + p["a"] * x)


def _cusp(xp: Any, x: Any, p: Any) -> Any:
    z = x - p["s"]
    return xp.sign(z) * xp.abs(z) ** p["power"] + xp.where(z > 0, p["jump"], -p["jump"] * p["skew"])


def _none(xp: Any, x: Any, p: Any) -> Any:
    kind = p["kind"]
    return xp.where(
        kind == 0,
        p["a"] * xp.exp(-xp.abs(x)),
        xp.where(kind == 1, x * x + p["a"], xp.where(kind == 2, xp.cosh(x) - 1 + p["a"], p["a"] / (1 + x * x))),
    )


def _power(xp: Any, x: Any, p: Any) -> Any:
    z = x - p["s"]
    return xp.where(p["odd"] > 0, z**3, z**2) * (1 + 0.3 * z * z)


def _kinks(xp: Any, x: Any, p: Any) -> Any:
    z = x - p["s"]
    return times(xp, p["A"], xp.maximum(z, 0)) + times(xp, p["B"], xp.minimum(z, 0))


def _draw_kinks(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    def dominant() -> np.ndarray:
        return np.exp(rng.normal(size=(count, n, 1))) * (np.eye(n) + 0.5 / n * rng.uniform(-1, 1, (count, n, n)))

    s = rng.normal(size=(count, n))
    return s + rng.normal(size=(count, n)), {"A": dominant(), "B": dominant(), "s": s}


def _overflow(xp: Any, x: Any, p: Any) -> Any:
    return xp.exp(p["k"] * x) - p["b"]


def _acid(xp: Any, x: Any, p: Any) -> Any:
    """[H⁺] of a weak acid, in mol/l; in a unit near the answer, so that x is of the order of 1 but R is not."""
    h = x * p["unit"]
    return h**3 + p["Ka"] * h**2 - (1e-14 + p["Ka"] * p["C"]) * h - 1e-14 * p["Ka"]


def _draw_acid(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    Ka, C = 10 ** rng.uniform(-9, -2, (count, n)), 10 ** rng.uniform(-5, 0, (count, n))
    unit = np.sqrt(Ka * C)
    return np.exp(rng.normal(size=(count, n))), {"Ka": Ka, "C": C, "unit": unit}


def _diode(xp: Any, x: Any, p: Any) -> Any:
    """A row of diodes in parallel with a resistance: the voltage at which the current is what light makes."""
    return p["I0"] * (xp.exp(x / 0.02585) - 1) + x / p["ohm"] - p["I"]


def _reactor(xp: Any, x: Any, p: Any) -> Any:
    """A stirred tank with one reaction: concentration in mol/m³ and temperature in K."""
    c, T = x[..., 0], x[..., 1]
    rate = p["k"] * xp.exp(-p["E"] * (1 / T - 1 / 350)) * c
    return xp.stack([p["c0"] - c - rate, p["T0"] - T + p["heat"] * rate], axis=-1)


def _draw_reactor(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    p = {
        "k": 10 ** rng.uniform(-3, 1, count),
        "E": rng.uniform(4e3, 1.2e4, count),
        "c0": rng.uniform(100, 2000, count),
        "T0": rng.uniform(280, 350, count),
        "heat": rng.uniform(0, 0.1, count),
    }
    return np.stack([p["c0"], p["T0"]], -1) * rng.uniform(0.7, 1.3, (count, 2)), p


def _contraction(xp: Any, x: Any, p: Any) -> Any:
    z = x - p["s"]
    return p["s"] + times(xp, p["J"], xp.sin(z))


def _draw_contraction(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    J = rng.normal(size=(count, n, n))
    J *= rng.uniform(0.2, 0.97, (count, 1, 1)) / np.linalg.norm(J, 2, (1, 2))[:, None, None]
    s = 3 * rng.normal(size=(count, n))
    return s + rng.normal(size=(count, n)), {"J": J, "s": s}


def _to_infinity(xp: Any, x: Any, p: Any) -> Any:
    kind, a = p["kind"], p["a"]
    return xp.where(kind == 0, x + a / (1 + x * x), xp.where(kind == 1, xp.sqrt(x * x + a), x + a / (1 + xp.abs(x))))


def _conserved(xp: Any, x: Any, p: Any) -> Any:
    """Reactions that keep the total: the answer depends on x0, and ∂R/∂x is singular."""
    return x + times(xp, p["K"], x)


def _draw_conserved(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    K = np.exp(rng.normal(size=(count, n, n))) * (1 - np.eye(n))
    K = K - K.sum(1)[:, None] * np.eye(n)
    return rng.uniform(0.5, 2, (count, n)), {"K": 0.5 * K / np.abs(K).max((1, 2))[:, None, None]}


def _linear(xp: Any, x: Any, p: Any) -> Any:
    return times(xp, p["A"], x - p["s"])


def _draw_singular(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    A = rng.normal(size=(count, n, n))
    A[:, -1] = times(np, np.swapaxes(A[:, :-1], 1, 2), rng.normal(size=(count, n - 1)))
    s = rng.normal(size=(count, n))
    return s + rng.normal(size=(count, n)), {"A": A, "s": s}


def _draw_conditioned(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    u, v = (np.linalg.qr(rng.normal(size=(count, n, n)))[0] for _ in range(2))
    A = u * 10.0 ** -(np.linspace(0, 1, n) * rng.uniform(0, 8, (count, 1)))[:, None] @ v
    s = rng.normal(size=(count, n))
    return s + 0.1 * rng.normal(size=(count, n)), {"A": A, "s": s}


def _numbers(**ranges: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]) -> Draw:
    """A draw of parameters one by one, of which `x0` is the guess."""

    def draw(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        p = {name: each(rng, (count, n)) for name, each in ranges.items()}
        return p.pop("x0"), p

    return draw


def uniform(low: float, high: float) -> Callable[[np.random.Generator, tuple[int, int]], np.ndarray]:
    return lambda rng, shape: rng.uniform(low, high, shape)


def decades(low: float, high: float) -> Callable[[np.random.Generator, tuple[int, int]], np.ndarray]:
    return lambda rng, shape: 10 ** rng.uniform(low, high, shape)


def among(*values: float) -> Callable[[np.random.Generator, tuple[int, int]], np.ndarray]:
    return lambda rng, shape: rng.choice(np.array(values, float), shape)


def _no(p: Any, tolerance: float) -> Any:
    return np.zeros(len(next(iter(p.values()))), bool)


FAMILIES = (
    Family("smooth", _smooth, _draw_smooth, (1, 3, 10, 50, 200)),
    Family("arbitrary units", _in_units, _draw_smooth, (1, 3, 10), decades=20),
    Family("poles", _pole, _draw_pole, (1, 3)),
    Family(
        *("tanks, half of them without a root", _tanks, _draw_tanks, (1, 3)),
        solvable=lambda p, tolerance: (np.cumsum(p["net"], -1) > 0).all(-1),
    ),
    Family(
        *(
            "a root at the edge of the domain",
            _edge,
            _numbers(x0=uniform(0.3, 3), power=uniform(0.3, 2), a=uniform(0, 2)),
        ),
        exact=lambda p: 0 * p["a"],
    ),
    Family(
        *("a root at a cusp", _cusp),
        _numbers(x0=uniform(-3, 3), s=uniform(-2, 2), power=uniform(0.6, 2), jump=among(0), skew=among(1)),
        exact=lambda p: p["s"],
    ),
    Family(
        *("a jump over 0", _cusp),
        _numbers(x0=uniform(-3, 3), s=uniform(-2, 2), power=uniform(0.2, 2), jump=decades(-4, 0), skew=decades(-1, 1)),
        # A jump that is less than what R changes within some tolerances of x is none.
        solvable=lambda p, tolerance: (
            p["jump"] * (1 + p["skew"]) < (20 * tolerance * np.abs(p["s"])) ** p["power"]
        ).all(-1),
        exact=lambda p: p["s"],
    ),
    Family("no root", _none, _numbers(x0=uniform(-3, 3), a=decades(-6, 0), kind=among(0, 1, 2, 3)), solvable=_no),
    Family(
        *("double and triple roots", _power, _numbers(x0=uniform(-3, 3), s=uniform(-2, 2), odd=among(0, 1))),
        exact=lambda p: p["s"],
        digits=1 / 3,
    ),
    Family("kinks", _kinks, _draw_kinks, (1, 3, 10), exact=lambda p: p["s"]),
    Family("overflow", _overflow, _numbers(x0=uniform(0, 3), k=uniform(1, 50), b=decades(-3, 10))),
    Family("small units: acids", _acid, _draw_acid),
    Family(
        "small units: diodes",
        _diode,
        _numbers(x0=uniform(0, 0.5), I0=decades(-15, -9), ohm=decades(3, 8), I=decades(-9, -3)),
    ),
    Family("stiff: reactors", _reactor, _draw_reactor, (2,)),
    Family("condition 1 to 10⁸", _linear, _draw_conditioned, (3, 10)),
    Family("singular", _linear, _draw_singular, (3, 10), solvable=None, singular=True),
    Family("contractions", _contraction, _draw_contraction, (1, 3, 10, 100), "fixed_point"),
    Family("conserved totals", _conserved, _draw_conserved, (3, 10), "fixed_point", singular=True),
    Family(
        "at infinity",
        _to_infinity,
        _numbers(x0=uniform(-3, 3), a=uniform(0.3, 3), kind=among(0, 1, 2)),
        (1, 3, 20),
        "fixed_point",
        solvable=_no,
    ),
)
