"""The first attempt: what it solves, what it leaves to the robust method, and that this changes nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix


def by_plain_iteration(F, x0, *args):
    return ix.fixed_point(F, x0, *args, solver=ix.Picard())


@pytest.mark.parametrize("n", [1, 2, 4, 6, 12])
def test_it_ends_at_the_fixed_point_of_plain_iteration(n):
    """Wild maps with several fixed points, from most of which plain iteration does not converge at all."""
    rng = np.random.default_rng(n)
    W = rng.normal(size=(400, n, n)) * (1.5 if n <= 4 else 2.2 / np.sqrt(n))
    b, x0 = 0.3 * rng.normal(size=(400, n)), rng.normal(size=(400, n))
    F = lambda x, W, b: jnp.tanh(W @ x + b)
    plain, auto = (
        jax.jit(jax.vmap(lambda W, b, x0, s=s: ix.fixed_point(F, x0, W, b, solver=s, max_steps=3000, throw=False)))(
            W, b, x0
        )
        for s in (ix.Picard(), ix.Auto())
    )
    ends = np.asarray(plain.success)
    assert ends.sum() > 40
    solved = ends & np.asarray(auto.success)
    assert solved.sum() > (0.98 if n <= 8 else 0.9) * ends.sum()
    same = np.max(np.abs(auto.x - plain.x), axis=1) < 1e-6
    assert same[solved].mean() > 0.97


@pytest.mark.parametrize("n", [2, 30, 3000])
def test_a_fast_contraction_is_iterated_plainly(n):
    F = lambda x, a: 0.3 * jnp.cos(a * x[::-1]) + jnp.linspace(0.0, 1.0, n)
    sol, plain = ix.fixed_point(F, jnp.ones(n), 1.2), by_plain_iteration(F, jnp.ones(n), 1.2)
    np.testing.assert_allclose(sol.x, plain.x, rtol=1e-9)
    assert int(sol.nfev) <= int(plain.nfev)
    assert int(sol.nit) == int(sol.nfev) - 1
    np.testing.assert_allclose(jnp.max(jnp.abs(F(sol.x, 1.2) - sol.x)), sol.residual, atol=1e-15)


@pytest.mark.parametrize("n", [20, 200])
def test_where_an_evaluation_costs_little_it_may_take_more_of_them(n):
    """Complex eigenvalues of modulus 0.8: the error decreases by fits and starts, but that is not given up."""
    rng = np.random.default_rng(n)
    W = rng.normal(size=(n, n))
    W *= 0.8 / np.max(np.abs(np.linalg.eigvals(W)))
    F = lambda x, a: jnp.tanh(W @ x) * a + 0.3
    sol, plain = ix.fixed_point(F, jnp.full(n, 0.3), 1.02), by_plain_iteration(F, jnp.full(n, 0.3), 1.02)
    assert 60 < int(sol.nfev) == int(plain.nfev)
    np.testing.assert_array_equal(sol.x, plain.x)


def test_where_an_evaluation_costs_much_it_is_given_up_early():
    def F(x):
        y = x
        for _ in range(3):
            y = jnp.sum(0.8 / x.size * jnp.cos(y)[None, :] * jnp.ones((x.size, 1)), axis=1)
        return 0.85 * x + 0.1 * jnp.cos(x) + 0.01 * y

    sol, plain = ix.fixed_point(F, jnp.ones(1500)), by_plain_iteration(F, jnp.ones(1500))
    assert int(sol.nfev) < int(plain.nfev)


@pytest.mark.parametrize("allowed", [45, 60, 100])
def test_the_attempt_and_the_method_share_the_steps_allowed(allowed):
    F = lambda x, a: jnp.roll(x, 1) * 0.9999 + a * jnp.linspace(-1.0, 1.0, x.size) ** 3
    sol = ix.fixed_point(F, jnp.zeros(300), 0.1, max_steps=allowed, throw=False)
    assert ix.Status(int(sol.status)) == ix.Status.STEP_LIMIT  # the residual decreases, by 1e-4 a step
    assert f"Raise `max_steps`, which is {allowed}, or" in sol.message
    assert int(sol.nit) <= allowed


@pytest.mark.parametrize("n", [2, 30])
def test_a_slow_contraction_is_left_to_the_method(n):
    F = lambda x, a: 0.99 * jnp.sin(x) + a * (1 + 0.1 * x[::-1])
    sol, plain = ix.fixed_point(F, jnp.ones(n), 0.01), by_plain_iteration(F, jnp.ones(n), 0.01)
    np.testing.assert_allclose(sol.x, plain.x, rtol=1e-6)
    assert 5 * int(sol.nfev) < int(plain.nfev)


@pytest.mark.parametrize(
    "F", [lambda x: 4 - 3 * jnp.tanh(x), lambda x: 2 * jnp.sqrt(1.2 - x), lambda x: x * 0.0 + 1], ids="abc"
)
def test_what_the_attempt_does_not_solve(F):
    """A cycle of plain iteration, a step out of the domain, a constant; at a tolerance of 0 too, as far as it goes."""
    for x0 in (jnp.array([1.0]), jnp.full(5, 1.0), jnp.full(20, 1.0)):
        sol = ix.fixed_point(F, x0)
        np.testing.assert_allclose(F(sol.x), sol.x, rtol=1e-10)
        exact = ix.fixed_point(F, x0, rtol=0.0, atol=0.0, throw=False)
        assert bool(exact.success) == bool(jnp.all(F(exact.x) == exact.x))


@pytest.mark.default_flags
@pytest.mark.parametrize("n", [2, 20])
def test_a_lane_that_needs_the_method_changes_no_other_by_a_bit(n):
    F = lambda x, a: a[0] * jnp.tanh(x) + a[1] + 0.1 * x[::-1]
    easy, hard = jnp.array([0.5, 0.2]), jnp.array([-3.0, 0.2])

    @jax.jit
    @jax.vmap
    def both(a):
        sol, pullback = jax.vjp(lambda a: ix.fixed_point(F, jnp.ones(n), a).x, a)
        return sol, pullback(jnp.ones(n))[0]

    (x, gradient), (x_mixed, gradient_mixed) = both(jnp.stack([easy, easy])), both(jnp.stack([easy, hard]))
    np.testing.assert_array_equal(x[0], x_mixed[0])
    np.testing.assert_array_equal(gradient[0], gradient_mixed[0])
    np.testing.assert_allclose(jax.vmap(F)(x_mixed, jnp.stack([easy, hard])), x_mixed, rtol=1e-9)


def test_a_guess_out_of_the_domain_is_said_to_be_that():
    sol = ix.fixed_point(lambda x: jnp.sqrt(-1 - x**2), 5.0, throw=False)
    assert ix.Status(int(sol.status)).name == "NON_FINITE"
    assert int(sol.nit) == 0
    assert "at x0" in sol.message


@pytest.mark.parametrize("n", [3, 150])
def test_few_iterations_are_few(n):
    """A limit that leaves no room for an attempt is kept."""
    sol = ix.fixed_point(lambda x: 0.999 * x + 1, jnp.zeros(n), max_steps=3, solver=ix.Picard(), throw=False)
    assert int(sol.nit) == 3
    sol = ix.fixed_point(lambda x: jnp.cos(x) * 3, jnp.zeros(n), max_steps=3, throw=False)
    assert int(sol.nit) <= 3


@pytest.mark.parametrize("n", [150, 1500])
@pytest.mark.parametrize("spread", [0.5, 1e4])
def test_the_matrix_free_derivative(n, spread):
    """By BiCGStab where that serves, and where it does not by what comes after it; against LAPACK."""
    rng = np.random.default_rng(0)
    diagonal = -np.linspace(1.0, spread, n) * np.where(rng.random(n) < 0.5, 1, 1.3)
    weights = jnp.asarray(rng.normal(size=n))

    def F(x, a):
        return x + 0.1 * (jnp.asarray(diagonal) * x + 0.4 * jnp.roll(x, 1) - 0.9 * jnp.roll(x, -1) + a * weights)

    x = np.linalg.solve(jax.jacfwd(F)(jnp.zeros(n), 1.0) - np.eye(n), -F(jnp.zeros(n), 1.0))
    solve = ix.custom_fixed_point(F, rtol=1e-8, atol=1e-8)(lambda x0, a: jnp.asarray(x))
    gradient = jax.grad(lambda a: jnp.vdot(weights, solve(x, a)))(1.0)
    assert gradient == pytest.approx(float(weights @ x), rel=1e-7)  # the problem is linear in a


# Roots.


def wild(x, p):
    """Two equations with poles and several roots; full steps of Newton's from x0 = (1, 1) often lead astray."""
    return jnp.stack([x[0] ** 3 - p[0] * x[1] + jnp.sin(3 * x[1]), p[1] * jnp.exp(x[0]) - x[1] ** 2 - p[2]])


