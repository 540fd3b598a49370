"""What other libraries get wrong, each failure a test: found in jaxopt, Optimistix, Lineax, and rules written by hand.

Nothing is asserted about these libraries themselves. The simplest cases of some failures are in `test_adjoint.py` and
`test_reference.py`; here are those that these do not have.
"""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix

LINEAR_SOLVE_FAILED = r"derivative: .*linear solve of the derivative failed"


def close(actual, desired, tol=1e-9):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=0, atol=tol)


def raises(match):
    """Eagerly our own error, inside `jit` JAX's with our text."""
    return pytest.raises((ix.ConvergenceError, jax.errors.JaxRuntimeError), match=match)


# jaxopt: a batch with one lane that failed has a gradient of garbage in that lane, or of NaN in all.


def logistic(a, throw=False, **keywords):
    """x = a x (1 − x), solved by plain iteration: x = 1 − 1/a, for 1 < a < 3 only."""
    keywords = {"solver": ix.Picard(), "max_steps": 400} | keywords
    return ix.fixed_point(lambda x: a * x * (1 - x), 0.4, throw=throw, **keywords)


GROWTH = np.array([1.5, 3.4, 2.5, 5.0, 2.0])  # of which 3.4 ends in a cycle, finite, and 5 diverges
GOOD = np.array([True, False, True, False, True])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("order", ["grad of vmap", "vmap of grad"])
def test_a_lane_in_a_cycle_and_one_that_diverges(wrap, order):
    def gradient(lane):
        if order == "vmap of grad":
            return wrap(jax.vmap(jax.grad(lane)))(GROWTH)
        return wrap(jax.grad(lambda a: jnp.sum(jax.vmap(lane)(a))))(GROWTH)

    sol = jax.vmap(logistic)(GROWTH)
    np.testing.assert_array_equal(sol.success, GOOD)
    assert np.isfinite(sol.x[1])  # so that nothing but the status tells
    masked = gradient(lambda a: jnp.where((sol := logistic(a)).success, sol.x, 0.0))
    np.testing.assert_array_equal(masked[~GOOD], 0.0)
    close(masked[GOOD], 1 / GROWTH[GOOD] ** 2)
    plain = gradient(lambda a: logistic(a).x)
    assert np.all(np.isnan(plain[~GOOD]))
    close(plain[GOOD], 1 / GROWTH[GOOD] ** 2)


def test_nanmean_over_the_lanes_hides_nothing():
    """A rule by hand, with the mean over rows by `nanmean`: the failed ones were left out without a word."""
    loss = lambda a: jnp.nanmean(jax.vmap(lambda a: logistic(a, throw=True).x)(a))
    for function in (loss, jax.grad(loss), jax.jit(jax.grad(loss))):
        with raises(r"2 of 5 solves failed, at indices 1, 3\."):
            jax.block_until_ready(function(GROWTH))


# jaxopt, Optimistix: `jax_debug_nans` stops the whole batch at the NaN of one lane, although the loss masks it.


@pytest.mark.parametrize(("kind", "n"), [("root", 6), ("fixed_point", 12)])
def test_debug_nans_with_a_failed_lane(kind, n):
    """LAPACK's LU and Anderson's method, neither of which may return a NaN on the way."""
    W = np.random.default_rng(n).normal(size=(n, n)) / (4 * np.sqrt(n))

    def lane(a):
        F = lambda x: jnp.sqrt(a + W @ x)
        if kind == "fixed_point":
            sol = ix.fixed_point(F, jnp.ones(n), throw=False)
        else:
            sol = ix.root(lambda x: F(x) - x, jnp.ones(n), throw=False)
        return jnp.sum(jnp.where(sol.success, sol.x, 0.0))

    def loss(a):
        return jnp.sum(jax.vmap(lane)(a))

    a = np.array([3.0, -5.0, 7.0])
    one_by_one = [float(jax.grad(lane)(ai)) for ai in (3.0, 7.0)]
    with jax.debug_nans(True):
        for gradient in (jax.jit(jax.grad(loss))(a), jax.jit(jax.vmap(jax.grad(lane)))(a)):
            close(gradient, [one_by_one[0], 0.0, one_by_one[1]])
            assert float(gradient[1]) == 0.0
        close(jax.jit(lambda a: jax.jvp(loss, (a,), (jnp.ones(3),))[1])(a), sum(one_by_one))


