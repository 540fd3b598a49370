"""What is a root: families with none, with one at an edge, cusp or kink, in any units. Answers by NumPy."""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix
from problems.systems import SYSTEMS
from problems.tridiagonal import Thomas, on_grid

N = 200


def of_many(R, x0, *args, **keywords):
    """The status, x and evaluations of many problems."""
    sol = jax.jit(jax.vmap(lambda x0, *args: ix.root(R, x0, *args, throw=False, **keywords)))(x0, *args)
    return np.asarray(sol.status), np.asarray(sol.x), np.asarray(sol.nfev)


def draw(low, high, seed=0, shape=(N,)):
    return np.random.default_rng(seed).uniform(low, high, shape)


NONE = {
    "tank": (lambda h, a: a - 0.5 * jnp.sqrt(h) - 1, draw(0.5, 4), draw(0, 0.999, 1)),
    "edge": (lambda x, a: jnp.sqrt(x) + jnp.cbrt(x) + a, draw(0.5, 4), draw(1e-3, 1, 1)),
    "to infinity": (lambda x, a: a * jnp.exp(-x), draw(0, 3), draw(0.1, 2, 1)),
    "minimum": (lambda x, a: x**2 + a**6, draw(0.5, 3), draw(0.01, 1, 1)),
    "jump": (lambda x, a: jnp.where(x > 1, a * (x - 1) + 0.3, (x - 1) - 0.2), draw(-3, 3), draw(0.1, 10, 1)),
    "jump at a cusp": (
        lambda x, a: jnp.where(x > 1, jnp.abs(x - 1) ** a + 0.3, -(jnp.abs(x - 1) ** a) - 0.2),
        *(draw(-3, 3), draw(0.2, 0.9, 1)),
    ),
}


@pytest.mark.parametrize("name", NONE)
def test_where_there_is_no_root_none_is_found(name):
    status, _, _ = of_many(*NONE[name])
    assert np.all(status < 0)


@pytest.mark.parametrize("name", ["tank", "edge"])
def test_nor_where_a_bound_shortens_the_steps(name):
    status, _, _ = of_many(*NONE[name], bounds=(0.0, None))
    assert np.all(status < 0)


ONE = {  # R, x0, a, the root
    "tank": (lambda h, a: a - 0.5 * jnp.sqrt(h) - 1, draw(0.5, 4), draw(1.01, 2, 1), lambda a: 4 * (a - 1) ** 2),
    "edge": (lambda x, a: x**a, draw(0.3, 3), draw(0.3, 2, 1), lambda a: 0 * a),
    "cusp": (lambda x, a: jnp.sign(x - 1) * jnp.abs(x - 1) ** a, draw(-3, 3), draw(0.6, 2, 1), lambda a: 1 + 0 * a),
    "kink": (lambda x, a: jnp.where(x > 1, x - 1, a * (x - 1)), draw(-3, 3), draw(0.1, 10, 1), lambda a: 1 + 0 * a),
    "double": (lambda x, a: (x - a) ** 2, draw(-3, 3), draw(-1, 1, 1), lambda a: a),
    "logarithm": (lambda x, a: jnp.log(x) + a, draw(0.3, 3), draw(-10, 10, 1), lambda a: np.exp(-a)),
    "pole": (lambda x, a: 1 / x - a, draw(0.3, 3), draw(0.1, 3, 1), lambda a: 1 / a),
    "exact guess": (lambda x, a: x**3 - a, np.cbrt(draw(1e-9, 1, 1)), draw(1e-9, 1, 1), np.cbrt),
}


@pytest.mark.parametrize("name", ONE)
def test_where_there_is_one_it_is_found(name):
    R, x0, a, root = ONE[name]
    status, x, _ = of_many(R, x0, a)
    assert np.mean(status == 0) > 0.99
    np.testing.assert_allclose(x[status == 0], root(a)[status == 0], rtol=1e-6, atol=1e-7)


