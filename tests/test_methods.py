"""The methods: what each finds, what it costs, how it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix
from problems import X0, X_STAR, reference, unrolled

FIXED_POINT = [ix.Picard(0.4), ix.Anderson(), ix.Newton(), ix.PseudoTransient(), ix.Auto()]


def linear(eigenvalues, seed=0):
    """F(x) = J x + b, J with the given eigenvalues (2×2 blocks for complex pairs) in a random basis; and x*."""
    rng = np.random.default_rng(seed)
    blocks = [
        np.array([[e.real, e.imag], [-e.imag, e.real]]) if np.iscomplex(e) else np.array([[np.real(e)]])
        for e in eigenvalues
    ]
    n = sum(block.shape[0] for block in blocks)
    D, i = np.zeros((n, n)), 0
    for block in blocks:
        D[i : i + len(block), i : i + len(block)] = block
        i += len(block)
    basis = np.eye(n) + 0.3 * rng.normal(size=(n, n)) / np.sqrt(n)
    J, b = basis @ D @ np.linalg.inv(basis), rng.normal(size=n)
    return (lambda x: J @ x + b), np.linalg.solve(np.eye(n) - J, b)


@pytest.mark.parametrize("solver", FIXED_POINT, ids=str)
@pytest.mark.parametrize(
    "eigenvalues",
    [(0.9, -0.5, 0.3), (-1.5, 0.5), (-3.0, -2.0, 0.2, 0.9), (0.4 + 1.2j, 0.1), tuple(np.linspace(-0.9, 0.9, 12))],
    ids=str,
)
def test_linear_maps(solver, eigenvalues):
    F, x_star = linear(eigenvalues)
    sol = ix.fixed_point(F, jnp.zeros_like(x_star), solver=solver)
    np.testing.assert_allclose(sol.x, x_star, rtol=0, atol=1e-7)


def test_anderson_is_much_faster_than_picard():
    F, x_star = linear(tuple(np.linspace(-0.9, 0.99, 40)))
    fast = ix.fixed_point(F, jnp.zeros(40), solver=ix.Anderson(memory=10), atol=3.7e-11)
    slow = ix.fixed_point(F, jnp.zeros(40), solver=ix.Picard(), atol=3.7e-11)
    assert 5 * int(fast.nfev) < int(slow.nfev)
    np.testing.assert_allclose(fast.x, x_star, rtol=0, atol=1e-7)


def test_anderson_with_mixed_units():
    """The same problem in other units takes the same path."""
    F, x_star = linear(tuple(np.linspace(-2.0, 0.9, 20)), seed=1)
    units = 10.0 ** np.random.default_rng(2).uniform(-5, 5, 20)
    plain = ix.fixed_point(F, jnp.asarray(x_star + 1), rtol=1e-9, atol=0)
    scaled = ix.fixed_point(lambda y: units * F(y / units), jnp.asarray(units * (x_star + 1)), rtol=1e-9, atol=0)
    np.testing.assert_allclose(scaled.x / units, x_star, rtol=0, atol=1e-6)
    assert abs(int(plain.nfev) - int(scaled.nfev)) <= 5


@pytest.mark.parametrize("x0", [-2.0, -0.6, -0.2, 0.2, 0.6, 2.0])
@pytest.mark.parametrize("gain", [1.5, 3.0, 8.0])
def test_auto_finds_what_plain_iteration_finds(x0, gain):
    """tanh has two stable fixed points and between them an unstable one, to which Newton's method is drawn."""
    F = lambda x: jnp.tanh(gain * x) + 0.05
    expected = unrolled(F, jnp.asarray(x0), 2000)
    assert float(ix.fixed_point(F, x0).x) == pytest.approx(float(expected), abs=1e-9)


def test_auto_on_random_bistable_maps():
    """Of 500 random maps x ← tanh(W x + b) of 3 unknowns with several fixed points, it ends where Picard does."""

    def both(W, b, x0):
        F = lambda x: jnp.tanh(W @ x + b)
        picard = ix.fixed_point(F, x0, solver=ix.Picard(), throw=False)
        auto = ix.fixed_point(F, x0, throw=False)
        return picard.success, auto.success, jnp.max(jnp.abs(picard.x - auto.x)) < 1e-6, picard.nfev, auto.nfev

    rng = np.random.default_rng(0)
    W, b, x0 = rng.normal(size=(500, 3, 3)) * 1.5, 0.3 * rng.normal(size=(500, 3)), rng.normal(size=(500, 3))
    picard, auto, same, nfev_picard, nfev_auto = jax.vmap(both)(W, b, x0)
    picard, auto, same = map(np.asarray, (picard, auto, same))
    assert picard.sum() > 100
    assert np.mean(auto[picard]) == 1.0
    assert np.mean(same[picard]) >= 0.97
    assert np.mean(auto) > 0.95  # every one has a fixed point, by Brouwer
    assert np.sum(np.asarray(nfev_auto)[picard]) < np.sum(np.asarray(nfev_picard)[picard])


