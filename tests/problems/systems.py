"""Systems of nonlinear equations `R(x, p) = 0` of the literature.

* The 14 of Moré, Garbow and Hillstrom, Testing unconstrained optimization software (1981), doi:10.1145/355934.355936,
  by which MINPACK's HYBRD is tested, with its sizes, its starts and its multiples of them.
* The others of the 23 that Burkardt's test_nonlin collects: Hammarling's matrix square roots; Dennis and Schnabel,
  Numerical Methods for Unconstrained Optimization and Nonlinear Equations (1996), doi:10.1137/1.9781611971200;
  Freudenstein and Roth (1963), doi:10.1145/321186.321200; Boggs (1971), doi:10.1137/0708071; the H-equation of
  Chandrasekhar, discretised as by Kelley, Iterative Methods for Linear and Nonlinear Equations (1995),
  doi:10.1137/1.9781611970944.
* The problem of Bratu on an interval and on a square: Mohsen (2014), doi:10.1016/j.camwa.2013.10.003.

The parameter p is a number that moves the root; at its default the system is that of the literature.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .extended import find, namespace

FACTORS = (1.0, 10.0, 100.0)


class System(NamedTuple):
    """`R(x, p) = 0`: `R` takes arrays of JAX or of NumPy, also in extended precision.

    `roots(p)` are the roots known in closed form, not always all there are; None where there is no closed form.
    `singular`: whether ∂R/∂x is singular at the root, so that it has no derivative. `solvable`: whether there is a
    root at all. `factors`: the multiples of x0 from which MINPACK starts.
    """

    name: str
    R: Callable[[Any, Any], Any]
    x0: np.ndarray
    p: float
    roots: Callable[[Any], tuple[Any, ...]] | None
    factors: tuple[float, ...] = (1.0,)
    singular: bool = False
    solvable: bool = True
    note: str = ""

    def start(self, factor: float = 1.0) -> np.ndarray:
        """The multiple of the standard start; where that is 0, MINPACK takes the factor itself."""
        return factor * self.x0 if factor == 1 or self.x0.any() else np.full_like(self.x0, factor)

    def root(self, p: Any = None) -> np.ndarray:
        """A root to all digits of float64: the first in closed form, else one that SciPy finds from x0, refined."""
        if not self.solvable:
            raise ValueError(f"{self.name} has no root. {self.note}")
        p = self.p if p is None else p
        return np.asarray(find(self.R, self.x0, p) if self.roots is None else self.roots(p)[0], float)


def _system(name: str, equations: Callable[..., Any], x0: Any, p: float, roots: Any = None, **more: Any) -> System:
    """`equations(xp, x, p)` are written with the functions of xp, `roots(p)` as tuples of numbers."""

    def R(x: Any, p: Any) -> Any:
        return equations(namespace(x, p), x, p)

    arrays = None if roots is None else lambda p: tuple(jnp.array(root, float) for root in roots(p))
    return System(name, R, np.asarray(x0, float), p, arrays, **more)


def _neighbours(xp: Any, x: Any) -> tuple[Any, Any]:
    """x of the unknown before and of the one after, 0 at the ends."""
    zero = xp.zeros(1, x.dtype)
    return xp.concatenate([zero, x[:-1]]), xp.concatenate([x[1:], zero])


# Moré, Garbow and Hillstrom, in MINPACK's order.


def rosenbrock(xp, x, p):
    return xp.stack([p - x[0], 10 * (x[1] - x[0] ** 2)])


def powell_singular(xp, x, p):
    return xp.stack([x[0] + p * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])


def powell_badly_scaled(xp, x, p):
    return xp.stack([p * x[0] * x[1] - 1, xp.exp(-x[0]) + xp.exp(-x[1]) - 1.0001])


def wood(xp, x, p):
    """The gradient, its components 0 and 2 halved; the minimum is at (p, p², p, p²)."""
    d, e = x[1] - x[0] ** 2, x[3] - x[2] ** 2
    u, v = x[1] - p**2, x[3] - p**2
    return xp.stack(
        [
            -200 * x[0] * d - (p - x[0]),
            200 * d + 20.2 * u + 19.8 * v,
            -180 * x[2] * e - (p - x[2]),
            180 * e + 20.2 * v + 19.8 * u,
        ]
    )


def helical_valley(xp, x, p):
    """θ is the angle of (x₀, x₁) in turns, from −1/4 to 3/4: it jumps where x₀ = 0, x₁ < 0."""
    theta = 0.25 + xp.arctan2(-x[0], x[1]) / (2 * np.pi)
    return xp.stack([10 * (x[2] - 10 * theta), 10 * (xp.sqrt(x[0] ** 2 + x[1] ** 2) - p), x[2]])


def watson(xp, x, p):
    """Half of the gradient of the least squares fit of a polynomial to u' − u² = p, u(0) = 0."""
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(x.size)
    u_x = xp.asarray(t**j, dtype=x.dtype)
    slope_x = xp.asarray(j * t ** (j - 1.0), dtype=x.dtype)
    u = u_x @ x
    fit = (slope_x - 2 * u[:, None] * u_x).T @ (slope_x @ x - u**2 - p)
    last = x[1] - x[0] ** 2 - 1
    return fit + xp.concatenate([xp.stack([x[0] * (1 - 2 * last), last]), xp.zeros(x.size - 2, x.dtype)])