def test_of_an_answer_already_the_probe_is_all_it_costs():
    _, x, nfev = of_many(*ONE["exact guess"][:3])
    np.testing.assert_array_equal(x, ONE["exact guess"][1])
    assert np.max(nfev) == 2
    sol = ix.root(lambda x: x**2 - 4, 2.0)
    assert (float(sol.x), int(sol.nfev)) == (2.0, 1)  # R is exactly 0, and A is regular


CANCELLING = {  # R, and how far a root may be told, for R = 0 in a whole neighbourhood
    "double": lambda x, s: x**2 - 2 * s * x + s**2,
    "triple": lambda x, s: x**3 - 3 * s * x**2 + 3 * s**2 * x - s**3,
    "exponential": lambda x, s: jnp.exp(x - s) - (x - s) - 1,
    "float32": lambda x, s: (x.astype(jnp.float32) ** 2 - 2 - s.astype(jnp.float32)).astype(float),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_a_root_that_rounding_hides_is_none(name):
    """R is 0 in a neighbourhood that is much wider than the tolerance: a root is found there, to the fewer digits."""
    s, R = draw(-1, 1, 1), CANCELLING[name]
    status, x, _ = of_many(R, s + draw(0.3, 1), s)
    told = status == 0
    exact = np.sqrt(2 + s) if name == "float32" else s
    assert np.mean(status[~told] == ix.Status.UNRESOLVED) > 0.85
    assert np.mean(told) < 0.2  # by chance, of many attempts
    np.testing.assert_allclose(np.abs(x - exact)[told & (x * exact > 0)], 0, atol=1e-7)  # of two, the other one
    allowed, x, _ = of_many(R, s + draw(0.3, 1), s, residual_atol=1e-6)
    assert np.all(allowed == 0)


def test_two_roots_close_together_are_resolved():
    s = draw(-1, 1, 1)
    status, x, _ = of_many(lambda x, s: x**2 - 2 * s * x + s**2 - 1e-8, s + draw(0.3, 1), s)
    assert np.all(status == 0)
    np.testing.assert_allclose(np.abs(x - s), 1e-4, rtol=1e-4)


def test_no_other_solver_has_a_root_that_is_none():
    """One verdict: the same of Broyden's method, of Optimistix, and of a solver of the user's."""
    R, none = NONE["tank"][0], 1e-23  # a point at which Newton's correction is 1e-11
    solvers = {"Broyden": ix.Broyden(), "Optimistix": optx.Newton(1e-10, 1e-10), "Newton": ix.Newton()}
    for solver in solvers.values():
        assert not bool(ix.root(R, 2.0, 0.2, solver=solver, throw=False).success)
    for x in (none, 2.0):
        with pytest.raises(ix.ConvergenceError, match="does not meet"):
            ix.custom_root(R)(lambda x0, a, x=x: jnp.asarray(x))(2.0, 0.2)
    assert float(ix.custom_root(R)(lambda x0, a: jnp.asarray(0.16))(2.0, 1.2)) == 0.16


def test_where_R_has_no_derivative_it_is_judged_by_differences():
    def R(x, a):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x, a: np.tanh(x) - a, shape, x, a, vmap_method="expand_dims")

    sol = ix.root(R, jnp.full(3, 0.3), 0.5, solver=ix.Broyden())
    np.testing.assert_allclose(sol.x, np.arctanh(0.5), rtol=1e-9)
    with pytest.raises(ix.ConvergenceError, match="does not meet"):
        ix.custom_root(R)(lambda x0, a: jnp.full(3, 0.5))(jnp.ones(3), 0.5)


def test_a_residual_in_its_own_units_may_be_enough():
    """An R with noise, which resolves x to 1e-7: loud, unless its own size is accepted."""
    R = lambda x: (x.astype(jnp.float32) ** 2 - 2.1).astype(float)
    assert not bool(ix.root(R, 1.0, throw=False).success)
    sol = ix.root(R, 1.0, residual_atol=1e-5)
    assert abs(float(sol.x) - np.sqrt(2.1)) < 1e-5
    early = ix.fixed_point(jnp.cos, 1.0, residual_atol=0.1)
    assert 1e-4 < float(early.residual) <= 0.1
    with pytest.raises(ValueError, match="residual_atol"):
        ix.root(R, 1.0, residual_atol=-1.0)


