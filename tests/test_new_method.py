"""A new method is one file and one line. Here are three that the package has never seen: `init` and `step`, no more."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from implicitax import _linear, _tree
from implicitax._methods import AbstractMethod, Needs, Proposal


class Irons(AbstractMethod):
    """Aitken's relaxation for vectors (Irons and Tuck 1969, doi:10.1002/nme.1620010306), after two plain steps."""

    class State(NamedTuple):
        residual: tuple
        omega: jax.Array
        count: jax.Array

    def init(self, x, setting):
        dtype = _tree.work_dtype(x)
        return self.State(x, jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def step(self, at, state, tolerance):
        change = _tree.sub(at.residual, state.residual)
        size = _tree.dot(change, change)
        omega = -state.omega * _tree.dot(state.residual, change) / jnp.where(size > 0, size, 1)
        omega = jnp.where(state.count < 2, 1, jnp.clip(omega, -2, 2)).astype(size.dtype)
        following = self.State(at.residual, omega, state.count + 1)
        return Proposal(_tree.axpy(omega, at.residual, at.x), following)


class Chord(AbstractMethod):
    """Newton's method with the matrix of x0."""

    needs = Needs.MATRIX
    kinds = ("fixed_point", "root")

    def init(self, x, setting):
        n = _tree.size(x)
        return jnp.zeros((n, n), _tree.work_dtype(x)), jnp.zeros((), jnp.int32)

    def step(self, at, state, tolerance):
        kept, count = state
        A = jnp.where(count == 0, at.A, kept)
        d, _ = _linear.solve_dense(A, -_tree.ravel(at.residual), _linear.factoriser(A.shape[0]))
        return Proposal(_tree.axpy(1, _tree.unravel(d, at.x), at.x), (A, count + 1))


class TwoTerms(AbstractMethod):
    """x ← x + r + J r: two terms of the Neumann series of Newton's step, by a product with A = J − I."""

    needs = Needs.PRODUCT

    def init(self, x, setting):
        return ()

    def step(self, at, state, tolerance):
        r = at.residual
        Jr = _tree.axpy(1, at.A(r), r)
        return Proposal(_tree.axpy(1, Jr, _tree.axpy(1, r, at.x)), state)


METHODS = [Irons(), Chord(), TwoTerms()]
n = 6
rng = np.random.default_rng(0)
J = rng.normal(size=(n, n))
J *= 0.45 / np.linalg.norm(J, 2)
B, UNITS = rng.normal(size=(n, 3)), 10.0 ** rng.uniform(-2, 2, n)
THETA = np.array([0.3, -0.7, 1.1])  # of the precision of the test, which JAX does not know yet


def x_star(theta):
    return UNITS * (1.5 + jnp.sin(B @ theta))


def F(x, theta):
    """A map of which x_star is the fixed point; J is not symmetric."""
    v = (x - x_star(theta)) / UNITS
    return x_star(theta) + UNITS * (J @ jnp.tanh(v) + 0.05 * jnp.sin(theta[0]) * v**2)


def start(state="array"):
    x = jnp.asarray(UNITS)
    return x if state == "array" else {"a": x[:2], "b": (x[2:5], x[5])}


def on_dict(x, theta):
    y = F(jnp.concatenate([x["a"], x["b"][0], x["b"][1][None]]), theta)
    return {"a": y[:2], "b": (y[2:5], y[5])}


@pytest.fixture(params=METHODS, ids=lambda method: type(method).__name__)
def method(request):
    return request.param


def test_value_and_derivatives(method):
    @jax.jit
    def ours(theta, direction):
        solve = lambda theta: ix.fixed_point(F, start(), theta, solver=method, atol=1e-12).x
        x, x_dot = jax.jvp(solve, (theta,), (direction,))
        w = 1 / UNITS**2
        bar = lambda theta: jax.vjp(solve, theta)[1](w)[0]
        return x, x_dot, *jax.jvp(bar, (theta,), (direction,))

    @jax.jit
    def exact(theta, direction):
        x, x_dot = jax.jvp(x_star, (theta,), (direction,))
        bar = lambda theta: jax.vjp(x_star, theta)[1](1 / UNITS**2)[0]
        return x, x_dot, *jax.jvp(bar, (theta,), (direction,))

    theta, direction = jnp.asarray(THETA), jnp.array([1.0, 2.0, -0.5])
    for got, want in zip(ours(theta, direction), exact(theta, direction)):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_any_pytree_and_what_is_said(method):
    sol = ix.fixed_point(on_dict, start("dict"), THETA, solver=method)
    np.testing.assert_allclose(sol.x["b"][0], x_star(THETA)[2:5], rtol=1e-7)
    assert type(method).__name__ in sol.solver
    assert bool(sol.success)
    assert 3 < int(sol.nfev) == int(sol.nit) + 1


def test_lanes_rows_and_a_sweep(method):
    thetas = THETA + jnp.linspace(0, 0.5, 5)[:, None]
    solve = lambda theta: ix.fixed_point(F, start(), theta, solver=method).x
    want = jax.vmap(x_star)(thetas)
    np.testing.assert_allclose(jax.vmap(solve)(thetas), want, rtol=1e-7)
    np.testing.assert_allclose(ix.sweep(F, start(), thetas, solver=method, batch_size=2).x, want, rtol=1e-7)
    rows = lambda solver: ix.fixed_point(
        jax.vmap(F), jnp.broadcast_to(start(), (5, n)), thetas, solver=solver, batch_axis=0
    )
    if method.needs is Needs.PRODUCT:
        with pytest.raises(ValueError, match="expected a solver that works row by row"):
            rows(method)
    else:
        np.testing.assert_allclose(rows(method).x, want, rtol=1e-7)


def test_how_it_ends(method):
    """Stopping, limits, the best point and the verdict are the loop's."""
    short = ix.fixed_point(F, start(), THETA, solver=method, max_steps=2, throw=False)
    assert int(short.status) == ix.Status.STEP_LIMIT
    assert int(short.nit) == 2
    with pytest.raises(ix.ConvergenceError, match=rf"{type(method).__name__}\(\), iteration 2"):
        ix.fixed_point(F, start(), THETA, solver=method, max_steps=2)
    bad = ix.fixed_point(lambda x, theta: F(x, theta) + jnp.log(-x[0]), start(), THETA, solver=method, throw=False)
    assert int(bad.status) == ix.Status.NON_FINITE
    cycle = lambda x: jnp.where(x > 0, x - 1, x + 1)  # jumps across the diagonal
    lost = ix.fixed_point(cycle, jnp.full(2, 0.4), solver=method, throw=False)
    assert not bool(lost.success)
    of = lambda a: ix.fixed_point(lambda x, a: a * cycle(x), jnp.full(2, 0.4), a, solver=method, throw=False).x[0]
    assert np.isnan(jax.grad(of)(1.0))
    seen = ix.fixed_point(F, start(), THETA, solver=method, history=True).history
    assert seen is not None
    assert np.isfinite(np.asarray(seen.residual)[:4]).all()


def test_kinds():
    R = lambda x, theta: (F(x, theta) - x) * jnp.arange(1.0, n + 1)
    sol = ix.root(R, start(), THETA, solver=Chord())
    np.testing.assert_allclose(sol.x, x_star(THETA), rtol=1e-7)
    for method in (Irons(), TwoTerms()):
        with pytest.raises(ValueError, match=r"`root\(solver=...\)`: expected a solver for a root, got"):
            ix.root(R, start(), THETA, solver=method)


def test_bounds(method):
    sol = ix.fixed_point(F, start(), THETA, solver=method, bounds=(0.0, None))
    np.testing.assert_allclose(sol.x, x_star(THETA), rtol=1e-7)