def test_a_step_longer_than_a_small_unknown_does_not_end_it():
    """Steady states of Markov chains, some of them rarely visited: linear, so that a step or two of Newton's end it."""
    rates = jnp.exp(1.5 * jnp.asarray(np.random.default_rng(3).normal(size=(300, 3, 3))))
    F, total = lambda x, P: P @ x, lambda x, P: x.sum() - 1
    solve = lambda P: ix.fixed_point(F, jnp.full(3, 1 / 3), P, constraint=total)
    sol = jax.jit(jax.vmap(solve))(rates / rates.sum(axis=1, keepdims=True))
    assert np.mean(np.asarray(sol.nfev) < 12) > 0.95


def test_a_root_of_few_unknowns_begins_with_newtons_steps():
    """x² = a from its own neighbourhood: quadratic, so as many evaluations as the closed form of Newton's iteration."""
    sol = ix.root(lambda x, a: x**2 - a, jnp.array([1.5, 1.5]), jnp.array([2.0, 3.0]))
    x, steps = np.array([1.5, 1.5]), 0
    while np.max(np.abs(x**2 - np.array([2.0, 3.0]))) > np.finfo(float).eps ** (2 / 3):
        x, steps = x - (x**2 - np.array([2.0, 3.0])) / (2 * x), steps + 1
    assert steps - 1 <= int(sol.nit) <= steps  # the last correction is not needed where it is known to be small enough
    np.testing.assert_allclose(sol.x, np.sqrt([2.0, 3.0]), rtol=1e-9)