# jaxopt: the adjoint by a matrix-free solver that has not converged, or is for symmetric matrices only, is returned.
# Lineax: under `vmap` and `throw=False` the result code of a linear solve is lost.

WEAK = {
    "GMRES": lx.GMRES(1e-12, 1e-12, restart=3, max_steps=2),
    "BiCGStab": lx.BiCGStab(1e-12, 1e-12, max_steps=3),
    "CG": lx.Normal(lx.CG(1e-12, 1e-12, max_steps=3)),
}


def far_from_normal(a, n=40):
    """x = a J sin x + b, whose solution for a = 0 is b."""
    rng = np.random.default_rng(1)
    J, b = rng.normal(size=(n, n)) * 3 / np.sqrt(n), rng.normal(size=n)
    return (lambda x: x - a * (J @ jnp.sin(x)) - b), b


@pytest.mark.parametrize("name", WEAK)
def test_matrix_free_adjoint_that_does_not_converge(name):
    def x(a, throw=False, solver=WEAK[name]):
        R, x0 = far_from_normal(a)
        return ix.root(R, x0, solver=ix.Newton(lx.LU()), adjoint=ix.Implicit(solver), throw=throw).x

    first = lambda a: x(a)[0]
    assert np.isnan(jax.grad(first)(0.3))
    assert np.isnan(jax.jit(lambda a: jax.jvp(first, (a,), (1.0,))[1])(0.3))
    if name == "CG":  # where a is 0 the matrix is the identity, and a lane beside it that fails changes nothing
        each = np.asarray(jax.vmap(jax.grad(first))(jnp.array([0.0, 0.3, 0.0])))
        np.testing.assert_array_equal(np.isnan(each), [False, True, False])
        close(each[[0, 2]], jax.grad(lambda a: x(a, solver=lx.LU())[0])(0.0))
    jax.block_until_ready(x(0.3, throw=True))
    for derivative in (
        jax.grad(lambda a: x(a, True)[0]),
        jax.jit(lambda a: jax.jvp(lambda a: x(a, True), (a,), (1.0,))),
    ):
        with raises(LINEAR_SOLVE_FAILED):
            jax.block_until_ready(derivative(0.3))


def cyclic(n, **keywords):
    """xᵢ₋₁ = bᵢ: GMRES makes no progress on it in fewer than n steps."""
    b = jnp.zeros(n).at[0].set(1.0)
    solution = jnp.roll(b, -1)

    def x(a, x0=solution):
        return ix.root(lambda x: jnp.roll(x, 1) - a * b, x0, **keywords)

    return x


def test_default_adjoint_of_a_large_state_where_gmres_stagnates():
    """GMRES finds no correction, so nothing shows that x is a root. By its residual it is, but it has no derivative."""
    krylov = {"solver": ix.NewtonKrylov(starts=4), "throw": False}
    assert not bool(cyclic(1200, **krylov)(1.0).success)
    x = cyclic(1200, **krylov, residual_atol=1e-9)
    assert bool(x(1.0).success)
    assert np.isnan(jax.grad(lambda a: x(a).x[-1])(1.0))
    assert np.isnan(jax.jvp(lambda a: x(a).x[-1], (1.0,), (1.0,))[1])
    # Nor has it one by its structure: a permutation, of which no part of a band can be eliminated by itself.
    assert np.isnan(jax.grad(lambda a: cyclic(1200, throw=False)(a).x[-1])(1.0))


@pytest.mark.parametrize("n", [200, 1200])
def test_newton_krylov_where_gmres_stagnates(n):
    sol = cyclic(n, solver=ix.NewtonKrylov(), throw=False)(1.0, jnp.zeros(n))
    assert not bool(sol.success) or float(sol.residual) < 1e-9


