"""Roots: the ladder, Broyden's method, Newton-Krylov, bounds, polished derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from implicitax._linear import gmres
from problems.extended import derivative
from problems.systems import SYSTEMS

BY_NAME = {system.name: system for system in SYSTEMS}


@pytest.mark.parametrize("name", BY_NAME)
def test_auto_solves_the_systems_of_the_literature(name):
    """From every start that MINPACK uses, or says that there is no root."""
    system = BY_NAME[name]
    starts = np.stack([system.start(factor) for factor in system.factors])
    sol = jax.vmap(lambda x0: ix.root(system.R, x0, system.p, throw=False))(starts)
    for x, status in zip(np.asarray(sol.x), np.asarray(sol.status)):
        solved = status == ix.Status.CONVERGED
        assert solved == system.solvable
        if solved:
            assert np.max(np.abs(system.R(x, system.p))) < 1e-8


@pytest.mark.parametrize("name", ["Wood", "Brown almost-linear 10", "Freudenstein-Roth", "Broyden banded 10"])
def test_a_root_found_on_a_higher_rung_has_its_derivative(name):
    """At a parameter other than the standard one, by −A⁻¹B in NumPy."""
    system = BY_NAME[name]
    p = 1.02 * system.p
    solve = lambda p: ix.root(system.R, system.x0, p).x
    x = np.asarray(solve(p))
    np.testing.assert_allclose(jax.jacrev(solve)(p), derivative(system.R, x, p), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(solve)(p), derivative(system.R, x, p), rtol=1e-7, atol=1e-9)


def test_a_lane_on_a_higher_rung_changes_no_other_by_a_bit():
    """The first start is Newton's, the second needs the ladder."""
    system = BY_NAME["Freudenstein-Roth"]
    solve = jax.jit(jax.vmap(lambda x0: ix.root(system.R, x0, system.p)))
    easy, hard = np.array([4.9, 3.9]), system.x0
    together, alone = solve(np.stack([easy, hard])), solve(np.stack([easy, easy]))
    assert int(together.nfev[1]) > 60 > int(together.nfev[0])
    np.testing.assert_array_equal(together.x[0], alone.x[0])


@pytest.mark.parametrize(("more", "times"), [(0, 2), (150, 1)])
def test_how_often_the_residual_is_lowered(more, times):
    """The ladder, its retries and all: one loop, with one evaluation of R and its Jacobian. Another is that of the
    first attempt, if R has few operations."""
    calls = []

    def R(x):
        calls.append(None)
        for _ in range(more):
            x = x + 0.0
        return jnp.stack([x[0] ** 2 - x[1] - 1, jax.lax.lgamma(x[0]) + x[1] ** 3 - 2])

    text = jax.jit(lambda x0: ix.root(R, x0, throw=False).x).lower(np.ones(2)).as_text()
    assert len(calls) == 1
    assert text.count("chlo.lgamma") == times


def bratu(u, p):
    """u'' + p eᵘ = 0 on (0, 1), u = 0 at both ends, by differences."""
    h = 1 / (u.size + 1)
    edges = jnp.pad(u, 1)
    return (edges[:-2] - 2 * u + edges[2:]) / h**2 + p * jnp.exp(u)


def tridiagonal(x, v):
    """The inverse of the second difference, by LAPACK: the preconditioner for `bratu`."""
    n = v.size
    one = jnp.ones(n) * (n + 1) ** 2
    return jax.lax.linalg.tridiagonal_solve(one.at[0].set(0), -2 * one, one.at[-1].set(0), v[:, None])[:, 0]


