"""The problems are what they say: against published numbers, other code, and extended precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from problems.extended import derivative, find, jacobians, refine
from problems.maps import LARGE, MAPS
from problems.systems import MORE_GARBOW_HILLSTROM, SYSTEMS

BY_NAME = {system.name: system for system in SYSTEMS}
SOLVABLE = [system for system in SYSTEMS if system.solvable]
REGULAR = [system for system in SOLVABLE if not system.singular]
EPS = float(np.finfo(np.longdouble).eps)


def name(problem):
    return problem.name


def test_there_are_as_many_as_in_hybrd():
    """MINPACK's test of HYBRD makes 55 runs."""
    assert sum(len(system.factors) for system in MORE_GARBOW_HILLSTROM) == 55
    assert len(BY_NAME) == len(SYSTEMS)


# What the literature says of them.


def watson_objective(x):
    """As Moré, Garbow and Hillstrom print it, (20)."""
    total = x[0] ** 2 + (x[1] - x[0] ** 2 - 1) ** 2
    for i in range(1, 30):
        t = i / 29
        slope = sum((j - 1) * x[j - 1] * t ** (j - 2) for j in range(2, len(x) + 1))
        value = sum(x[j - 1] * t ** (j - 1) for j in range(1, len(x) + 1))
        total += (slope - value**2 - 1) ** 2
    return total


def wood_objective(x):
    """As Moré, Garbow and Hillstrom print it, (14)."""
    f = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + 90 * (x[3] - x[2] ** 2) ** 2 + (1 - x[2]) ** 2
    return f + 10 * (x[1] + x[3] - 2) ** 2 + 0.1 * (x[1] - x[3]) ** 2


def at_start(name, factor=1.0):
    system = BY_NAME[name]
    return np.asarray(system.R(jnp.asarray(system.start(factor)), system.p))


def test_residuals_at_the_standard_start():
    np.testing.assert_allclose(at_start("Rosenbrock"), [2.2, -4.4])
    np.testing.assert_allclose(at_start("helical valley"), [-50, 0, 0])
    np.testing.assert_allclose(at_start("Powell badly scaled"), [-1, 1 + np.exp(-1) - 1.0001])
    np.testing.assert_allclose(at_start("Wood"), [-6004, -2080, -5404, -1880])
    np.testing.assert_allclose(at_start("Powell singular"), [-7, -(5**0.5), 1, 4 * 10**0.5])
    np.testing.assert_allclose(at_start("Boggs"), [2, 0], atol=1e-15)
    np.testing.assert_allclose(at_start("Freudenstein-Roth"), [0.5 - 13 + 32, 0.5 - 29 + 24])


@pytest.mark.parametrize(
    ("name", "objective", "scale"), [("Wood", wood_objective, [2, 1, 2, 1]), ("Watson 6", watson_objective, 2)]
)
@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_gradients(name, objective, scale, factor):
    """MINPACK's systems, some components halved, against central differences of the objective."""
    x = BY_NAME[name].start(factor) + 0.1
    step = 1e-4
    gradient = [(objective(x + step * e) - objective(x - step * e)) / (2 * step) for e in np.eye(x.size)]
    R = BY_NAME[name].R(x, BY_NAME[name].p)
    np.testing.assert_allclose(scale * R, gradient, rtol=1e-5, atol=1e-7)


def test_published_minima():
    np.testing.assert_allclose(wood_objective(BY_NAME["Wood"].x0), 19192)
    np.testing.assert_allclose(BY_NAME["Powell badly scaled"].root(), [1.098e-5, 9.106], rtol=1e-3)
    for n, minimum in ((6, 2.28767e-3), (9, 1.39976e-6)):
        assert watson_objective(BY_NAME[f"Watson {n}"].root()) == pytest.approx(minimum, rel=1e-5)


def nodes(n):
    """Of Chebyshev's quadrature on (−1, 1): Newton's identities make a polynomial of the sums of their powers."""
    sums = [n / (k + 1) if k % 2 == 0 else 0 for k in range(n + 1)]
    e = [1.0]
    for k in range(1, n + 1):
        e.append(sum((-1) ** (i - 1) * e[k - i] * sums[i] for i in range(1, k + 1)) / k)
    return np.roots([(-1) ** k * e[k] for k in range(n + 1)])


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9])
def test_chebyquad_is_chebyshevs_quadrature(n):
    system = BY_NAME[f"Chebyquad {n}"]
    z = nodes(n)
    assert system.solvable == bool(np.all(np.abs(z.imag) < 1e-6))
    if system.solvable:
        np.testing.assert_allclose(np.sort(2 * system.root() - 1), np.sort(z.real), atol=1e-8)
    else:
        with pytest.raises(ValueError, match=r"has no root\. No real root: Chebyshev's quadrature"):
            system.root()


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_chandrasekhar(p):
    """The mean of H is known: 2/c (1 − √(1 − c)), for the midpoint rule too."""
    x = find(BY_NAME["Chandrasekhar H 10"].R, np.ones(10), p)
    assert float(x.mean()) == pytest.approx(2 / p * (1 - np.sqrt(1 - p)), rel=1e-14)


