"""The default solves what simpler methods solve: batches that are not normal, slow maps, large roots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems.batches import FAMILIES, Batch, step

RTOL = 1e-9
PLAIN, STEPS = (0.1, 0.3, 1.0), 3000  # dampings of plain iteration, and how long it may take


@functools.cache
def solver_of(damping: float | None = None):
    """Compiled once for all families of the same size."""
    keywords = {} if damping is None else {"solver": ix.Picard(damping), "max_steps": STEPS}
    return jax.jit(lambda p: ix.fixed_point(step, p.x0, p, batch_axis=0, rtol=RTOL, throw=False, **keywords))


def error(x, p: Batch):
    """From x*, in units, the largest of each row."""
    return np.max(np.abs(np.concatenate(x, axis=1) - p.star) / p.unit, axis=1)


@pytest.mark.parametrize("coupling", [0.0, 0.02])
@pytest.mark.parametrize("name", ["not normal", "kinks, not normal", "far", "canopy"])
def test_no_row_is_lost_that_plain_iteration_solves(name, coupling):
    family = FAMILIES[name]._replace(coupling=coupling)
    for seed in (100, 101):
        p = family.draw(seed)
        sol, others = solver_of()(p), [solver_of(damping)(p) for damping in PLAIN]
        success = np.asarray(sol.success)
        solved = np.any([other.success for other in others], axis=0)
        assert solved.sum() > family.rows // 5
        assert np.all(success[solved])
        # By the map itself, not by what the solver says.
        residual = [np.abs(a - b) for a, b in zip(step(sol.x, p), sol.x)]
        allowed = [RTOL * (np.abs(leaf).max(1, keepdims=True) + np.abs(leaf)) for leaf in sol.x]
        assert all(np.all((r <= 1.001 * t)[success]) for r, t in zip(residual, allowed))
        fewest = np.min([np.where(other.success, other.nfev, STEPS) for other in others], axis=0)
        assert 3 * np.median(np.asarray(sol.nfev)[solved]) < np.median(fewest[solved])
        if name == "canopy":
            assert success.all()
            assert sol.nfev.max() <= 90


def test_the_gradient_of_such_a_batch():
    """∂x*/∂x* = I, whatever the kinks, the units and the coupling, of rows that end at x*."""
    p = FAMILIES["canopy"].draw(102)
    sol = solver_of()(p)
    there = np.asarray(sol.success) & (error(sol.x, p) < 1e-5)
    assert there.mean() > 0.9
    w = np.random.default_rng(0).normal(size=p.star.shape) / p.unit * there[:, None]

    def loss(star):
        x = ix.fixed_point(step, p.x0, p._replace(star=star), batch_axis=0, rtol=RTOL, throw=False).x
        return jnp.sum(w * jnp.concatenate(x, axis=1))

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(p.star))
    np.testing.assert_allclose((gradient * p.unit)[there], (w * p.unit)[there], rtol=0, atol=1e-5)


def test_a_row_without_a_solution_beside_others():
    """F jumps across it: it is reported, and the others are solved for little more than without it."""
    p = FAMILIES["canopy"].draw(103)

    def jumps(x, p):
        first, *rest = step(x, p)
        jump = jnp.where(x[0][0, 0] >= p.star[0, 0], -1.0, 1.0) * p.unit[0]
        return (first.at[0, 0].set(p.star[0, 0] + jump), *rest)

    solve = jax.jit(lambda p: ix.fixed_point(jumps, p.x0, p, batch_axis=0, rtol=RTOL, throw=False))
    sol, without = solve(p), solver_of()(p)
    assert int(sol.status[0]) == ix.Status.STALLED
    assert np.all(sol.success[1:])
    assert np.median(sol.nfev[1:]) < 3 * np.median(without.nfev[1:])


def walk(D, up):
    """One step of a reflecting random walk, of which the stationary distribution is geometric."""
    new = up * jnp.concatenate([jnp.zeros(1), D[:-1]]) + (1 - up) * jnp.concatenate([D[1:], jnp.zeros(1)])
    new = new.at[-1].add(up * D[-1]).at[0].add((1 - up) * D[0])
    return new / new.sum()


def stationary(n, up):
    ratio = (up / (1 - up)) ** jnp.arange(n)
    return ratio / ratio.sum()


@pytest.mark.parametrize(("n", "up"), [(60, 0.47), (300, 0.45), (299, 0.42)])
def test_a_stationary_distribution(n, up):
    """Plain iteration takes thousands of steps, accelerated it stalls: Newton's steps end it, and a phase from x0 is
    judged by its own start."""
    sol = ix.fixed_point(walk, jnp.full(n, 1 / n), up)
    np.testing.assert_allclose(sol.x, stationary(n, up), rtol=0, atol=1e-7)
    slope = jax.jacrev(lambda up: ix.fixed_point(walk, jnp.full(n, 1 / n), up).x)(up)
    np.testing.assert_allclose(slope, jax.jacfwd(lambda up: stationary(n, up))(up), rtol=0, atol=1e-6)


def test_what_goes_on_where_the_method_stalls_is_one_solve():
    """Counted and recorded as one, within `max_steps`, and lane by lane."""
    x0 = jnp.full(60, 1 / 60)
    sol = ix.fixed_point(walk, x0, 0.47, history=True)
    entries = np.asarray(sol.history.residual)
    assert int(sol.nit) == int(sol.nfev) - 1
    every = int(sol.history.every)
    assert np.sum(entries >= 0) == -(-int(sol.nfev) // every)
    for allowed in (60, 200):
        short = ix.fixed_point(walk, x0, 0.47, max_steps=allowed, throw=False)
        assert not bool(short.success)
        assert int(short.nfev) <= allowed + 1

    # Where the method stalls at the last step that is allowed, nothing goes on.
    stuck = ix.fixed_point(lambda x: x + 1, jnp.zeros(20), max_steps=60, throw=False, history=True)
    assert (ix.Status(int(stuck.status)).name, int(stuck.nit)) == ("STALLED", 60)

    ups = jnp.array([0.1, 0.47, 0.3])
    lanes = jax.vmap(lambda up: ix.fixed_point(walk, x0, up, throw=False))(ups)
    assert np.all(lanes.success)
    for x, up in zip(lanes.x, ups):
        np.testing.assert_allclose(x, stationary(60, up), rtol=0, atol=1e-7)
    for nfev, up in zip(lanes.nfev, ups):
        assert int(nfev) == int(ix.fixed_point(walk, x0, up).nfev)


@pytest.mark.parametrize("n", [1, 5, 1000, 1001])
def test_a_root_where_the_derivative_at_the_guess_is_0(n):
    """On either side of each size at which `Auto` chooses something else. A first step without end says nothing of the
    size of x."""
    sol = ix.root(lambda u, p: u**2 - p, jnp.zeros(n), 2.0)
    np.testing.assert_allclose(sol.x**2, 2, rtol=1e-9)
    slope = jax.jacfwd(lambda p: ix.root(lambda u, p: u**2 - p, jnp.zeros(n), p).x)(2.0)
    np.testing.assert_allclose(slope, 1 / (2 * sol.x), rtol=1e-7)


def test_newton_krylov_where_the_rows_of_A_change_by_orders():
    """The rows are scaled as A is at the point, not as it was at the first."""
    u0 = 10.0 ** np.random.default_rng(0).uniform(-3, 0, 500)
    sol = ix.root(lambda u: u**2 - 2, jnp.asarray(u0), solver=ix.NewtonKrylov())
    np.testing.assert_allclose(sol.x, 2**0.5, rtol=1e-9)


def test_newton_krylov_begins_elsewhere():
    R = lambda u: u**2 - jnp.linspace(1, 2, 50)
    stuck = ix.root(R, jnp.zeros(50), solver=ix.NewtonKrylov(), throw=False)
    assert not bool(stuck.success)
    np.testing.assert_allclose(ix.root(R, jnp.zeros(50), solver=ix.NewtonKrylov(starts=4)).x ** 2, R(0) * -1, rtol=1e-9)
