"""Roots of more equations than unknowns: steps of Gauss and Newton, all equations looked at, the pseudo-inverse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix


class Fit:
    """Equations `model(x, a) = y`, of which x has a unit of its own; y is made at a known x."""

    def __init__(self, seed, m=7, n=3, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.units = np.full(n, 10.0 ** rng.integers(-3, 4), dtype)
        self.W = (rng.normal(size=(m, n)) / self.units).astype(dtype)
        self.x = (rng.normal(size=n) * self.units).astype(dtype)
        self.x0 = (self.x + 0.3 * rng.normal(size=n) * self.units).astype(dtype)
        self.y = np.asarray(self.model(self.x, dtype(1.3)))

    def model(self, x, a):
        z = jnp.asarray(self.W) @ x
        return a * jnp.exp(z / 4) + z**3

    def R(self, x, a, y):
        return self.model(x, a) - y

    def solve(self, a, y, **keywords):
        return ix.root(self.R, jnp.asarray(self.x0), a, y, **keywords)

    def along(self, q):
        """The root where the parameters move together, so that the equations agree at all: x(q) = q x."""
        return ix.root(lambda x: self.model(x, q**2) - self.model(q * self.x, q**2), jnp.asarray(self.x0)).x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 1), (7, 3), (12, 9)])
def test_the_root_and_the_pseudo_inverse(shape, dtype):
    for seed in range(3):
        fit = Fit(seed, *shape, dtype=dtype)
        y = jnp.asarray(fit.y)
        sol = jax.jit(fit.solve)(dtype(1.3), y)
        np.testing.assert_allclose(sol.x / fit.units, fit.x / fit.units, atol=np.finfo(dtype).eps ** 0.6)
        A = np.asarray(jax.jacfwd(fit.model)(jnp.asarray(fit.x), dtype(1.3)), np.float64)
        wanted = np.linalg.pinv(A / np.linalg.norm(A, axis=0)) / np.linalg.norm(A, axis=0)[:, None]
        for transform in (jax.jacfwd, jax.jacrev):
            by_data = transform(lambda y, fit=fit: fit.solve(dtype(1.3), y).x)(y)
            error = np.abs(by_data - wanted) / np.abs(wanted).max(axis=1, keepdims=True)
            assert error.max() < np.finfo(dtype).eps ** 0.4


def test_derivatives_along_which_the_equations_agree():
    fit = Fit(5)
    q = 1.1
    np.testing.assert_allclose(fit.along(q), q * fit.x, rtol=1e-10)
    np.testing.assert_allclose(jax.jacfwd(fit.along)(q), fit.x, rtol=1e-9)
    np.testing.assert_allclose(jax.jacrev(fit.along)(q), fit.x, rtol=1e-9)
    for second in (jax.hessian(fit.along), jax.jacrev(jax.jacfwd(fit.along)), jax.jacfwd(jax.jacrev(fit.along))):
        np.testing.assert_allclose(second(q), 0, atol=1e-8 * np.abs(fit.x).max())
    curved = jax.hessian(lambda s: fit.along(s**3))(q)
    np.testing.assert_allclose(curved, 6 * q * fit.x, rtol=1e-8)


@pytest.mark.parametrize(
    "second", [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacfwd(jax.jacrev(f))]
)
def test_no_second_derivative_where_they_do_not(second):
    fit = Fit(5)
    y = jnp.asarray(fit.y)
    with pytest.raises(ix.ConvergenceError, match="agree at these parameters, but not at all next to them"):
        second(lambda y: fit.solve(1.3, y).x[0])(y)
    assert np.isnan(second(lambda y: fit.solve(1.3, y, throw=False).x[0])(y)).all()


def test_equations_that_contradict_are_no_root():
    fit = Fit(2)
    y = jnp.asarray(fit.y).at[0].add(0.1)
    sol = fit.solve(1.3, y, throw=False)
    assert ix.Status(int(sol.status)) == ix.Status.CONTRADICTION
    assert float(sol.residual) == pytest.approx(np.abs(fit.R(sol.x, 1.3, y)).max())
    assert "7 equations for 3 unknowns" in sol.message
    assert np.isnan(jax.grad(lambda a: fit.solve(a, y, throw=False).x[0])(1.3))
    # To as many digits as the tolerance has they may.
    assert bool(fit.solve(1.3, y - jnp.zeros(7).at[0].set(0.1 - 1e-13)).success)


def test_lanes_and_pytrees_and_aux():
    fit = Fit(4)
    a = jnp.array([1.3, 1.4])
    y = jnp.stack([fit.model(fit.x, ai) for ai in a])

    def R(x, a, y):
        residual = fit.R(jnp.stack([x["p"], *x["q"]]), a, y)
        return (residual[0], {"rest": residual[1:]}), jnp.sum(residual[2:])

    def solve(a, y):
        x0 = {"p": fit.x0[0], "q": jnp.asarray(fit.x0[1:])}
        return ix.root(R, x0, a, y, has_aux=True)

    sol = jax.vmap(solve)(a, y)
    np.testing.assert_allclose(jnp.concatenate([sol.x["p"][:, None], sol.x["q"]], 1), [fit.x] * 2, rtol=1e-9)
    np.testing.assert_allclose(sol.aux, 0, atol=1e-9)
    # The derivative of aux by the data, which ∂x/∂y and y itself enter.
    A = np.asarray(jax.jacfwd(fit.model)(jnp.asarray(fit.x), 1.3))
    wanted = (A @ np.linalg.solve(A.T @ A, A.T) - np.eye(7))[2:].sum(axis=0)
    np.testing.assert_allclose(jax.grad(lambda y: solve(1.3, y).aux)(y[0]), wanted, atol=1e-7)


def test_a_number_and_many_data():
    sol = ix.root(lambda x, d: x * d - 2 * d, 1.0, jnp.arange(1.0, 5.0))
    assert float(sol.x) == pytest.approx(2)


def test_unknowns_that_all_equations_leave_undetermined():
    sol = ix.root(lambda x: jnp.stack([1.0, 2.0, 3.0]) * (x[0] + x[1] - 2), jnp.ones(2) * 0.3, throw=False)
    assert not bool(sol.success)


def test_what_is_not_meant():
    y = jnp.arange(3.0)
    with pytest.raises(
        ValueError, match=r"one residual for each of the 3 unknowns, or a vector of more, got float64\[3,3\]"
    ):
        ix.root(lambda x: x - y[:, None], jnp.ones(3))
    with pytest.raises(TypeError, match=r"expected floating-point numbers, got bool\[4\]"):
        ix.root(lambda x: jnp.append(x, 1.0) == 0, jnp.ones(3))
    unfit: list[dict[str, Any]] = [{"batch_axis": 0}, {"residual_atol": 0.1}]
    for keyword in unfit:
        with pytest.raises(ValueError, match=f"{next(iter(keyword))}=.*4 equations for 3 unknowns"):
            ix.root(lambda x: jnp.append(x, x.sum()), jnp.ones(3), **keyword)
    with pytest.raises(ValueError, match="structure of x0"):  # of as many, in other containers
        ix.root(lambda x: [x], jnp.ones(3))
