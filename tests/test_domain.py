"""A guess outside the domain of F: points around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import implicitax as ix


def above(x, a):
    """Defined above a only; the fixed point is a + 4."""
    return a + 8 / jnp.sqrt(x - a)


def wide(x, a):
    """The same, with a ring of neighbours."""
    return a + 8 / jnp.sqrt(x - a) + 0.1 * (jnp.roll(x, 1, axis=-1) - x)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("n", [1, 6, 40])
@pytest.mark.parametrize("at", [-3.0, 0.0, 0.5, 1.0])
def test_the_domain_lies_above(n, at, unit):
    F = lambda x, a: unit * wide(x / unit, a)
    if at == 0:
        F = lambda x, a: wide(x, a)  # a guess of 0 has no unit
    sol = jax.jit(lambda x0, a: ix.fixed_point(F, x0, a, throw=False))(at * unit * jnp.ones(n), 3.0)
    assert bool(sol.success), sol.message
    np.testing.assert_allclose(sol.x, 7 * (unit if at else 1) * np.ones(n), rtol=1e-9)


@pytest.mark.parametrize("n", [1, 30, 1200])
def test_a_root(n):
    R = lambda x, a: jnp.log(x - a) - 1 + 0.1 * (jnp.roll(x, 1) - x)
    solve = lambda a: ix.root(R, jnp.full(n, 0.2), a)
    sol = jax.jit(solve)(1.5)
    np.testing.assert_allclose(sol.x, 1.5 + np.e, rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(lambda a: solve(a).x)(1.5), 1, rtol=1e-8)


def test_the_derivative_is_that_of_the_solution():
    solve = lambda a: ix.fixed_point(above, 1.0, a).x
    check_grads(solve, (3.0,), 2, modes=["fwd", "rev"], eps=1e-3)
    np.testing.assert_allclose(jax.grad(solve)(3.0), 1, rtol=1e-9)


def test_a_lane_that_begins_outside_leaves_the_others_as_they_are():
    a = jnp.array([-1.0, 0.5, 3.0, 40.0])
    sol = jax.jit(jax.vmap(lambda a: ix.fixed_point(above, 1.0, a, throw=False)))(a)
    np.testing.assert_allclose(sol.x, a + 4, rtol=1e-9)
    alone = ix.fixed_point(above, 1.0, a[1])
    np.testing.assert_array_equal(sol.nfev[1], alone.nfev)
    np.testing.assert_array_equal(sol.x[1], alone.x)
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda a: ix.fixed_point(above, 1.0, a).x))(a), 1, rtol=1e-9)


def test_rows_of_a_batch():
    a = jnp.array([-1.0, 0.5, 3.0, 40.0])[:, None]
    sol = ix.fixed_point(wide, jnp.ones((4, 12)), a, batch_axis=0)
    np.testing.assert_allclose(sol.x, a + 4 + np.zeros((4, 12)), rtol=1e-9)


def test_within_bounds():
    sol = ix.fixed_point(above, 1.0, 3.0, bounds=(0.0, 8.0))
    assert float(sol.x) == pytest.approx(7)
    # Points around x0 are inside the bounds, of which a larger one would have been in the domain.
    seen = []

    def F(x, a):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return above(x, a)

    sol = ix.fixed_point(F, 1.0, 3.0, bounds=(0.5, 2.5), throw=False)
    jax.effects_barrier()
    assert not bool(sol.success)
    assert 0.5 < min(seen) < 1 < max(seen) < 2.5


def test_what_is_counted_and_said():
    nowhere = lambda x: jnp.stack([x[0], jnp.log(-1 - x[1] ** 2)])
    sol = ix.fixed_point(nowhere, jnp.ones(2), throw=False, history=True)
    assert (ix.Status(int(sol.status)).name, int(sol.nit), int(sol.nfev)) == ("NON_FINITE", 0, 17)
    assert "F is finite neither at x0 nor at 16 points around it" in sol.message
    assert "first in the component of x0[1]" in sol.message
    found = ix.fixed_point(above, 1.0, 3.0, history=True)
    assert found.history is not None
    outside = int(np.sum(np.isinf(np.asarray(found.history.error))[: int(found.nfev)]))
    assert outside > 0
    assert int(found.nit) == int(found.nfev) - 1 - outside
    short = ix.fixed_point(above, 1.0, 3.0, max_steps=3, throw=False)
    assert int(short.nfev) <= 4


def test_a_solver_that_is_named_begins_at_x0():
    for solver in (ix.Picard(), ix.Anderson(), ix.PseudoTransient(), ix.Newton()):
        sol = ix.fixed_point(above, 1.0, 3.0, solver=solver, throw=False)
        assert ix.Status(int(sol.status)).name == "NON_FINITE"
        assert "F is not finite at x0: start inside" in sol.message