@pytest.mark.parametrize("solver", [ix.Anderson(), ix.Newton(), ix.PseudoTransient(), ix.Auto()], ids=str)
def test_kinks(solver):
    F = lambda x: jnp.clip(1.5 - 2.5 * x, -1, 1) + jnp.where(x > 0.2, 0.3 * x, 0.1)
    x = ix.fixed_point(F, jnp.asarray(0.9), solver=solver).x
    assert float(F(x) - x) == pytest.approx(0, abs=1e-9)


def test_statuses():
    cycle = ix.fixed_point(lambda x: 1 - x, 0.2, solver=ix.Picard(), throw=False)
    assert int(cycle.status) == ix.Status.NO_PROGRESS
    assert "no point was better" in cycle.message
    limit = ix.fixed_point(jnp.cos, 1.0, solver=ix.Picard(), max_steps=3, throw=False)
    assert (int(limit.status), int(limit.nit), int(limit.nfev)) == (ix.Status.STEP_LIMIT, 3, 4)
    diverges = ix.fixed_point(lambda x: 2 * x + 1, 1.0, solver=ix.Picard(), throw=False)
    assert int(diverges.status) in (ix.Status.NO_PROGRESS, ix.Status.NON_FINITE)
    assert float(diverges.x) == 1.0  # the best seen
    jump = ix.fixed_point(lambda x: jnp.where(x > 0.5, 0.0, 1.0) + 0 * x, 0.2, throw=False)
    assert int(jump.status) != 0
    singular = ix.root(lambda x: jnp.stack([x[0] + x[1] - 1, 2 * x[0] + 2 * x[1] - 3]), jnp.zeros(2), throw=False)
    assert int(singular.status) == ix.Status.SINGULAR
    minimum = ix.root(lambda x: x**2 + 1, 0.7, throw=False)
    assert int(minimum.status) < 0
    for sol in (cycle, limit, diverges, jump, singular, minimum):
        assert not bool(sol.success)
        assert ix.Status(int(sol.status)).text in sol.message
    assert all(status.text for status in ix.Status)


@pytest.mark.parametrize("solver", FIXED_POINT, ids=str)
def test_max_steps_0_and_1_and_x0_a_solution(solver):
    none = ix.fixed_point(reference, X0, 10.0, 3.0, solver=solver, max_steps=0, throw=False)
    assert (int(none.status), int(none.nit), int(none.nfev)) == (ix.Status.STEP_LIMIT, 0, 1)
    np.testing.assert_array_equal(none.x, X0)
    one = ix.fixed_point(reference, X0, 10.0, 3.0, solver=solver, max_steps=1, throw=False)
    assert (int(one.nit), int(one.nfev)) == (1, 2)
    done = ix.fixed_point(reference, X_STAR, 10.0, 3.0, solver=solver, max_steps=0)
    assert (int(done.nit), int(done.nfev)) == (0, 1)
    np.testing.assert_array_equal(done.x, X_STAR)


@pytest.mark.parametrize("solver", FIXED_POINT, ids=str)
def test_success_is_judged_at_the_point_returned(solver):
    """The residual reported is that of F at x, recomputed here."""
    for rtol in (1e-2, 1e-6, 1e-11):
        sol = ix.fixed_point(reference, X0, 12.0, 2.5, solver=solver, rtol=rtol, atol=0.0)
        residual = np.abs(reference(sol.x, 12.0, 2.5) - sol.x)
        assert np.all(residual <= rtol * np.abs(sol.x) * (1 + 1e-6) + 1e-15)
        assert float(sol.residual) == pytest.approx(residual.max(), rel=1e-3, abs=1e-15)


