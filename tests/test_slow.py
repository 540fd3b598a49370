"""Slow and piecewise maps, drawn at random: what the default finds, and its derivative, beside other answers."""

import functools

import jax
import numpy as np
import pytest

import implicitax as ix
from problems import piecewise, slow

FAMILIES = {**slow.FAMILIES, **piecewise.FAMILIES}
SEED = 11
RTOL = 1e-11


def along(F, of, x0, theta, direction):
    """The solve, and its derivative along a direction of one array of θ."""

    def solve(array):
        sol = ix.fixed_point(F, x0, theta._replace(**{of: array}), rtol=RTOL, throw=False)
        return sol.x, sol.success

    return jax.jvp(solve, (getattr(theta, of),), (direction,), has_aux=True)


compiled = functools.cache(lambda F, of: jax.jit(functools.partial(along, F, of)))


# Of those that differ in one number, the hardest: what takes time is to compile them.
OTHERS = [name for name in FAMILIES if ", 0." in name and name not in ("programme, near, 0.9999", "Sinkhorn, 0.01")]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in (*OTHERS, "walk")])
def test_value_and_derivative(name):
    case = FAMILIES[name](SEED)
    direction = case.direction()
    x, slope, success = compiled(case.F, case.of)(case.x0, case.theta, direction)
    assert bool(success)
    wanted, wanted_slope = case.solution(case.theta), case.slope(direction)
    np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-6 * np.max(np.abs(wanted)))
    np.testing.assert_allclose(slope, wanted_slope, rtol=0, atol=1e-5 * np.max(np.abs(wanted_slope)))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answers_from_elsewhere_are_fixed_points(name):
    case = FAMILIES[name](SEED)
    x = case.solution(case.theta)
    np.testing.assert_allclose(case.F(x, case.theta), x, rtol=0, atol=1e-12 * np.max(np.abs(x)))
    # And far from the guess, and not all the same: a solver that returned either would not pass.
    assert np.max(np.abs(x - case.x0)) > 0.1 * np.max(np.abs(x))
    assert np.ptp(x) > 1e-4 * np.max(np.abs(x))