def test_further_roots():
    boggs = BY_NAME["Boggs"]
    for x in ([-1, 2], [-(0.5**0.5), 1.5]):
        np.testing.assert_allclose(boggs.R(np.array(x), 1.0), 0, atol=1e-15)
    for x in ([0, 3], [-2, 0]):
        np.testing.assert_array_equal(BY_NAME["sample 18"].R(np.array(x, float), 1.0), 0)


# What holds for each.


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_residual_of_numpy_and_of_jax(system):
    R = jax.jit(system.R)
    for factor in system.factors:
        x = system.start(factor)
        np.testing.assert_allclose(R(x, system.p), system.R(x, system.p), rtol=1e-9, atol=1e-9)
    assert system.R(x.astype(np.longdouble), system.p).dtype == np.longdouble
    single = jax.ShapeDtypeStruct(x.shape, jnp.float32)
    assert jax.eval_shape(lambda x: system.R(x, system.p), single) == single


@pytest.mark.parametrize("system", SOLVABLE, ids=name)
def test_roots(system):
    if system.roots is None:
        x = find(system.R, system.x0, system.p)
        # The terms of R, which cancel at the root, are of this size.
        size = np.abs(jacobians(system.R, x, system.p)[0]).sum(1) * np.abs(x).max() + 1
        assert np.all(np.abs(system.R(x, system.p)) <= 20 * EPS * size)
    else:
        for x in system.roots(system.p):
            np.testing.assert_allclose(system.R(np.asarray(x), system.p), 0, atol=1e-13)
    singular_values = np.linalg.svd(jacobians(system.R, system.root(), system.p)[0], compute_uv=False)
    assert (singular_values[-1] <= 1e-13 * singular_values[0]) == system.singular


@pytest.mark.parametrize("system", REGULAR, ids=name)
def test_derivatives(system):
    """−A⁻¹B against the derivative of the closed form, or else central differences of roots in extended precision."""
    x = system.root()
    expected = derivative(system.R, x, system.p)
    if system.roots is None:
        step = 1e-5 * system.p
        plus, minus = (refine(system.R, x, system.p + sign * step) for sign in (1, -1))
        # The step that was made, p ± step being rounded.
        actual = (plus - minus) / ((system.p + step) - (system.p - step))
    else:
        actual = jax.jacfwd(lambda p: system.roots(p)[0])(system.p)
    np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=2e-6, atol=1e-9 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-6


@pytest.mark.parametrize("problem", MAPS + LARGE, ids=name)
def test_maps(problem):
    """x* is a fixed point, the guess is none, and all is float64, in the structure of the guess."""
    x = problem.solution()
    value = jax.jit(problem.F)(jax.tree.map(jnp.asarray, x), problem.p)
    assert jax.tree.structure(value) == jax.tree.structure(problem.x0)
    for leaf, at_x, guess in zip(*map(jax.tree.leaves, (value, x, problem.x0))):
        assert leaf.shape == guess.shape
        assert leaf.dtype == guess.dtype == np.float64
        np.testing.assert_allclose(leaf, at_x, rtol=1e-12, atol=1e-12 * np.abs(at_x).max())
    assert not np.allclose(jax.tree.leaves(problem.x0)[0], jax.tree.leaves(x)[0], rtol=1e-2)


@pytest.mark.parametrize(
    "problem", [m for m in MAPS if m.family != "pytree" and m.x_star and m.x0.size <= 10], ids=name
)
def test_spectrum_and_derivative(problem):
    x = problem.solution()
    J, B = jacobians(problem.F, x, problem.p)
    if problem.spectrum is not None:
        np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(J)), np.sort_complex(problem.spectrum), atol=1e-8)
        assert x.size == 1 or not np.allclose(J, J.T)
    closed = jax.jacfwd(problem.x_star)(jnp.asarray(problem.p))
    np.testing.assert_allclose(np.linalg.solve(np.eye(x.size) - J, B), closed, rtol=1e-8)


def iterates(problem, steps):
    found = [problem.x0]
    F = jax.jit(problem.F)
    for _ in range(steps):
        found.append(np.asarray(F(found[-1], problem.p)))
    return found


@pytest.mark.parametrize("problem", [m for m in MAPS if m.family == "cycle"], ids=name)
def test_cycles(problem):
    before, x, after = iterates(problem, 1001)[-3:]
    np.testing.assert_allclose(before, after, rtol=1e-9)
    assert np.max(np.abs(x - before)) > 0.1


@pytest.mark.parametrize("problem", [m for m in MAPS if m.family == "domain"], ids=name)
def test_domains(problem):
    found = iterates(problem, 2)
    assert np.all(np.isfinite(found[1]))
    assert np.all(np.isnan(found[2]))


def test_units():
    for problem in (m for m in MAPS if m.family == "stiff units" and m.x0.size >= 10):
        size = np.abs(problem.solution())
        assert size.max() > 1e8 * size.min()
        assert np.max(size / problem.units) < 10