def test_newton_krylov_with_a_preconditioner():
    n = 1500
    plain = ix.root(bratu, jnp.zeros(n), 2.0, solver=ix.NewtonKrylov(restart=5, max_restarts=2), throw=False)
    assert not bool(plain.success)
    sol = ix.root(bratu, jnp.zeros(n), 2.0, solver=ix.NewtonKrylov(tridiagonal, restart=5, max_restarts=2))
    assert int(sol.nfev) < 20
    coarse = ix.root(bratu, jnp.zeros(99), 2.0).x
    assert float(jnp.max(sol.x)) == pytest.approx(float(jnp.max(coarse)), abs=1e-4)
    with_tree = ix.NewtonKrylov(lambda x, v: {"u": tridiagonal(x["u"], v["u"])}, restart=5, max_restarts=2)
    same = ix.root(lambda x: {"u": bratu(x["u"], 2.0)}, {"u": jnp.zeros(n)}, solver=with_tree)
    np.testing.assert_allclose(same.x["u"], sol.x, atol=1e-9)


def test_auto_takes_newton_krylov_for_large_roots():
    n = 3000
    R = lambda x, a: x + 0.2 * jnp.tanh(jnp.roll(x, 1)) ** 2 + 0.1 * x**3 + 0.1 * jnp.mean(x) - a  # of no structure
    a = jnp.linspace(-1.0, 1.0, n)
    sol = ix.root(R, jnp.zeros(n), a)
    assert sol.solver.startswith("NewtonKrylov")
    assert float(jnp.max(jnp.abs(R(sol.x, a)))) < 1e-8
    tangent = jax.jvp(lambda a: ix.root(R, jnp.zeros(n), a).x, (a,), (jnp.ones(n),))[1]
    h = 1e-5
    difference = (ix.root(R, jnp.zeros(n), a + h).x - ix.root(R, jnp.zeros(n), a - h).x) / (2 * h)
    np.testing.assert_allclose(tangent, difference, atol=1e-7)


@pytest.mark.parametrize("restart", [3, 10, 40])
def test_gmres(restart):
    rng = np.random.default_rng(0)
    A, b = np.eye(40) + 0.3 * rng.normal(size=(40, 40)) / np.sqrt(40), rng.normal(size=40)
    for tolerance in (0.5, 1e-3, 1e-10):
        (x,), relative = gmres(lambda v: (A @ v[0],), (jnp.asarray(b),), tolerance, restart, 100)
        exact = np.linalg.norm(A @ x - b) / np.linalg.norm(b)
        assert exact <= 1.001 * tolerance
        assert float(relative) == pytest.approx(exact, rel=1e-3)
    # A zero right-hand side, and a singular matrix, have an answer too.
    assert not np.any(gmres(lambda v: (A @ v[0],), (jnp.zeros(40),), 1e-3, restart, 100)[0][0])
    (x,), relative = gmres(lambda v: (0 * v[0],), (jnp.asarray(b),), 1e-3, restart, 3)
    assert float(relative) == 1
    assert np.all(np.isfinite(x))


@pytest.mark.parametrize("solver", [ix.Broyden(), ix.Broyden(3), ix.NewtonKrylov(), ix.Ladder(), ix.Newton()], ids=str)
def test_fixed_points_by_root_finders(solver):
    F = lambda x, a: jnp.tanh(a * jnp.roll(x, 1)) - 1.5 * x + 0.3
    x0 = jnp.linspace(0.0, 1.0, 12)
    x = ix.fixed_point(F, x0, 0.7, solver=solver).x
    np.testing.assert_allclose(F(x, 0.7), x, atol=1e-9)
    tangent = jax.jacfwd(lambda a: ix.fixed_point(F, x0, a, solver=solver).x)(0.7)
    A = jax.jacfwd(F)(x, 0.7) - np.eye(12)
    np.testing.assert_allclose(tangent, -np.linalg.solve(A, jax.jacfwd(F, 1)(x, 0.7)), atol=1e-8)


def test_broyden_restarts_within_its_memory_and_needs_no_derivative():
    @jax.custom_vjp
    def R(x):
        return x + 0.1 * jnp.roll(x, 1) ** 2 - 1

    R.defvjp(lambda x: (R(x), None), lambda _, g: (1 / 0,))
    sol = ix.root(R, jnp.zeros(50), solver=ix.Broyden(2), error_estimate=False)
    np.testing.assert_allclose(sol.x, (np.sqrt(1.4) - 1) / 0.2, rtol=1e-9)