def test_newton_krylov_at_a_stationary_point():
    assert not bool(ix.root(lambda x: x**2 + 1, 0.0, solver=ix.NewtonKrylov(), throw=False).success)


# Optimistix: a root found by a least-squares solver or a minimiser is differentiated as a stationary point of |R|².


def crossing(x, a):
    """x₀² = a x₁ and x₀ x₁ = 3."""
    return jnp.stack([x[0] ** 2 - a * x[1], x[0] * x[1] - 3])


LEAST_SQUARES = {"LevenbergMarquardt": optx.LevenbergMarquardt, "Dogleg": optx.Dogleg, "BFGS": optx.BFGS}


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_the_derivative_of_a_loose_least_squares_solution(name):
    """At the x that is returned, wherever that is: −A⁻¹B, while the second derivatives of |R|² have R in them."""

    def x(a):
        return ix.root(crossing, jnp.ones(2), a, solver=LEAST_SQUARES[name](1e-2, 1e-2), rtol=0.3, atol=0.3).x

    x_star = x(2.0)
    assert np.max(np.abs(crossing(x_star, 2.0))) > 1e-9
    A, B = (jax.jacfwd(crossing, argnums=i)(x_star, 2.0) for i in (0, 1))
    for jacobian in (jax.jacfwd, jax.jacrev):
        close(jacobian(x)(2.0), -np.linalg.solve(A, B), 1e-12)


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_a_stationary_point_that_is_no_root(name):
    """|x² + a|² is least at 0, where it is a², and its derivative there by a stationary point is a confident 0."""

    def solve(a, throw=False):
        R = lambda x: jnp.stack([x[0] ** 2 + a, x[1] - a])
        return ix.root(R, jnp.array([0.5, 0.2]), solver=LEAST_SQUARES[name](1e-8, 1e-8), throw=throw)

    sol = solve(1.0)
    assert int(sol.status) == ix.Status.NOT_A_SOLUTION
    close(sol.x[0], 0.0, 1e-2)
    assert np.all(np.isnan(jax.jacrev(lambda a: solve(a).x)(1.0)))
    assert np.all(np.isnan(jax.jacfwd(lambda a: solve(a).x)(1.0)))
    with raises("does not meet the tolerance"):
        solve(1.0, throw=True)


@pytest.mark.parametrize("which", ["optimistix", "unrolled"])
def test_bounds_are_not_ignored(which):
    """A box that is not kept has to be refused, or the result outside it to be reported."""
    keywords = {
        "optimistix": {"solver": optx.FixedPointIteration(1e-13, 1e-13)},
        "unrolled": {"adjoint": ix.Unrolled(100)},
    }[which]
    try:
        sol = ix.fixed_point(lambda x: 0.5 * x + 5, 1.0, bounds=(0.0, 5.0), throw=False, **keywords)
    except ValueError as error:
        assert "bounds" in str(error)  # noqa: PT017 (either is right)
        return
    assert not bool(sol.success)


# Rules by hand: I − ∂F/∂x singular, inverted by a pseudo-inverse.


def canopy(x, a):
    """The forcing is passed through unchanged, so the equations do not say what it is."""
    return {"leaf": jnp.cos(x["leaf"] * a) / 2 + 0.1 * x["forcing"], "forcing": x["forcing"]}


@pytest.mark.parametrize(("linear_solver", "size"), [(None, 1), (None, 9), (lx.GMRES(1e-10, 1e-10), 1)], ids=str)
def test_a_component_passed_through(linear_solver, size):
    """Reported although the loss does not look at it, in both modes, whatever the linear solver."""

    def leaf(a, throw):
        x0 = {"leaf": jnp.full(size, 0.5), "forcing": jnp.full(size, 2.0)}
        adjoint = ix.Implicit(linear_solver)
        return ix.fixed_point(canopy, x0, a, solver=ix.Picard(), adjoint=adjoint, throw=throw).x["leaf"]

    for derivative in (jax.jacfwd, jax.jacrev):
        assert np.all(np.isnan(derivative(functools.partial(leaf, throw=False))(1.0)))
        with raises(LINEAR_SOLVE_FAILED):
            jax.block_until_ready(jax.jit(derivative(functools.partial(leaf, throw=True)))(1.0))


