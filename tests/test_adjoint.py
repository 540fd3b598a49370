"""The rule: what it costs, what it does for failed solves, and that it is right where maps are not simple."""

import functools

import equinox as eqx
import jax
import jax.export
import jax.extend.core as jex_core
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import implicitax as ix
from problems import X0, Reference, closed_form, reference, unrolled


def close(actual, desired, tol=1e-10):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=0, atol=tol)


def count(jaxpr, name):
    """How often a primitive stands in a jaxpr, sub-jaxprs included."""
    total = 0
    for eqn in jaxpr.eqns:
        total += eqn.primitive.name == name
        for param in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(param, "jaxpr", param)
            if hasattr(inner, "eqns"):
                total += count(inner, name)
    return total


def dense(n, seed, radius=0.9):
    """x = tanh(W x + b + U θ): neither A nor B symmetric."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, n)) / np.sqrt(n) * radius
    U = rng.normal(size=(n, 3))
    b = rng.normal(size=n)

    def F(x, theta):
        return jnp.tanh(W @ x + b + U @ theta)

    return F


# Cost.


def test_one_adjoint_solve_for_one_scalar_output():
    def loss(alpha, beta):
        return ix.fixed_point(reference, X0, alpha, beta, throw=False).x[0]

    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(10.0, 3.0).jaxpr
    assert count(jaxpr, "implicitax_system") == 1


@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
def test_one_factorisation_for_a_whole_jacobian(jacobian):
    F = dense(20, 0)

    def solve(theta):
        return ix.fixed_point(F, jnp.zeros(20), theta, solver=ix.Anderson(), throw=False).x

    theta = jnp.ones(3)
    text = jax.jit(jacobian(solve)).lower(theta).as_text()
    # Twenty cotangents or three tangents, and yet one LU decomposition, of one matrix.
    # (The other one in the text is that of Anderson's small least-squares problem.)
    calls = [line for line in text.splitlines() if "lapack_dgetrf" in line and "x20xf64" in line]
    assert len(calls) == 1
    assert "tensor<20x20xf64>" in calls[0]


@pytest.mark.parametrize("n", [2, 50, 1200])
@pytest.mark.parametrize("solver", [ix.Picard(), ix.Newton(), ix.Auto()], ids=str)
def test_how_often_F_is_lowered(n, solver):
    """Once for the value, whatever the method; the derivative adds one linearisation for A and one for B.

    By default a simple F is in the first attempt too, which has one loop, or two for a few unknowns, and one of up to
    300 unknowns, or with a structure, in the Newton's steps that are taken where all else has failed.
    """

    def solve(a):
        F = lambda x: jax.lax.lgamma(a * x + 2) / 4 + 0.1 * x[::-1]
        return ix.fixed_point(F, jnp.ones(n), solver=solver, throw=False).x

    def times(f):
        return jax.jit(f).lower(1.0).as_text().count("chlo.lgamma")

    attempts = 2 if isinstance(solver, ix.Auto) else 0
    assert times(solve) == 1 + attempts
    assert times(jax.grad(lambda a: solve(a).sum())) <= 3 + attempts
    assert times(jax.jacfwd(solve)) <= 3 + attempts


def test_an_F_of_many_operations_is_lowered_once():
    def F(x, a):
        for i in range(200):
            x = 0.9 * jnp.sin(x + a / (1 + i))
        return jax.lax.lgamma(x + 2)

    text = jax.jit(lambda a: ix.fixed_point(F, jnp.ones(2), a, throw=False).x).lower(1.0).as_text()
    assert text.count("chlo.lgamma") == 1


def test_no_reduction_in_a_small_solve():
    """Each costs XLA on CPU 0.3 µs a call, also in the robust method behind its branch. (A scalar's is no work.)"""
    jaxpr = jax.make_jaxpr(lambda a: ix.fixed_point(reference, X0, a, 3.0, throw=False).x)(10.0)
    reducing = ("reduce", "arg", "dot_general", "sort")
    found = [eqn for eqn in _all_eqns(jaxpr.jaxpr) if eqn.primitive.name.startswith(reducing)]
    assert not [eqn.primitive.name for eqn in found if any(var.aval.ndim for var in eqn.invars)]


def test_a_derivative_does_not_print_F():
    """JAX prints what it differentiates in every call of `jacrev`."""
    _, pullback = jax.vjp(lambda a: ix.fixed_point(reference, X0, a, 3.0, throw=False).x, 10.0)
    assert "<fixed_point of 2 unknowns>" in str(pullback)
    assert "sqrt" not in str(pullback)


def test_export_without_throw():
    def gradient(a):
        return jax.grad(lambda a: ix.fixed_point(reference, X0, a, 3.0, throw=False).x[0])(a)

    exported = jax.export.export(jax.jit(gradient))(jnp.asarray(12.0))
    close(exported.call(jnp.asarray(12.0)), closed_form(12.0, 3.0)[1][0])
    assert "callback" not in exported.mlir_module()


def test_only_perturbed_parameters_are_differentiated():
    """A large array that nobody differentiates by is not in the derivative's linear system."""
    weights = jnp.ones((50, 50)) / 100

    def solve(W, b):
        return ix.fixed_point(lambda x: jnp.tanh(W @ x + b), jnp.zeros(50), throw=False).x

    b = jnp.ones(50)
    jaxpr = jax.make_jaxpr(lambda b: jax.jvp(lambda b: solve(weights, b), (b,), (b,)))(b)
    (eqn,) = [eqn for eqn in _all_eqns(jaxpr.jaxpr) if eqn.primitive.name == "implicitax_system"]
    assert all(var.aval.shape != (50, 50) for var in eqn.outvars)


def _all_eqns(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jex_core.jaxprs_in_params(eqn.params):
            yield from _all_eqns(inner)


def test_memory_does_not_grow_with_iterations():
    def temporary(steps, adjoint=None):
        def loss(alpha):
            sol = ix.fixed_point(
                reference,
                X0,
                alpha,
                3.0,
                solver=ix.Picard(),
                rtol=0,
                atol=0,
                max_steps=steps,
                adjoint=adjoint,
                throw=False,
            )
            return sol.x[0]

        return jax.jit(jax.grad(loss)).lower(10.0).compile().memory_analysis().temp_size_in_bytes

    assert temporary(10_000) == temporary(10)
    assert temporary(10_000, ix.Unrolled(10_000)) >= 9990 * 2 * 8


# Exactness.


@functools.cache
def dense_derivative(n, theta):
    F = dense(n, 1, radius=0.5)
    return jax.jacfwd(lambda theta: unrolled(lambda x: F(x, theta), jnp.zeros(n), 600))(jnp.array(theta))


@pytest.mark.parametrize("n", [1, 2, 6, 7, 40])
@pytest.mark.parametrize("linear_solver", [None, lx.LU(), lx.QR(), ix.SmallLU(), lx.GMRES(1e-13, 1e-13)], ids=str)
def test_linear_solvers(n, linear_solver):
    if isinstance(linear_solver, ix.SmallLU) and n > 7:
        pytest.skip("its compile time grows as n³")
    F, theta = dense(n, 1, radius=0.5), jnp.array([0.2, -0.4, 0.7])

    def solve(theta):
        return ix.fixed_point(
            F, jnp.zeros(n), theta, adjoint=ix.Implicit(linear_solver), solver=ix.Newton(), rtol=1e-13, atol=1e-13
        ).x

    naive = dense_derivative(n, tuple(theta.tolist()))
    close(jax.jacfwd(solve)(theta), naive)
    close(jax.jacrev(solve)(theta), naive)


def test_default_linear_solver_by_size_is_visible():
    for n, name in ((2, "SmallLU"), (50, "DenseLU"), (200, "Krylov"), (1200, "Krylov")):
        sol = ix.fixed_point(lambda x: 0.5 * jnp.cos(x + jnp.mean(x)), jnp.zeros(n))  # of no structure
        assert sol.linear_solver.startswith(name)
    sol = ix.fixed_point(jnp.cos, 1.0, adjoint=ix.Implicit(lx.QR()))
    assert sol.linear_solver.startswith("QR")


def test_matrix_free_large():
    n = 3000
    rng = np.random.default_rng(3)
    shift = jnp.asarray(rng.normal(size=n))

    def F(x, theta):
        return jnp.tanh(theta[0] * x + 0.5 * jnp.roll(x, 1) + theta[1] * shift)

    def loss(theta):
        return jnp.sum(jnp.arange(n) / n * ix.fixed_point(F, jnp.zeros(n), theta).x)

    def naive(theta):
        return jnp.sum(jnp.arange(n) / n * unrolled(lambda x: F(x, theta), jnp.zeros(n), 300))

    theta = jnp.array([0.2, 0.6])
    np.testing.assert_allclose(jax.grad(loss)(theta), jax.grad(naive)(theta), rtol=1e-8)
    np.testing.assert_allclose(jax.jvp(loss, (theta,), (theta,))[1], jax.jvp(naive, (theta,), (theta,))[1], rtol=1e-8)
    x = ix.root(lambda x, theta: F(x, theta) - x, jnp.zeros(n), theta).x
    close(x, unrolled(lambda x: F(x, theta), jnp.zeros(n), 300), 1e-8)


def test_affine_map_in_every_order():
    """R linear in x and θ: second derivatives are 0, and JAX sees that some blocks have no derivative at all."""

    def solve(b):
        return ix.fixed_point(lambda x: 0.5 * x[::-1] + b, jnp.zeros(2)).x

    b = jnp.array([1.0, 2.0])
    close(jax.jacrev(solve)(b), np.linalg.inv([[1, -0.5], [-0.5, 1]]))
    for hessian in (jax.hessian(solve), jax.jacrev(jax.jacfwd(solve)), jax.jacrev(jax.jacrev(solve))):
        np.testing.assert_array_equal(hessian(b), np.zeros((2, 2, 2)))


def test_mixed_dtypes_keep_theirs():
    def F(x, a):
        p, q = x["p"], x["q"]
        return {"p": jnp.cos(0.5 * p * a.astype(jnp.float32)) + 0.1 * q.astype(jnp.float32), "q": jnp.sin(p + a) / 3}

    x0 = {"p": jnp.float32(0.5), "q": np.float64(0.5)}
    a = jnp.asarray(np.float64(0.7))
    x, J = (f(a) for f in (lambda a: ix.fixed_point(F, x0, a).x, jax.jacrev(lambda a: ix.fixed_point(F, x0, a).x)))
    assert (x["p"].dtype, x["q"].dtype) == (jnp.float32, jnp.float64)
    naive = jax.jacfwd(lambda a: unrolled(lambda x: F(x, a), x0, 100))(a)
    close(J["p"], naive["p"], 1e-5)
    close(J["q"], naive["q"], 1e-5)


def test_complex_state_of_a_map_that_is_not_holomorphic():
    def F(z, c):
        return c * jnp.conj(z) ** 2 + 0.3j * jnp.real(z) + (0.2 - 0.1j)

    def solve(c):
        return ix.fixed_point(F, jnp.zeros(2, complex), c).x

    def naive(c):
        return unrolled(lambda z: F(z, c), jnp.zeros(2, complex), 200)

    c = jnp.array([0.3 + 0.2j, -0.1 + 0.4j])
    z = solve(c)
    assert z.dtype == jnp.complex128
    close(F(z, c), z)
    tangent = jnp.array([0.7 - 0.2j, 1j])
    close(jax.jvp(solve, (c,), (tangent,))[1], jax.jvp(naive, (c,), (tangent,))[1])
    step = 1e-6
    difference = (solve(c + step * tangent) - solve(c - step * tangent)) / (2 * step)
    close(jax.jvp(solve, (c,), (tangent,))[1], difference, 1e-8)
    cotangent = jnp.array([1 - 2j, 0.5j])
    close(jax.vjp(solve, c)[1](cotangent)[0], jax.vjp(naive, c)[1](cotangent)[0])

    def loss(f):
        return lambda c: jnp.sum(jnp.abs(f(c)) ** 2)

    close(jax.grad(loss(solve))(c), jax.grad(loss(naive))(c))
    closed = jax.grad(lambda c: loss(lambda c: ix.fixed_point(lambda z: F(z, c), jnp.zeros(2, complex)).x)(c))(c)
    close(closed, jax.grad(loss(naive))(c))


def test_integer_and_static_leaves_in_F():
    class Layered(eqx.Module):
        weight: jax.Array
        index: jax.Array
        count: int
        activation: object
        key: jax.Array
        label: str = eqx.field(static=True)

        def __call__(self, x):
            for _ in range(self.count):
                x = self.activation(self.weight[self.index] * x + 1)
            return x

    def make(weight):
        return Layered(weight, jnp.array([2, 0]), 2, jnp.tanh, jax.random.key(0), "leaf")

    def solve(weight):
        return ix.fixed_point(make(weight), jnp.zeros(2)).x

    weight = jnp.array([0.3, 5.0, -0.4])
    naive = jax.jacfwd(lambda w: unrolled(make(w), jnp.zeros(2), 100))(weight)
    close(jax.jacrev(solve)(weight), naive)
    gradient = eqx.filter_grad(lambda F: ix.fixed_point(F, jnp.zeros(2)).x.sum())(make(weight))
    close(gradient.weight, naive.sum(0))


def test_aux_has_the_derivative_at_the_solution():
    def F(x, a):
        y = reference(x, a, 3.0)
        return y, {"heat": a * y[0] ** 2 + x[1], "count": jnp.asarray(3), "name": "sunlit"}

    sol = ix.fixed_point(F, X0, 12.0, has_aux=True)
    x, d_alpha, _ = closed_form(12.0, 3.0)
    close(sol.aux["heat"], 12 * x[0] ** 2 + x[1])
    assert sol.aux["name"] == "sunlit"
    assert int(sol.aux["count"]) == 3
    expected = x[0] ** 2 + 24 * x[0] * d_alpha[0] + d_alpha[1]

    def heat(a):
        return ix.fixed_point(F, X0, a, has_aux=True).aux["heat"]

    for derivative in (jax.grad(heat), jax.jacfwd(heat), jax.jit(jax.grad(heat))):
        close(derivative(12.0), expected)
    both = jax.grad(lambda a: (lambda s: s.aux["heat"] + s.x[1])(ix.fixed_point(F, X0, a, has_aux=True)))(12.0)
    close(both, expected + d_alpha[1])
    second = jax.grad(jax.grad(heat))(12.0)
    step = 1e-4
    close(second, (jax.grad(heat)(12.0 + step) - jax.grad(heat)(12.0 - step)) / (2 * step), 1e-6)
    unrolled_aux = jax.grad(lambda a: ix.fixed_point(F, X0, a, has_aux=True, adjoint=ix.Unrolled(300)).aux["heat"])
    close(unrolled_aux(12.0), expected)


def test_implicit_inside_implicit():
    """Outer: y = cos(x(y, a)) / 2, inner: x = tanh(a x + y) / 2."""

    def inner(y, a):
        return ix.fixed_point(lambda x: jnp.tanh(a * x + y) / 2, 0.1).x

    def outer(a):
        return ix.fixed_point(lambda y: jnp.cos(inner(y, a)) / 2, 0.2).x

    def naive(a):
        F = lambda y: jnp.cos(unrolled(lambda x: jnp.tanh(a * x + y) / 2, 0.1 * jnp.ones(()), 100)) / 2
        return unrolled(F, 0.2 * jnp.ones(()), 60)

    close(outer(0.7), naive(0.7))
    close(jax.grad(outer)(0.7), jax.grad(naive)(0.7))
    close(jax.jit(jax.jacfwd(outer))(0.7), jax.grad(naive)(0.7))
    close(jax.grad(jax.grad(outer))(0.7), jax.jacfwd(jax.jacfwd(naive))(0.7))
    close(jax.vmap(jax.grad(outer))(jnp.array([0.7, -0.2])), [jax.grad(naive)(a) for a in (0.7, -0.2)])


# Approximations.


def test_one_step_and_neumann():
    alpha = 12.0
    x = ix.fixed_point(reference, X0, alpha, 2.5).x
    J = np.asarray(jax.jacfwd(lambda x: reference(x, alpha, 2.5))(x))
    B = np.asarray(jax.jacfwd(lambda a: reference(x, a, 2.5))(alpha))
    for terms, adjoint in ((0, ix.OneStep()), (0, ix.Neumann(0)), (1, ix.Neumann(1)), (7, ix.Neumann(7))):
        solve = lambda a: ix.fixed_point(reference, X0, a, 2.5, adjoint=adjoint).x
        expected = sum(np.linalg.matrix_power(J, k) @ B for k in range(terms + 1))
        close(jax.jacfwd(solve)(alpha), expected)
        close(jax.jacrev(solve)(alpha), expected)
    exact = closed_form(alpha, 2.5)[1]
    close(jax.jacrev(lambda a: ix.fixed_point(reference, X0, a, 2.5, adjoint=ix.Neumann(60)).x)(alpha), exact)


def test_unrolled_root_by_newton():
    def solve(a, adjoint):
        return ix.root(lambda x: reference(x, a, 2.5) - x, X0, adjoint=adjoint).x

    close(jax.jacrev(lambda a: solve(a, ix.Unrolled(10)))(12.0), closed_form(12.0, 2.5)[1])


# Failed solves.


def lanes(throw=False, **keywords):
    """x = √(a − x) + shift with one lane outside its domain, from a guess that may be NaN."""

    def one(a, x0=1.0):
        return ix.fixed_point(lambda x: jnp.sqrt(a - x) + 0.1, x0, throw=throw, **keywords)

    return one


A = np.array([3.0, -5.0, 7.0])


def masked(sol):
    return jnp.where(sol.success, sol.x, 0.0)


@pytest.mark.parametrize("debug_nans", [False, True])
def test_a_failed_lane_masked_has_gradient_zero(debug_nans):
    one = lanes()
    good = [jax.grad(lambda a: one(a).x)(a) for a in (3.0, 7.0)]
    expected = [good[0], 0.0, good[1]]

    def loss(a):
        return jnp.sum(jax.vmap(lambda a: masked(one(a)))(a))

    with jax.debug_nans(debug_nans):
        for gradient in (
            jax.grad(loss)(A),
            jax.jit(jax.grad(loss))(A),
            # Eagerly the tangent of the failed lane, a NaN, would be returned before it is masked.
            jax.jit(jax.jacfwd(loss))(A) if debug_nans else jax.jacfwd(loss)(A),
            jax.vmap(jax.grad(lambda a: masked(one(a))))(A),
        ):
            close(gradient, expected)
            assert float(gradient[1]) == 0.0
        jvp = jax.jit(lambda a: jax.jvp(loss, (a,), (jnp.ones(3),))[1])
        assert np.isfinite(jvp(A))


def test_a_failed_lane_not_masked_has_gradient_nan():
    one = lanes()

    def solve(a):
        return jax.vmap(lambda a: one(a).x)(a)

    for gradient in (jax.vmap(jax.grad(lambda a: one(a).x))(A), jnp.diagonal(jax.jacfwd(solve)(A))):
        assert np.isnan(gradient[1])
        assert np.all(np.isfinite(gradient[jnp.array([0, 2])]))


@pytest.mark.default_flags
def test_a_failed_lane_changes_no_other_by_a_bit():
    one = lanes()

    def values(a):
        sols = jax.vmap(one)(a)
        return sols.x, jax.vmap(jax.grad(lambda a: one(a).x))(a)

    keep = np.array([0, 2])
    for f in (values, jax.jit(values)):
        with_failed, without = f(A), f(np.array([3.0, 4.0, 7.0]))
        for a, b in zip(with_failed, without):
            np.testing.assert_array_equal(np.asarray(a)[keep], np.asarray(b)[keep])


def test_a_lane_that_starts_at_nan():
    one = lanes()

    def loss(a, x0):
        return jnp.sum(jax.vmap(lambda a, x0: masked(one(a, x0)))(a, x0))

    a, x0 = jnp.array([3.0, 5.0, 7.0]), jnp.array([1.0, jnp.nan, 1.0])
    gradient = jax.grad(loss)(a, x0)
    assert float(gradient[1]) == 0.0
    close(gradient[0], jax.grad(lambda a: one(a).x)(3.0))
    nan_parameter = jax.grad(loss)(jnp.array([3.0, jnp.nan, 7.0]), jnp.ones(3))
    assert float(nan_parameter[1]) == 0.0


def test_aux_of_a_failed_lane():
    def one(a):
        F = lambda x: (jnp.sqrt(a - x) + 0.1, jnp.sqrt(a - x) * a)
        return ix.fixed_point(F, 1.0, has_aux=True, throw=False)

    def loss(a):
        return jnp.sum(jax.vmap(lambda a: (lambda s: jnp.where(s.success, s.aux, 0.0))(one(a)))(a))

    for gradient in (jax.grad(loss)(A), jax.jacfwd(loss)(A)):
        assert float(gradient[1]) == 0.0
        close(gradient[0], jax.grad(lambda a: one(a).aux)(3.0))
    assert np.isnan(jax.grad(lambda a: one(a).aux)(-5.0))


def test_unconverged_gradient_is_nan_or_an_error():
    def x0(a, throw):
        return ix.fixed_point(reference, X0, a, 3.0, max_steps=2, throw=throw).x[0]

    assert np.isnan(jax.grad(x0)(10.0, False))
    with pytest.raises(ix.ConvergenceError, match="max_steps"):
        jax.grad(x0)(10.0, True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="max_steps"):
        jax.jit(lambda a: jax.grad(x0)(a, True))(10.0)


def test_throw_under_vmap_names_the_indices():
    one = lanes(throw=True)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"2 of 4 solves failed, at indices 1, 3\."):
        jax.jit(jax.vmap(lambda a: one(a).x))(jnp.array([3.0, -5.0, 7.0, -1.0]))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"1 of 6 solves failed, at index \(1, 2\)\."):
        jax.jit(jax.vmap(jax.vmap(lambda a: one(a).x)))(jnp.array([[3.0, 4, 5], [6, 7, -5]])).block_until_ready()