@pytest.mark.parametrize("solver", [ix.Picard(), ix.Anderson(2), ix.Auto(), ix.Broyden(), ix.NewtonKrylov()], ids=str)
def test_bounds_keep_the_iterates_inside(solver):
    """√x has no value below 0, where the first step of every method would lead."""
    F = lambda x: {"T": 2 - 3 * jnp.sqrt(x["T"]), "c": 0.5 * x["c"]}
    seen = []

    def watched(x):
        jax.debug.callback(lambda T: seen.append(float(T)), x["T"])
        return F(x)

    bounds = ({"T": 0.0, "c": None}, None)
    sol = ix.fixed_point(watched, {"T": 3.0, "c": 1.0}, bounds=bounds, solver=solver, throw=False, max_steps=300)
    jax.effects_barrier()
    assert len(seen) > 3
    assert min(seen) > 0
    if not isinstance(solver, ix.Picard):  # plain iteration oscillates: F' = −2.1 at the solution
        assert float(sol.x["T"]) == pytest.approx(((-3 + np.sqrt(17)) / 2) ** 2, rel=1e-8)


def test_stuck_at_a_bound_and_a_guess_outside():
    # The root is at −1, and ‖R‖ decreases all the way to the bound.
    R = lambda x: {"a": x["a"] + 1, "b": x["b"] - 2}
    sol = ix.root(R, {"a": 1.0, "b": 1.0}, bounds=({"a": 0.0, "b": 0.0}, 10.0), throw=False)
    assert int(sol.status) == ix.Status.AT_BOUND
    assert "first at x0['a']" in sol.message
    with pytest.raises(ix.ConvergenceError, match=r"not strictly inside the bounds.*first at x0\['a'\]"):
        ix.root(R, {"a": 0.0, "b": 1.0}, bounds=(0.0, None))
    with pytest.raises(ValueError, match=r"expected lower < upper, got 1.0 and 0.0 for x0"):
        ix.root(lambda x: x, 0.5, bounds=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"expected a pair \(lower, upper\), got 0.0"):
        ix.root(lambda x: x, 0.5, bounds=0.0)
    with pytest.raises(ValueError, match=r"expected numbers, or None.*got nan at lower"):
        ix.root(lambda x: x, 0.5, bounds=(np.nan, None))
    with pytest.raises(ValueError, match="expected a real x0, got complex leaves"):
        ix.root(lambda x: x, 0.5 + 1j, bounds=(0.0, None))
    with pytest.raises(ValueError, match=r"a bound that broadcasts to the shape \(2,\) of x0, got the shape \(3,\)"):
        ix.root(lambda x: x, jnp.ones(2), bounds=(np.zeros(3), None))


@pytest.mark.parametrize("transform", [jax.jacrev, jax.jacfwd])
def test_polish_squares_the_error_of_the_derivative(transform):
    W = jnp.asarray(np.random.default_rng(3).normal(size=(6, 6)) * 0.35)

    @functools.partial(jax.jit, static_argnums=2)
    def x(b, rtol, polish):
        F = lambda x: jnp.tanh(W @ x + b)
        adjoint = ix.Implicit(polish=polish)
        return ix.fixed_point(F, jnp.zeros(6), solver=ix.Picard(), adjoint=adjoint, rtol=rtol, atol=0.0).x

    b = jnp.linspace(0.2, 0.8, 6)
    first_of, second_of = (jax.jit(f, static_argnums=2) for f in (transform(x), jax.jacfwd(transform(x))))
    exact, second = first_of(b, 1e-13, False), second_of(b, 1e-13, False)
    for rtol in (1e-2, 1e-3, 1e-4):
        error = float(jnp.max(jnp.abs(x(b, rtol, False) - x(b, 1e-13, False))))
        plain, polished = (float(jnp.max(jnp.abs(first_of(b, rtol, p) - exact))) for p in (False, True))
        assert plain > 0.1 * error
        assert polished < 20 * error**2
        assert float(jnp.max(jnp.abs(second_of(b, rtol, True) - second))) < 100 * error**2
        np.testing.assert_array_equal(x(b, rtol, True), x(b, rtol, False))
