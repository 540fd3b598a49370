"""The implicit derivative for solvers of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import implicitax as ix
from problems import X0, Reference, closed_form, reference


def R(x, alpha, beta):
    return reference(x, alpha, beta) - x


def close(actual, desired, tol=1e-10):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=0, atol=tol)


def with_scipy(x0, alpha, beta):
    def F(x):
        F0 = np.sqrt(alpha - x[0] * x[1])
        return np.array([F0, np.sqrt((57 - x[1]) / (beta * F0))]) - x

    return scipy.optimize.fsolve(F, x0, xtol=1e-13)


@ix.custom_root(R)
def by_callback(x0, alpha, beta):
    """NumPy and SciPy inside JAX."""
    struct = jax.ShapeDtypeStruct((2,), jnp.float64)
    return jax.pure_callback(with_scipy, struct, x0, alpha, beta, vmap_method="sequential")


@ix.custom_fixed_point(reference)
def by_loop(x0, alpha, beta):
    return jax.lax.while_loop(
        lambda x: jnp.max(jnp.abs(reference(x, alpha, beta) - x)) > 1e-12, lambda x: reference(x, alpha, beta), x0
    )


@pytest.mark.parametrize("solve", [by_callback, by_loop])
def test_every_transformation(solve):
    x0 = jnp.asarray(X0)
    x, d_alpha, d_beta = closed_form(12.0, 2.5)
    at = lambda a, b: solve(x0, a, b)
    close(at(12.0, 2.5), x)
    close(jax.jit(at)(12.0, 2.5), x)
    for jacobian in (jax.jacfwd, jax.jacrev):
        close(jacobian(at, argnums=(0, 1))(12.0, 2.5), (d_alpha, d_beta))
        close(jax.jit(jacobian(at, argnums=(0, 1)))(12.0, 2.5), (d_alpha, d_beta))
    alphas = jnp.array([9.5, 12.0])
    close(jax.vmap(jax.grad(lambda a: at(a, 2.5)[0]))(alphas), [closed_form(a, 2.5)[1][0] for a in alphas])
    close(
        jax.hessian(lambda a: at(a, 2.5)[0])(12.0),
        jax.hessian(lambda a: ix.fixed_point(reference, X0, a, 2.5).x[0])(12.0),
    )
    assert solve.__name__ in ("by_callback", "by_loop")


def test_numpy_as_it_is_outside_jit():
    @ix.custom_root(R)
    def solve(x0, alpha, beta):
        return with_scipy(np.asarray(x0), float(alpha), float(beta))

    close(jax.jacrev(lambda a: solve(X0, a, 2.5))(12.0), closed_form(12.0, 2.5)[1])
    with pytest.raises(
        TypeError,
        match=r"`custom_root\(solve\)`: expected a solver that JAX can trace, got one that needs .*pure_callback",
    ):
        jax.jit(lambda a: solve(X0, a, 2.5))(12.0)


def test_where_R_holds_the_parameters():
    def x(alpha):
        F = Reference(alpha, 2.5)

        def solve(x0):
            struct = jax.ShapeDtypeStruct((2,), jnp.float64)
            return jax.pure_callback(with_scipy, struct, x0, F.para.alpha, F.para.beta)

        return ix.custom_fixed_point(F)(solve)(X0)

    for jacobian in (jax.jacfwd, jax.jacrev):
        close(jacobian(x)(12.0), closed_form(12.0, 2.5)[1])
        close(jax.jit(jacobian(x))(12.0), closed_form(12.0, 2.5)[1])


def test_a_wrong_answer_is_not_believed():
    bad = ix.custom_fixed_point(reference)(lambda x0, a, b: x0)
    with pytest.raises(
        ix.ConvergenceError, match=r"`custom_fixed_point`: .*does not meet the tolerance.*residual\| = 0\."
    ):
        bad(X0, 10.0, 3.0)
    silent = ix.custom_fixed_point(reference, throw=False)(lambda x0, a, b: x0)
    assert np.all(np.isnan(jax.jacrev(lambda a: silent(X0, a, 3.0))(10.0)))
    loose = ix.custom_fixed_point(reference, rtol=1.0)(lambda x0, a, b: x0)
    close(loose(X0, 10.0, 3.0), X0)


def test_adjoint_and_linear_solver_can_be_chosen():
    import lineax as lx

    exact = ix.custom_root(R, adjoint=ix.Implicit(lx.QR()))(lambda x0, a, b: with_scipy(np.asarray(x0), a, b))
    close(jax.jacrev(lambda a: exact(X0, a, 2.5))(12.0), closed_form(12.0, 2.5)[1])
    one = ix.custom_fixed_point(reference, adjoint=ix.OneStep())(lambda x0, a, b: with_scipy(np.asarray(x0), a, b))
    x = closed_form(12.0, 2.5)[0]
    close(jax.jacrev(lambda a: one(X0, a, 2.5))(12.0), jax.jacfwd(lambda a: reference(jnp.asarray(x), a, 2.5))(12.0))


def test_what_is_decorated_takes_its_arguments_by_name():
    @ix.custom_root(lambda x, a, b: x**2 - a * b)
    def solve(x0, a, b=3.0, *, verbose=False):
        called.append(verbose)
        return jnp.sqrt(a * b)

    called: list[bool] = []
    exact = 3 / (2 * np.sqrt(6))
    assert np.allclose(jax.grad(lambda a: solve(1.0, a, b=3.0))(2.0), exact)
    assert np.allclose(jax.grad(lambda a: solve(x0=1.0, b=3.0, a=a, verbose=True))(2.0), exact)
    assert np.allclose(jax.grad(lambda a: solve(1.0, a=a))(2.0), exact)
    assert np.allclose(jax.jit(jax.grad(lambda b: solve(1.0, 2.0, b=b)))(3.0), 2 / (2 * np.sqrt(6)))
    assert called == [False, True, False, False]
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        solve(1.0, 2.0, c=3.0)
    with pytest.raises(TypeError, match="missing a required argument: 'x0'"):
        solve()