@pytest.mark.parametrize("linear_solver", [None, lx.LU(), lx.GMRES(1e-10, 1e-10)], ids=str)
def test_singular_matrix_is_loud(linear_solver):
    """A component passed through unchanged: I − ∂F/∂x has a zero row."""

    def solve(a, throw):
        F = lambda x: jnp.stack([jnp.cos(x[0]) * a, x[1]])
        return ix.fixed_point(
            F, jnp.array([0.5, 2.0]), solver=ix.Picard(), adjoint=ix.Implicit(linear_solver), throw=throw
        ).x.sum()

    assert np.isnan(jax.grad(solve)(1.0, False))
    assert np.isnan(jax.jvp(lambda a: solve(a, False), (1.0,), (1.0,))[1])
    for derivative in (jax.grad(solve), jax.jit(jax.grad(solve), static_argnums=1)):
        with pytest.raises(Exception, match=r"derivative: .*linear solve of the derivative failed"):
            jax.block_until_ready(derivative(1.0, True))


def test_linear_solver_that_does_not_converge_is_loud():
    F, theta = dense(30, 5, radius=3.0), jnp.ones(3)
    weak = ix.Implicit(lx.GMRES(1e-12, 1e-12, restart=2, max_steps=1))

    def solve(theta, throw):
        return ix.root(lambda x, t: F(x, t) - x, jnp.zeros(30), theta, adjoint=weak, throw=throw).x.sum()

    assert np.all(np.isnan(jax.grad(solve)(theta, False)))
    with pytest.raises(Exception, match="linear solve of the derivative failed"):
        jax.block_until_ready(jax.grad(solve)(theta, True))