def chebyquad(xp, x, p):
    """The mean of each shifted Chebyshev polynomial over the nodes x, less its integral."""
    before, T, means = xp.ones_like(x), 2 * x - 1, []
    for k in range(1, x.size + 1):
        means.append(T.mean() + (p / (k**2 - 1) if k % 2 == 0 else 0))
        before, T = T, 2 * (2 * x - 1) * T - before
    return xp.stack(means)


def brown_almost_linear(xp, x, p):
    n = x.size
    return xp.concatenate([x[:-1] + x.sum() - (n + 1) * p, (x.prod() - p**n)[None]])


def discrete_boundary_value(xp, x, p):
    h = 1 / (x.size + 1)
    before, after = _neighbours(xp, x)
    t = h * xp.arange(1, x.size + 1, dtype=x.dtype)
    return 2 * x - before - after + p * h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(xp, x, p):
    h = 1 / (x.size + 1)
    t = h * xp.arange(1, x.size + 1, dtype=x.dtype)
    green = xp.minimum(t, t[:, None]) * (1 - xp.maximum(t, t[:, None]))
    return x + p * h / 2 * (green @ (x + t + 1) ** 3)


def trigonometric(xp, x, p):
    k = xp.arange(1, x.size + 1, dtype=x.dtype)
    return (xp.cos(p) - xp.cos(x)).sum() + k * (xp.cos(p) - xp.cos(x)) + xp.sin(p) - xp.sin(x)


def variably_dimensioned(xp, x, p):
    k = xp.arange(1, x.size + 1, dtype=x.dtype)
    s = k @ (x - p)
    return x - p + k * s * (1 + 2 * s**2)


def broyden_tridiagonal(xp, x, p):
    before, after = _neighbours(xp, x)
    return (3 - p * x) * x - before - 2 * after + 1


def broyden_banded(xp, x, p):
    k = np.arange(x.size)
    offset = k - k[:, None]
    band = xp.asarray((offset >= -5) & (offset <= 1) & (offset != 0), dtype=x.dtype)
    return x * (2 + p * x**2) + 1 - band @ (x * (1 + x))


# Others.


def matrix_square_root(xp, x, p):
    """X² = p I + e₀e₁ᵀ, a Jordan block and, in the larger one, a third eigenvalue that is the same."""
    m = round(x.size**0.5)
    X = x.reshape(m, m)
    corner = np.zeros((m, m))
    corner[0, 1] = 1
    return (X @ X - p * xp.eye(m, dtype=x.dtype) - xp.asarray(corner, dtype=x.dtype)).ravel()


def dennis_schnabel(xp, x, p):
    return xp.stack([x[0] + x[1] - p, x[0] ** 2 + x[1] ** 2 - p**2])


def sample_18(xp, x, p):
    # (1 − exp(−p x²))/x, of which 0/0 at x = 0 is the limit 0 with the slope p.
    some = xp.where(x == 0, 1, x)
    hump = xp.where(x == 0, p * x, -xp.expm1(-p * some**2) / some)
    return xp.stack([x[1] ** 2 * hump[0], x[0] * hump[1]])


def sample_19(xp, x, p):
    return x * (p * x[0] ** 2 + x[1] ** 2)


def cubic(xp, x, p):
    return (x + p - 5) * (x - p) ** 2


def freudenstein_roth(xp, x, p):
    """The constant of the second equation is such that x₁ = p; it is 29 at p = 4."""
    constant = 13 + 2 * p**3 - 4 * p**2 - 12 * p
    y = x[1]
    return xp.stack([x[0] - 13 + ((5 - y) * y - 2) * y, x[0] - constant + ((y + 1) * y - 14) * y])


def boggs(xp, x, p):
    return xp.stack([x[0] ** 2 - x[1] + p, x[0] - xp.cos(np.pi * x[1] / 2) + xp.cos(np.pi * p / 2)])


def chandrasekhar_map(xp, x, p):
    """H = 1/(1 − c/2 ∫ μ H(ν)/(μ + ν) dν), c = p, by the midpoint rule."""
    mu = (xp.arange(x.size, dtype=x.dtype) + 0.5) / x.size
    return 1 / (1 - p / (2 * x.size) * ((mu[:, None] / (mu[:, None] + mu)) @ x))


def chandrasekhar(xp, x, p):
    return x - chandrasekhar_map(xp, x, p)


def bratu(xp, x, p):
    """−u'' = p exp(u) with u = 0 at both ends, by differences times h²."""
    before, after = _neighbours(xp, x)
    return 2 * x - before - after - p / (x.size + 1) ** 2 * xp.exp(x)