@pytest.mark.parametrize("solver", [ix.Newton(), ix.Auto()], ids=["Newton", "Auto"])
def test_a_double_root(solver):
    """(x − a)²: there is a root, but no derivative of it by the implicit function theorem. R and A are 0 at once, so
    nothing says that it is one but R by itself; close to it A⁻¹B is right."""

    def solve(a, **keywords):
        return ix.root(lambda x: (x - a) ** 2, a, solver=solver, throw=False, **keywords)  # at once

    sol = solve(2.0, residual_atol=1e-12)
    assert bool(sol.success)
    assert not np.isfinite(jax.grad(lambda a: solve(a, residual_atol=1e-12).x)(2.0))
    sol, derivative = solve(2.0), float(jax.grad(lambda a: solve(a).x)(2.0))
    assert abs(float(sol.x) - 2) < 1e-6
    assert np.isnan(derivative) or (bool(sol.success) and derivative == pytest.approx(1, abs=1e-6))
    assert not bool(ix.root(lambda x: (x - 2.0) ** 2, 2.0, solver=ix.Newton(), throw=False).success)


# jaxopt, and Optimistix under `throw=False`: an unconverged solve has a gradient as any other.


def rounded(value, digits):
    """The value as a table of so many digits has it, none of which is 0; with the derivative that it has without."""
    coarse = (jnp.floor(value * 10.0**digits) + 0.3) / 10.0**digits
    return value + jax.lax.stop_gradient(coarse - value)


UNCONVERGED = {
    "STEP_LIMIT": lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), 1.0, max_steps=1, throw=False),
    "STALLED": lambda a: ix.fixed_point(lambda x: jnp.where(x > 0.5, 0.2, 0.8) + 0.01 * a * x, 0.3, throw=False),
    "NO_PROGRESS": lambda a: ix.fixed_point(lambda x: a - x, 0.2, solver=ix.Picard(), throw=False),
    "NON_FINITE": lambda a: ix.fixed_point(lambda x: jnp.sqrt(a - 9 - x**2), 1.0, throw=False),
    "NON_FINITE_GUESS": lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), jnp.nan, throw=False),
    "SINGULAR": lambda a: ix.root(lambda x: x**2 + a, 0.0, solver=ix.Newton(), throw=False),
    "NOT_A_SOLUTION": lambda a: ix.root(lambda x: x**2 + a, 0.5, solver=optx.Newton(1e-8, 1e-8), throw=False),
    "AT_BOUND": lambda a: ix.fixed_point(lambda x: 0.5 * x + 5 * a, 1.0, bounds=(0.0, 5.0), throw=False),
    "GUESS_OUT_OF_BOUNDS": lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), 2.0, bounds=(0.0, 2.0), throw=False),
    "UNBOUNDED": lambda a: ix.fixed_point(lambda x: x + a / (1 + x**2), 0.0, throw=False),
    "UNRESOLVED": lambda a: ix.root(lambda x: rounded(x**2 - 2 * a, 8), 1.0, throw=False),
    "UNCERTIFIED": lambda a: ix.root(
        lambda x: (x.sum() - a) * jnp.array([1.0, 2.0]), jnp.array([0.2, 0.1]), solver=ix.NewtonKrylov(), throw=False
    ),
}


def test_a_triple_root_by_a_krylov_method_is_no_confident_gradient():
    def solve(a):
        R = lambda x: x**3 - 3 * a * x**2 + 3 * a**2 * x - a**3
        return ix.root(R, 1.7, solver=ix.NewtonKrylov(), throw=False)

    assert not bool(solve(1.0).success)
    assert np.isnan(jax.grad(lambda a: solve(a).x)(1.0))