def test_beside_a_bound_the_order_of_magnitude_is_sought():
    """[H⁺] of weak acids, all from 10⁻⁷ mol/l: R is of the order of 10⁻²¹, and decreases towards 0."""
    rng = np.random.default_rng(1)
    Ka, C = 10.0 ** rng.uniform(-10, -1, N), 10.0 ** rng.uniform(-8, 0, N)
    acid = lambda h, Ka, C: h**3 + Ka * h**2 - (1e-14 + Ka * C) * h - 1e-14 * Ka
    status, h, _ = of_many(acid, np.full(N, 1e-7), Ka, C, bounds=(0.0, None))
    low, high = np.full(N, 1e-16), np.full(N, 10.0)
    for _ in range(200):  # bisection of R / h, which increases
        middle = np.sqrt(low * high)
        above = middle**2 + Ka * middle - (1e-14 + Ka * C) - 1e-14 * Ka / middle > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    assert np.mean(status == 0) > 0.8
    np.testing.assert_allclose(h[status == 0], middle[status == 0], rtol=1e-8)


@pytest.mark.parametrize("solver", [None, ix.Newton(), ix.Ladder(), ix.Newton(linear_solver=lx.LU())], ids=repr)
def test_the_last_digit_of_a_large_residual(solver):
    """A huge rate in both equations leaves no digit of T in them: c is 0 to the tolerance, but T is not what it is."""

    def R(x, h):
        c, T = x
        return jnp.stack([1e130 * c + T - 1, h * (1e130 * c) + T - 2])  # T = (2 − h) / (1 − h)

    near = jnp.array([1e-12, 5.0])
    found = ix.root(R, near, 0.5, solver=solver, throw=False)
    assert not found.success or abs(found.x[1] - 3) < 1e-9
    judged = ix.custom_root(R, throw=False)(lambda x0, h: near)
    assert np.isnan(jax.grad(lambda h: judged(near, h)[1])(0.5))


def to_infinity(x, a, kind):
    return jnp.where(kind == 0, x + a / (1 + x**2), jnp.where(kind == 1, jnp.sqrt(x**2 + a), x + a / (1 + jnp.abs(x))))


@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("solver", [None, ix.Anderson(), ix.Picard(), ix.Anderson(memory=3, damping=0.5)], ids=repr)
def test_where_a_map_runs_to_infinity_there_is_no_fixed_point(n, solver):
    """Each unknown at its own pace, so that most have met the tolerance long before the last one does."""
    rng = np.random.default_rng(n)
    x0, a, kind = rng.uniform(-3, 3, (N, n)), rng.uniform(0.3, 3, (N, n)), rng.integers(0, 3, (N, n))
    solve = lambda *args: ix.fixed_point(to_infinity, *args, solver=solver, max_steps=2000, throw=False).success
    # Anderson's method by itself may jump, and then knows nothing of an unknown that is small beside the others.
    assert np.mean(jax.jit(jax.vmap(solve))(x0, a, kind)) <= (0.01 if n == 20 and solver == ix.Anderson() else 0)


@pytest.mark.parametrize("solver", [None, ix.Picard()], ids=repr)
def test_a_slow_contraction_is_not_taken_for_one(solver):
    """By 0.999 a step, in units in which one unknown is a millionth of the other."""
    rng = np.random.default_rng(0)
    s = rng.uniform(0.5, 2, (N, 2)) * [1, 1e-6]
    F = lambda x, s: x - 1e-3 * (x - s) * jnp.array([1, 3])
    solve = lambda s: ix.fixed_point(F, 1.5 * s, s, solver=solver, max_steps=50_000, throw=False)
    sol = jax.jit(jax.vmap(solve))(s)
    assert np.all(sol.success)
    np.testing.assert_allclose(sol.x, s, atol=1e-6)


