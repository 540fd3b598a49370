"""The preconditioner of `NewtonKrylov`, in its steps and in the derivative, which fails without it."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix

N = 1200
DECADES = np.random.default_rng(0).uniform(-1, 1, N)
DENSE = {"sparsity": "dense"}  # which is what a pattern that fills in too much is treated as


def units(dtype):
    """Of the equations, for which Krylov methods have no remedy; in float32 they are not so far apart."""
    return jnp.asarray(10 ** (DECADES * (3 if dtype == jnp.float64 else 1)), dtype)


def blown(u, theta):
    """Transport and diffusion on a line, and a reaction."""
    a, b = theta
    v = jnp.pad(u, 1)
    inner = a * (v[:-2] - 2.3 * u + 1.2 * v[2:]) - b * u**3 + jnp.sin(jnp.arange(N, dtype=u.dtype))
    return units(u.dtype) * inner


class Line(eqx.Module):
    """The inverse of the tridiagonal A of one a and b, at the x of the moment."""

    coefficients: jax.Array

    def __call__(self, x, v):
        a, b = self.coefficients.astype(x.dtype)
        below, above = jnp.full(N, a).at[0].set(0), jnp.full(N, 1.2 * a).at[-1].set(0)
        right = (v / units(v.dtype))[:, None]
        return jax.lax.linalg.tridiagonal_solve(below, -2.3 * a - 3 * b * x**2, above, right)[:, 0]


def outcome(theta, dtype=jnp.float64, **keywords):
    weights = jnp.cos(jnp.arange(N, dtype=dtype))
    return weights @ ix.root(blown, jnp.zeros(N, dtype), theta, **keywords).x


THETA = (1.1, 0.9)
near = ix.NewtonKrylov(Line(jnp.array([1.0, 1.0])))


@pytest.fixture(scope="module")
def preconditioned():
    return jax.jit(jax.value_and_grad(partial(outcome, solver=near, **DENSE)))


def test_the_derivative_takes_it(preconditioned):
    value, slope = preconditioned(THETA)
    wanted, right = jax.value_and_grad(outcome)(THETA)
    np.testing.assert_allclose(value, wanted, rtol=1e-9)
    np.testing.assert_allclose(slope, right, rtol=1e-8)
    along = jax.jvp(partial(outcome, solver=near, **DENSE), (THETA,), ((1.0, -2.0),))[1]
    np.testing.assert_allclose(along, right[0] - 2 * right[1], rtol=1e-8)
    moved = [outcome((THETA[0] + h, THETA[1])) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope[0], (moved[0] - moved[1]) / 2e-5, rtol=1e-6)


def test_lanes_and_second_derivatives(preconditioned):
    a = jnp.array([1.0, 1.2])
    found = jax.vmap(preconditioned)((a, 0.9 * jnp.ones(2)))[1]
    along = lambda of: jax.jacfwd(jax.grad(lambda s: of((THETA[0] * s, THETA[1]))))(1.0)
    for i in range(2):
        np.testing.assert_allclose([leaf[i] for leaf in found], jax.grad(outcome)((a[i], 0.9)), rtol=1e-8)
    np.testing.assert_allclose(along(partial(outcome, solver=near, **DENSE)), along(outcome), rtol=1e-7)


def test_float32():
    theta = tuple(jnp.float32(leaf) for leaf in THETA)
    found = jax.grad(partial(outcome, dtype=jnp.float32, solver=near, **DENSE))(theta)
    assert found[0].dtype == jnp.float32
    np.testing.assert_allclose(found, jax.grad(outcome)(THETA), rtol=1e-3)


def test_without_it_the_derivative_fails_and_says_what_helps():
    with pytest.raises(ix.ConvergenceError, match=r"a preconditioner, by `solver=ix.NewtonKrylov\(preconditioner\)`"):
        jax.grad(partial(outcome, solver=ix.NewtonKrylov(), **DENSE))(THETA)


def test_one_that_has_no_transpose_serves_where_it_can():
    inverse = Line(jnp.array([1.0, 1.0]))

    def one_way(x, v):
        return jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, inverse(x, s[1])), (0, v))[1]

    of = partial(outcome, solver=ix.NewtonKrylov(one_way), throw=False, **DENSE)
    wanted = jax.grad(outcome)(THETA)
    np.testing.assert_allclose(jax.jvp(of, (THETA,), ((1.0, 0.0),))[1], wanted[0], rtol=1e-8)
    slope = jax.grad(of)(THETA)[0]
    assert np.isnan(slope) or abs(slope / wanted[0] - 1) < 1e-7


def test_a_bad_one_is_not_called_missing():
    useless = ix.NewtonKrylov(lambda x, v: v[::-1])
    with pytest.raises(ix.ConvergenceError, match="a better preconditioner"):
        ix.root(blown, jnp.zeros(N), THETA, solver=useless, **DENSE)


def test_what_it_is_called():
    sol = ix.root(blown, jnp.zeros(N), THETA, solver=near, **DENSE)
    assert sol.linear_solver.endswith("preconditioner=Line)")