def bratu_square(xp, x, p):
    """−Δu = p exp(u) with u = 0 on the boundary of a square, by differences times h²."""
    m = round(x.size**0.5)
    u = xp.pad(x.reshape(m, m), 1)
    around = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
    return 4 * x - around.ravel() - p / (m + 1) ** 2 * xp.exp(x)


def _all(n: int) -> Callable[[Any], Sequence[Any]]:
    return lambda p: [[p] * n]


def _square_roots(m: int) -> Callable[[Any], Sequence[Any]]:
    def roots(p):
        X = [[p**0.5 if i == j else 0 for j in range(m)] for i in range(m)]
        X[0][1] = 1 / (2 * p**0.5)
        return [[sign * entry for row in X for entry in row] for sign in (1, -1)]

    return roots


def _parabola(n: int) -> np.ndarray:
    t = np.arange(1, n + 1) / (n + 1)
    return t * (t - 1)


def _half(n: int) -> np.ndarray:
    return np.full(n, 0.5)


MORE = {"factors": FACTORS}
NODES = "No real root: Chebyshev's quadrature with 8 nodes has complex ones."
AXES = "Both axes are roots."
DOUBLE = "The root x = 5 is double."

MORE_GARBOW_HILLSTROM = (
    _system("Rosenbrock", rosenbrock, [-1.2, 1], 1.0, lambda p: [[p, p**2]], **MORE),
    _system("Powell singular", powell_singular, [3, -1, 0, 1], 10.0, lambda p: [[0.0] * 4], singular=True, **MORE),
    _system("Powell badly scaled", powell_badly_scaled, [0, 1], 1e4, factors=(1.0, 10.0)),
    _system("Wood", wood, [-3, -1, -3, -1], 1.0, lambda p: [[p, p**2] * 2], **MORE),
    _system("helical valley", helical_valley, [-1, 0, 0], 1.0, lambda p: [[p, 0, 0]], **MORE),
    *(_system(f"Watson {n}", watson, np.zeros(n), 1.0, factors=(1.0, 10.0)) for n in (6, 9)),
    *(_system(f"Chebyquad {n}", chebyquad, np.arange(1, n + 1) / (n + 1), 1.0, **MORE) for n in (5, 6, 7)),
    _system("Chebyquad 8", chebyquad, np.arange(1, 9) / 9, 1.0, solvable=False, note=NODES),
    _system("Chebyquad 9", chebyquad, np.arange(1, 10) / 10, 1.0),
    _system("Brown almost-linear 10", brown_almost_linear, _half(10), 1.0, _all(10), **MORE),
    *(_system(f"Brown almost-linear {n}", brown_almost_linear, _half(n), 1.0, _all(n)) for n in (30, 40)),
    _system("discrete boundary value 10", discrete_boundary_value, _parabola(10), 1.0, **MORE),
    *(
        _system(f"discrete integral equation {n}", discrete_integral_equation, _parabola(n), 1.0, **MORE)
        for n in (1, 10)
    ),
    _system("trigonometric 10", trigonometric, np.full(10, 0.1), 0.0, _all(10), **MORE),
    _system("variably dimensioned 10", variably_dimensioned, 1 - np.arange(1, 11) / 10, 1.0, _all(10), **MORE),
    _system("Broyden tridiagonal 10", broyden_tridiagonal, -np.ones(10), 2.0, **MORE),
    _system("Broyden banded 10", broyden_banded, -np.ones(10), 5.0, **MORE),
)

OTHERS = (
    *(
        _system(f"matrix square root {m}×{m}", matrix_square_root, np.eye(m).ravel(), 1e-4, _square_roots(m))
        for m in (2, 3)
    ),
    _system("Dennis-Schnabel", dennis_schnabel, [1, 5], 3.0, lambda p: [[0, p], [p, 0]]),
    _system("sample 18", sample_18, [2, 2], 1.0, lambda p: [[0.0, 0.0]], singular=True, note=AXES),
    _system("sample 19", sample_19, [3, 3], 1.0, lambda p: [[0.0, 0.0]], singular=True),
    _system("x(x − 5)², from below", cubic, [1], 5.0, lambda p: [[5 - p]], note=DOUBLE),
    _system("x(x − 5)², from above", cubic, [10], 5.0, lambda p: [[p]], singular=True, note=DOUBLE),
    _system("Freudenstein-Roth", freudenstein_roth, [0.5, -2], 4.0, lambda p: [[13 - ((5 - p) * p - 2) * p, p]]),
    _system("Boggs", boggs, [1, 0], 1.0, lambda p: [[0, p]], note="At p = 1 also (−1, 2) and (−1/√2, 3/2)."),
    _system("Chandrasekhar H 10", chandrasekhar, np.ones(10), 0.9),
    _system("Bratu, interval 31", bratu, np.zeros(31), 3.0, note="Up to p = 3.51 two roots, above it none."),
    _system("Bratu, square 12×12", bratu_square, np.zeros(144), 6.0, note="Up to p = 6.81 two roots, above it none."),
)

SYSTEMS = MORE_GARBOW_HILLSTROM + OTHERS