def test_tolerance_below_rounding_is_reported():
    sol = ix.fixed_point(lambda x: jnp.cos(x) * 1.1 + 0.013, 1.0, solver=ix.Picard(), rtol=0.0, atol=1e-30, throw=False)
    if not bool(sol.success):  # it may hit the fixed point exactly
        assert int(sol.status) == ix.Status.STALLED
    assert float(sol.residual) < 1e-15


def test_root_is_independent_of_the_units_of_R():
    for unit in (1e-12, 1.0, 1e12):
        sol = ix.root(lambda x: unit * jnp.stack([x[0] ** 2 - 2, x[0] * x[1] - 3]), jnp.array([1.0, 1.0]), atol=0.0)
        np.testing.assert_allclose(sol.x, [np.sqrt(2), 3 / np.sqrt(2)], rtol=1e-8)


def test_newton_steps_back_into_the_domain():
    R = lambda x, a: jnp.log(x) - a
    sol = ix.root(R, 20.0, 0.5)  # the full step leads to x < 0
    assert float(sol.x) == pytest.approx(np.exp(0.5))
    assert float(jax.grad(lambda a: ix.root(R, 20.0, a).x)(0.5)) == pytest.approx(np.exp(0.5))


OPTIMISTIX = {
    "fixed_point": [optx.FixedPointIteration(1e-12, 1e-12), optx.Newton(1e-12, 1e-12), optx.Dogleg(1e-12, 1e-12)],
    "root": [
        optx.Newton(1e-12, 1e-12),
        optx.Chord(1e-12, 1e-12),
        optx.Dogleg(1e-12, 1e-12),
        optx.LevenbergMarquardt(1e-12, 1e-12),
        optx.BFGS(1e-14, 1e-14),
    ],
}


@pytest.mark.parametrize(
    ("kind", "solver"), [(k, s) for k, solvers in OPTIMISTIX.items() for s in solvers], ids=lambda p: type(p).__name__
)
def test_optimistix_solvers(kind, solver):
    R = lambda x, a: reference(x, a, 3.0) - x
    solve = {
        "fixed_point": lambda a: ix.fixed_point(lambda x: reference(x, a, 3.0), X0, solver=solver, atol=1e-8).x,
        "root": lambda a: ix.root(lambda x: R(x, a), X0, solver=solver, atol=1e-8).x,
    }[kind]
    np.testing.assert_allclose(solve(10.0), X_STAR, rtol=1e-7)
    np.testing.assert_allclose(jax.jacrev(solve)(10.0), (0.1804878, -0.13170732), rtol=1e-6)


def test_optimistix_result_is_judged():
    loose = optx.FixedPointIteration(1e-1, 1e-1)
    with pytest.raises(ix.ConvergenceError, match=r"does not meet the tolerance.*FixedPointIteration"):
        ix.fixed_point(reference, X0, 10.0, 3.0, solver=loose)
    no_root = ix.root(lambda x: x**2 + 1, 0.5, solver=optx.LevenbergMarquardt(1e-8, 1e-8), throw=False)
    assert int(no_root.status) == ix.Status.NOT_A_SOLUTION
    with pytest.raises(ValueError, match="expected a solver for a root, got FixedPointIteration"):
        ix.root(lambda x: x - 1, 0.5, solver=loose)


def test_error_estimate():
    rng = np.random.default_rng(5)
    for rtol in (1e-2, 1e-4):
        for _ in range(5):
            F, x_star = linear(tuple(rng.uniform(-0.9, 0.95, 8)), seed=int(rng.integers(1000)))
            sol = ix.fixed_point(F, jnp.zeros(8), solver=ix.Picard(), rtol=rtol, atol=rtol, error_estimate=True)
            error = np.max(np.abs(sol.x - x_star))
            assert float(sol.error) == pytest.approx(error, rel=1e-6)
    assert ix.fixed_point(jnp.cos, 1.0).error is None


@pytest.mark.parametrize("n", [2, 30])
def test_vmap_gives_what_each_lane_gives(n):
    rng = np.random.default_rng(7)
    W = jnp.asarray(rng.normal(size=(5, n, n)) * 0.8 / np.sqrt(n))
    solve = lambda W: ix.fixed_point(lambda x: jnp.tanh(W @ x) + 1, jnp.zeros(n))
    batch = jax.vmap(solve)(W)
    for i in range(5):
        single = solve(W[i])
        np.testing.assert_allclose(batch.x[i], single.x, rtol=0, atol=1e-9)
        assert abs(int(batch.nit[i]) - int(single.nit)) <= 1