def test_no_fewer_wild_roots_are_found_than_without():
    """With bounds, which the attempt does not know, the ladder has it all to itself. (Some have no root.)"""
    rng = np.random.default_rng(3)
    p = rng.uniform(0.2, 3.0, (300, 3))
    solve = lambda p, **keywords: ix.root(wild, jnp.ones(2), p, throw=False, **keywords)
    alone = jax.jit(jax.vmap(lambda p: solve(p, bounds=(-1e6, 1e6))))(p)
    both = jax.jit(jax.vmap(solve))(p)
    solved = np.asarray(both.success)
    assert 200 < np.asarray(alone.success).sum() <= solved.sum()
    size = np.max(np.abs(both.x), axis=1)
    residual, A = jax.vmap(wild)(both.x, p), jax.vmap(jax.jacfwd(wild))(both.x, p)
    change = np.einsum("kij,kj->ki", np.abs(A), np.abs(both.x))  # of R, if x changes by as much as itself
    assert np.all(np.abs(residual)[solved & (size < 1000)] < 1e-7)
    assert np.all(np.abs(residual)[solved] <= 1e-10 * np.max(change, axis=1, keepdims=True)[solved])


def test_what_the_attempt_of_a_root_does_not_solve():
    """A first step that increases R, one out of the domain, and a singular A at x0: the ladder takes over from x0."""
    for R, x0, root in (
        (lambda x: jnp.arctan(x) - 0.5, 4.0, np.tan(0.5)),
        (lambda x: jnp.log(x) + 2.0, 9.0, np.exp(-2.0)),
        (lambda x: x**3 - 3 * x - 3.0, 1.0, 2.1038034027),
    ):
        np.testing.assert_allclose(ix.root(R, jnp.array([x0])).x[0], root, rtol=1e-8)


@pytest.mark.default_flags
def test_a_lane_that_needs_the_ladder_changes_no_other_by_a_bit():
    R = lambda x, a: jnp.arctan(x - a) - 0.5
    solve = jax.jit(jax.vmap(lambda a: jax.value_and_grad(lambda a: ix.root(R, jnp.zeros(2), a).x[0])(a)))
    for got, want in zip(solve(jnp.array([0.3, -4.0])), solve(jnp.array([0.3, 0.3]))):
        assert float(got[0]) == float(want[0])
        assert np.isfinite(got[1])