def test_it_is_the_root_that_is_differentiated_not_least_squares():
    import optimistix as optx

    def solve(a, b):
        R = lambda x: jnp.stack([x[0] ** 2 - a * x[1], x[0] * x[1] - b])
        return ix.root(R, jnp.array([1.0, 1.0]), solver=optx.LevenbergMarquardt(1e-10, 1e-10)).x

    # x₀³ = a b, x₁ = x₀²/a
    x0 = (2.0 * 3.0) ** (1 / 3)
    close(solve(2.0, 3.0), (x0, x0**2 / 2))
    close(jax.grad(lambda a: solve(a, 3.0)[0])(2.0), 3.0 * x0**-2 / 3, 1e-8)


def test_linear_debug_print_in_F(capfd):
    def F(x, a):
        jax.debug.print("x={}", x)
        return jnp.cos(a * x)

    jax.grad(lambda a: ix.fixed_point(F, 1.0, a).x)(1.0)
    jax.effects_barrier()
    assert "x=" in capfd.readouterr().out


def test_module_with_solver_damping_as_parameter():
    """A traced damping changes the path, not the solution: its derivative is 0."""

    def solve(damping):
        return ix.fixed_point(Reference(), X0, solver=ix.Picard(damping)).x[0]

    close(solve(jnp.asarray(0.8)), 2.0, 1e-9)
    assert float(jax.grad(solve)(jnp.asarray(0.8))) == 0.0