@pytest.mark.parametrize("status", UNCONVERGED)
def test_whatever_the_failure_no_confident_gradient(status):
    solve = UNCONVERGED[status]
    sol = solve(1.0)
    assert ix.Status(int(sol.status)).name == status
    assert ix.Status(int(sol.status)).text in sol.message
    x = lambda a: jnp.sum(solve(a).x)
    for derivative in (jax.grad(x), jax.jit(jax.jacfwd(x)), lambda a: jax.jvp(x, (a,), (1.0,))[1]):
        assert np.isnan(derivative(1.0))
    assert float(jax.grad(lambda a: jnp.where((sol := solve(a)).success, jnp.sum(sol.x), 3.0))(1.0)) == 0.0


# jaxopt: parameters that F closes over have no gradient, or one at the values of the first call.


def lanes_of_loops(c):
    """a is that of the lane of `vmap`, b that of the `scan` inside it, c that of `grad` around both; none is named."""

    def lane(a):
        def step(carry, b):
            return carry + ix.fixed_point(lambda x: jnp.tanh(a * x + b) / 2 + c, 0.1, throw=False).x, None

        return jax.lax.scan(step, 0.0, jnp.array([0.2, -0.3]))[0]

    return jnp.sum(jax.vmap(lane)(jnp.array([0.5, 0.9, -1.0])))


def test_parameters_of_an_outer_lane_and_of_an_inner_loop():
    step = 1e-5
    difference = (lanes_of_loops(0.3 + step) - lanes_of_loops(0.3 - step)) / (2 * step)
    close(jax.jit(jax.grad(lanes_of_loops))(0.3), difference, 1e-8)


@pytest.mark.parametrize(
    "second", [lambda f: jax.grad(jax.grad(f)), jax.hessian, lambda f: jax.grad(jax.jacfwd(f))], ids=["rr", "fr", "rf"]
)
def test_second_derivatives_through_a_loop(second):
    """Reverse mode takes the `scan` apart, and a `jax.custom_jvp` rule in its body, of any library, is lost by that."""
    step = 1e-4
    slope = lambda c: (lanes_of_loops(c + step) - lanes_of_loops(c - step)) / (2 * step)
    close(second(lanes_of_loops)(0.3), (slope(0.3 + step) - slope(0.3 - step)) / (2 * step), 1e-5)


def carried(a, c):
    return ix.fixed_point(lambda x: jnp.cos(a * x) + c, 0.5).x


@pytest.fixture(scope="module")
def third_derivative_in_python():
    with jax.enable_x64(True):
        return jax.jacfwd(jax.jacfwd(jax.jacfwd(lambda a: carried(a, carried(a, a)))))(0.3)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "checkpoint"])
def test_third_derivatives_through_a_carried_state(wrap, third_derivative_in_python):
    """Against the same loop written in Python, in which nothing is taken apart."""
    in_scan = lambda a: jax.lax.scan(wrap(lambda c, _: (carried(a, c), None)), a, length=2)[0]
    for derivative in (lambda f: jax.grad(jax.grad(jax.grad(f))), lambda f: jax.jacfwd(jax.hessian(f))):
        close(derivative(in_scan)(0.3), third_derivative_in_python, 1e-8)


def test_parameters_set_after_the_first_solve():
    """The derivative is at the values of this call: those of an object, of a `partial`, and of a default."""

    class Model:
        gain = 0.2

        def __call__(self, x):
            return jnp.cos(self.gain * x)

    def x_of(make):
        return lambda gain: ix.fixed_point(make(gain), 0.5).x

    model = Model()

    def changed(gain):
        model.gain = gain
        return model

    makes = [
        changed,
        lambda g: functools.partial(lambda g, x: jnp.cos(g * x), g),
        lambda g: lambda x, g=g: jnp.cos(g * x),
    ]
    for make in makes:
        for gain in (0.2, 0.9):
            x = float(x_of(make)(gain))
            expected = -x * np.sin(gain * x) / (1 + gain * np.sin(gain * x))
            close(jax.grad(x_of(make))(gain), expected)
