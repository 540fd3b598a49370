"""The families of `benchmarks.silent`: nothing wrong is said to be right, and its judge knows a liar."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.silent.families import FAMILIES, draw
from benchmarks.silent.judge import derivative, derivative_is_right, right

TOLERANCE = float(np.finfo(float).eps) ** (2 / 3)
COUNT = 60
ALL_RIGHT = {"smooth", "arbitrary units", "overflow", "small units: diodes", "stiff: reactors", "condition 1 to 10⁸"}


def solver_of(family):
    solve = ix.root if family.kind == "root" else ix.fixed_point
    return lambda x0, p: solve(lambda x, p: family.f(jnp, x, p), x0, p, throw=False)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_nothing_wrong_is_said_to_be_right(family):
    x0, p = draw(family, family.sizes[0], float, COUNT, seed=5)
    sol = jax.jit(jax.vmap(solver_of(family)))(x0, p)
    with np.errstate(all="ignore"):
        good, success = right(family, sol.x, x0, p, TOLERANCE), np.asarray(sol.success)
    assert not np.any(success & ~good)
    assert family.name not in ALL_RIGHT or np.all(success)


@pytest.mark.parametrize("name", ["smooth", "singular", "conserved totals", "contractions"])
def test_nor_is_a_derivative(name):
    (family,) = (family for family in FAMILIES if family.name == name)
    x0, p = draw(family, family.sizes[0], float, COUNT, seed=5)
    direction = {key: np.random.default_rng(1).normal(size=value.shape) for key, value in p.items()}
    solve = solver_of(family)

    def along(t, x0, p, direction):
        return solve(x0, {key: p[key] + t * direction[key] for key in p}).x

    x = jax.jit(jax.vmap(along, (None, 0, 0, 0)))(0.0, x0, p, direction)
    want = derivative(family, x, p, direction, TOLERANCE)
    for mode in (jax.jacfwd, jax.jacrev):
        got = np.asarray(jax.jit(jax.vmap(mode(along), (None, 0, 0, 0)))(0.0, x0, p, direction))
        told = np.isfinite(got).all(-1)
        assert not np.any(told & ~derivative_is_right(family, got, want, x0, p, TOLERANCE))
        assert told.any() != family.singular
        assert not np.any(derivative_is_right(family, got + 0.01, want, x0, p, TOLERANCE))


def test_the_judge_knows_a_liar():
    for family in FAMILIES:
        x0, p = draw(family, family.sizes[0], float, COUNT, seed=5)
        with np.errstate(all="ignore"):
            assert np.mean(right(family, x0 + 0.01, x0, p, TOLERANCE)) < 0.05