@pytest.mark.parametrize("adjoint", [ix.Implicit(), ix.OneStep(), ix.Neumann(3), ix.Unrolled(200)], ids=str)
def test_the_error_estimate_is_that_of_x_under_every_adjoint(adjoint):
    """x ← 0.99 x + 0.01, stopped far too early: the error of x is a hundred times its residual."""
    F = lambda x: 0.99 * x + 0.01
    options = {"atol": 1e-3, "rtol": 0.0, "error_estimate": True, "throw": False}
    sol = ix.fixed_point(F, jnp.zeros(2), solver=ix.Picard(), adjoint=adjoint, **options)
    assert 0.09 < abs(float(sol.x[0]) - 1) < 0.14
    np.testing.assert_allclose(sol.error, 1 - sol.x[0], rtol=1e-9)


def test_polishing_stays_inside_the_bounds():
    """√x = a, stopped where Newton's step would lead to x < 0: F is evaluated strictly inside, and nothing is NaN."""
    R = lambda x, a: jnp.sqrt(x) - a
    options = {"solver": ix.Broyden(), "bounds": (0.0, None), "residual_atol": 0.2}

    def solve(a, polish):
        return ix.root(R, 0.04, a, adjoint=ix.Implicit(polish=polish), **options).x

    x = float(solve(0.01, True))
    assert x - (np.sqrt(x) - 0.01) * 2 * np.sqrt(x) < 0
    # At nine tenths of the way to the bound, −B/A = 2√(x/10).
    assert float(jax.grad(solve)(0.01, True)) == pytest.approx(2 * np.sqrt(x / 10), rel=1e-9)
    assert float(jax.grad(solve)(0.01, False)) == pytest.approx(2 * np.sqrt(x), rel=1e-9)