# Units --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("system", [s for s in SYSTEMS if s.x0.size <= 12], ids=lambda s: s.name)
def test_units_do_not_matter(system, dtype):
    """x in units of 2^k, and each equation in one of its own: the same status, iterations, and answer."""
    exponent = 60 if dtype == np.float64 else 20
    rng = np.random.default_rng(system.x0.size)
    p, guess = np.asarray(system.p, dtype), jnp.asarray(system.x0, dtype)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0))
    def solve(unit, of_R):
        R = lambda x, p: of_R * system.R(x / unit, p)
        sol = ix.root(R, guess * unit, p, solver=ix.Newton(), throw=False)
        return sol.status, sol.nfev, sol.x / unit

    units = 2.0 ** rng.integers(-exponent, exponent + 1, (4, 1))
    of_R = 2.0 ** rng.integers(-exponent, exponent + 1, (4, guess.size))
    units[0], of_R[0] = 1, 1
    status, nfev, x = map(np.asarray, solve(jnp.asarray(units[:, 0], dtype), jnp.asarray(of_R, dtype)))
    assert set(status) == {status[0]}
    # Of a long way, on which a last digit decides, rounding may change the length.
    assert np.max(np.abs(nfev - nfev[0])) <= (0 if nfev[0] <= 50 else 0.1 * nfev[0])
    np.testing.assert_allclose(x, np.broadcast_to(x[0], x.shape), rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_any_units_and_any_mixing_of_equations(n):
    rng = np.random.default_rng(n)
    M = rng.normal(size=(N, n, n)) + 2 * np.eye(n)
    s = rng.normal(size=(N, n))
    mix = np.linalg.qr(rng.normal(size=(N, n, n)))[0] * 10.0 ** rng.uniform(-1, 1, (N, 1, n))

    def R(x, M, s, mix, unit, of_R):
        z = x / unit - s
        return mix @ (of_R * (M @ z + 0.2 * z**2))

    x0 = s + 0.1 * rng.normal(size=s.shape)
    one = np.ones((N, n))
    unit, of_R = 10.0 ** rng.uniform(-20, 20, (2, N, n))
    plain = of_many(R, x0, M, s, np.broadcast_to(np.eye(n), mix.shape), one, one)
    scaled = of_many(R, x0 * unit, M, s, np.broadcast_to(np.eye(n), mix.shape), unit, of_R)
    mixed = of_many(R, x0, M, s, mix, one, one)
    for status, x in ((scaled[0], scaled[1] / unit), (mixed[0], mixed[1])):
        np.testing.assert_array_equal(status, plain[0])
        np.testing.assert_allclose(x, plain[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("dtype", "k", "size"), [(np.float32, 1e-20, 1e-15), (np.float64, 1e-150, 1e-140)])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_tangent_of_any_size(n, dtype, k, size):
    """R small, and its change far smaller: the product of the two is below the smallest number that there is."""
    M = np.eye(n, dtype=dtype) + np.tri(n, k=-1, dtype=dtype)

    def R(x, a):
        return dtype(k) * (M.astype(dtype) @ x**2 - a)

    solve = lambda a: ix.root(R, np.ones(n, dtype), a, throw=False).x
    a = M @ np.full(n, 4, dtype)
    want = np.linalg.solve(M, np.ones(n)) * size / 4
    tangent = jnp.full(n, size, dtype)
    x_dot = jax.jit(lambda a, v: jax.jvp(solve, (a,), (v,))[1])(a, tangent)
    np.testing.assert_allclose(x_dot, want, rtol=1e-4, atol=1e-4 * size)
    _, pullback = jax.vjp(solve, a)
    a_bar = jax.jit(lambda v: pullback(v)[0])(tangent)
    np.testing.assert_allclose(a_bar, np.linalg.solve(M.T, np.ones(n)) * size / 4, rtol=1e-4, atol=1e-4 * size)


def test_a_fixed_point_in_any_units():
    F = lambda x, unit: {k: u * f for (k, u), f in zip(unit.items(), map_of(x, unit))}

    def map_of(x, unit):
        a, b = x["a"] / unit["a"], x["b"] / unit["b"]
        return jnp.cos(a) + 0.1 * jnp.max(b), 0.5 * jnp.sin(b) + 0.3 * jnp.mean(a)

    def solve(i, j):
        unit = {"a": 2.0**i, "b": 2.0**j}
        x0 = {"a": unit["a"] * jnp.array([0.3, 0.7, 1.0]), "b": unit["b"] * jnp.array([0.0, 0.0])}
        sol = ix.fixed_point(F, x0, unit)
        return int(sol.nfev), np.asarray(sol.x["a"]) / unit["a"], np.asarray(sol.x["b"]) / unit["b"]

    plain = solve(0, 0)
    for exponents in ((60, -60), (-33, 17), (-60, -60)):
        nfev, a, b = solve(*exponents)
        assert nfev == plain[0]
        np.testing.assert_array_equal(a, plain[1])
        np.testing.assert_array_equal(b, plain[2])


# Large systems ------------------------------------------------------------------------------------------------------


def test_a_step_of_one_digit_ends_no_solve():
    sol = ix.root(
        on_grid(5000), jnp.zeros(5000), 1.0, solver=ix.NewtonKrylov(max_restarts=2), max_steps=20, throw=False
    )
    assert not bool(sol.success)


BRATU = {
    "padded": lambda u, s, h: jnp.pad(u, 1)[2:] - 2 * u + jnp.pad(u, 1)[:-2] + h**2 * s * jnp.exp(u),
    "convolved": lambda u, s, h: jnp.convolve(u, jnp.array([1, -2, 1], u.dtype), "same") / h**2 + s * jnp.exp(u),
    "negative": lambda u, s, h: (2 * u - jnp.pad(u, 1)[2:] - jnp.pad(u, 1)[:-2]) / h**2 - s * jnp.exp(u),
}


@pytest.mark.parametrize("n", [300, 1000, 2000])
@pytest.mark.parametrize("form", BRATU)
def test_newton_krylov_where_float32_keeps_no_digit_on_a_fine_grid(form, n):
    """A has the condition 0.4 n². Rows of random signs ±1 are 0 one time in four: weighted by that the rest counted for
    nothing, and max u = 0.003 had a small residual."""
    R = lambda u, s: BRATU[form](u, s, jnp.asarray(1 / (n + 1), u.dtype))
    sol = ix.root(R, jnp.zeros(n, jnp.float32), jnp.float32(1), solver=ix.NewtonKrylov(), max_steps=40, throw=False)
    right = abs(float(sol.x.max()) - 0.14054) < 1e-3
    assert right or not bool(sol.success)
    assert bool(sol.success) or n > 300


def test_newton_krylov_solves_its_last_system_to_the_end():
    n = 2000
    R = lambda x, a: 4 * x + jnp.roll(x, 1) - 0.5 * jnp.roll(x, -1) + a * x**3 - jnp.linspace(1, 2, n)
    sol = ix.root(R, jnp.ones(n), 0.3, solver=ix.NewtonKrylov(starts=4))
    exact = np.asarray(sol.x)
    for _ in range(3):
        A = np.diag(4 + 0.9 * exact**2) + np.roll(np.eye(n), 1, 0) - 0.5 * np.roll(np.eye(n), -1, 0)
        exact = exact - np.linalg.solve(A, np.asarray(R(exact, 0.3)))
    assert "NewtonKrylov" in sol.solver
    np.testing.assert_allclose(sol.x, exact, rtol=1e-12)


@pytest.mark.parametrize("n", [100_000, 1_000_000])
def test_an_exact_step_on_a_fine_grid_ends_the_solve(n):
    """The last good step lowers max|R| by a hundredth: R is rounding by then, 1/h² of that of u."""
    sol = ix.root(on_grid(n), jnp.zeros(n), 1.0, solver=ix.Newton(Thomas()), adjoint=ix.Implicit(Thomas()))
    theta = 1.5  # u = −2 ln(cosh((z − ½)·θ/2)/cosh(θ/4)), θ = √2·cosh(θ/4)
    for _ in range(100):
        theta = np.sqrt(2) * np.cosh(theta / 4)
    np.testing.assert_allclose(np.max(sol.x), 2 * np.log(np.cosh(theta / 4)), rtol=1e-6)
    assert int(sol.nfev) < 10
