"""A root of one unknown between two bounds at which R has different signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix


def steps(x, theta):
    """Sums of smooth steps, up and down, as steep as 1000: many a Newton step leads far away."""
    height, place, slope = theta
    return jnp.sum(height * jnp.tanh(slope * (x - place))) + 0.01 * x


def draw(seed, count):
    rng = np.random.default_rng(seed)
    theta = (
        rng.normal(size=(count, 4)),
        rng.uniform(-50, 50, (count, 4)),
        10 ** rng.uniform(-2, 3, (count, 4)),
    )
    return jnp.asarray(rng.uniform(-90, 90, count)), tuple(map(jnp.asarray, theta))


def test_a_change_of_sign_is_a_root_of_any_of_a_thousand():
    x0, theta = draw(11, 1000)
    solve = jax.jit(jax.vmap(lambda x0, theta: ix.root(steps, x0, theta, bounds=(-100.0, 100.0), throw=False)))
    sol = solve(x0, theta)
    ends = [jax.vmap(lambda theta, end=end: steps(end, theta))(theta) for end in (-100.0, 100.0)]
    changes = np.sign(ends[0]) * np.sign(ends[1]) < 0
    assert changes.sum() > 900
    assert np.asarray(sol.success)[changes].all()
    assert ((np.asarray(sol.x) > -100) & (np.asarray(sol.x) < 100)).all()
    assert np.median(np.asarray(sol.nfev)[changes]) < 20
    # Values by SciPy's bracketing would be other roots where there are several: what is checked is that R changes sign.
    low, high = (jax.vmap(steps)(sol.x * (1 + sign * 1e-9), theta) for sign in (-1, 1))
    assert (np.sign(low) != np.sign(high))[changes].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_values_and_gradients_in_any_unit(unit, dtype):
    unit = dtype(unit)

    def solve(a):
        R = lambda x: 1e3 * jnp.tanh(1e4 * (x / unit - a) / a)
        return ix.root(R, 0.9 * unit, bounds=(dtype(0), unit)).x

    tolerance = 100 * np.finfo(dtype).eps ** (2 / 3)
    np.testing.assert_allclose(solve(dtype(0.3)) / unit, 0.3, rtol=tolerance)
    for derivative in (jax.grad(solve), jax.jacfwd(solve)):
        np.testing.assert_allclose(derivative(dtype(0.3)) / unit, 1, rtol=tolerance)


CASES = {
    "infinite at an end": (lambda x: 1 / x - 4, 0.9, (0.0, 1.0), 0.25),
    "decades": (lambda x: jnp.log(x) + 200, 1.0, (0.0, 1e10), np.exp(-200)),
    "on both sides of 0": (lambda x: x**9 - 1e-3, -0.9, (-1.0, 1.0), 1e-3 ** (1 / 9)),
    "negative": (lambda x: jnp.arctan(1e3 * (x + 7e4)), -1.0, (-1e6, -1e-6), -7e4),
    "Newton cycles": (lambda x: x**3 - 2 * x + 2, 0.0, (-3.0, 3.0), -1.7692923542386314),
    "a guess outside the domain": (lambda x: jnp.log(x - 0.5) + 3, 0.2, (0.0, 1.0), 0.5 + np.exp(-3)),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    R, x0, bounds, wanted = CASES[name]
    sol = ix.root(R, x0, bounds=bounds, atol=0.0)
    assert float(sol.x) == pytest.approx(wanted, rel=1e-9)
    assert int(sol.nfev) <= 60


NONE = {
    "no change of sign": (lambda x: x**2 + 1, 0.5, (-3.0, 3.0)),
    "a pole": (lambda x: 1 / x, 0.5, (-1.0, 2.0)),
    "a jump": (lambda x: jnp.sign(x - 0.3) + 0.1 * x, 0.0, (-3.0, 3.0)),
    "NaN everywhere": (lambda x: jnp.log(-1 - x**2), 0.0, (-3.0, 3.0)),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_root_is_not_called_one(name):
    R, x0, bounds = NONE[name]
    sol = ix.root(R, x0, bounds=bounds, throw=False)
    assert not bool(sol.success)
    assert np.isnan(jax.grad(lambda a: ix.root(lambda x: R(x) * a, x0, bounds=bounds, throw=False).x)(1.0))
    assert bounds[0] < float(sol.x) < bounds[1]


def test_bounds_on_one_side_and_guesses_outside_are_as_before():
    assert float(ix.root(lambda x: x**2 - 2, 0.5, bounds=(0.0, None)).x) == pytest.approx(2**0.5)
    sol = ix.root(lambda x: x**2 - 2, 5.0, bounds=(0.0, 2.0), throw=False)
    assert (ix.Status(int(sol.status)).name, int(sol.nfev)) == ("GUESS_OUT_OF_BOUNDS", 0)


def test_counts_and_records():
    R = lambda x: jnp.tanh(1e4 * (x - 0.123))
    sol = ix.root(R, 0.9, bounds=(0.0, 1.0), history=True)
    assert sol.history is not None
    assert np.sum(np.asarray(sol.history.residual) >= 0) == int(sol.nfev) == int(sol.nit) + 1
    assert int(ix.root(R, 0.9, bounds=(0.0, 1.0), max_steps=3, throw=False).nfev) == 4
    none = lambda x: x**2 + 1
    assert int(ix.root(none, 0.9, bounds=(-1.0, 1.0), max_steps=30, throw=False).nfev) == 31
    shaped = ix.root(lambda x: {"p": R(x["p"]).reshape(1, 1)}, {"p": jnp.full((1, 1), 0.9)}, bounds=(0.0, {"p": 1.0}))
    assert float(shaped.x["p"][0, 0]) == pytest.approx(0.123)