def guarded(a):
    return jnp.where(a > 0, jnp.sqrt(a), 0.0)


@pytest.mark.parametrize("n", [2, 20, 200])
def test_where_reverse_mode_meets_a_nan_it_says_so(n):
    """The branch not taken has the derivative 1/(2√0); 0 times it is NaN, in reverse mode only."""

    def solve(a, throw=True):
        return jnp.sum(ix.fixed_point(lambda x: 0.5 * jnp.sin(x) + 1 + guarded(a), jnp.ones(n), throw=throw).x)

    assert float(jax.jacfwd(solve)(0.0)) == 0
    with pytest.raises(Exception, match="∂F/∂θ is NaN at the solution, in reverse mode"):
        jax.grad(solve)(0.0)
    assert np.isnan(jax.grad(solve)(0.0, throw=False))
    assert np.isfinite(jax.grad(solve)(0.3))
    # A NaN of the caller's own is no reason to blame F; nor is an infinite derivative, which is right.
    with pytest.raises(Exception, match="the cotangent of the solution is NaN already"):
        jax.grad(lambda a: jnp.nan * solve(a))(0.3)
    steep = lambda a: jnp.sum(ix.fixed_point(lambda x: 0.5 * jnp.sin(x) + 1 + jnp.sqrt(a), jnp.ones(n)).x)
    assert np.isinf(jax.grad(steep)(0.0))


def test_where_forward_mode_meets_a_nan_it_says_so():
    solve = lambda a: ix.fixed_point(lambda x: 0.5 * jnp.sin(x) + 1 + jnp.sqrt(a) * a, 1.0).x
    with pytest.raises(Exception, match=r"∂F/∂θ is NaN at the solution\. Look"):
        jax.jacfwd(solve)(0.0)
