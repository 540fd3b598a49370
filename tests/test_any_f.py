"""An F that JAX cannot differentiate, or in one mode only: solved, and right or in words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix


@pytest.fixture(autouse=True, scope="module")
def float64_on_all_threads():
    """XLA may run a callback on a thread of its own, on which `jax.enable_x64` of a test does not hold."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def on_host(function, **keywords):
    in_numpy = lambda *arrays: function(*map(np.asarray, arrays))

    def call(*arrays):
        return jax.pure_callback(in_numpy, jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype), *arrays, **keywords)

    return call


def formula(x, a, np=np):
    """Neither ∂F/∂x nor ∂F/∂a is symmetric."""
    return 0.5 * np.sin(x) + a * np.roll(x, 1) / 3 + 0.3


REFERENCE = lambda x, a: formula(x, a, jnp)
CALLBACK = on_host(formula)


def reverse_only(host):
    """F with a rule for reverse mode, which is code of JAX, or is not."""

    def pull(w, x, a, np=np):
        return 0.5 * np.cos(x) * w + a * np.roll(w, -1) / 3

    @jax.custom_vjp
    def F(x, a):
        return CALLBACK(x, a) if host else REFERENCE(x, a)

    def backward(saved, w):
        x, a = saved
        return (on_host(pull)(w, x, a) if host else pull(w, x, a, jnp)), jnp.sum(w * jnp.roll(x, 1)) / 3

    F.defvjp(lambda x, a: (F(x, a), (x, a)), backward)
    return F


def as_root(F):
    return lambda x, a: F(x, a) - x


A, SIZES = 0.7, (1, 3, 30, 150)


def guess(n):
    return jnp.linspace(0.2, 0.9, n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("solver", [None, ix.Picard(), ix.Anderson(), ix.PseudoTransient(), ix.Newton()], ids=str)
def test_a_fixed_point_without_any_derivative(n, solver):
    sol = ix.fixed_point(CALLBACK, guess(n), A, solver=solver)
    np.testing.assert_allclose(sol.x, ix.fixed_point(REFERENCE, guess(n), A).x, rtol=1e-9)
    if solver is None:
        assert "Anderson" in sol.solver


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("vmap_method", [None, "expand_dims", "sequential"])
def test_a_root_without_any_derivative(n, vmap_method):
    cubic = lambda x, a: x**3 + x - a * np.roll(x, 1) - 1
    R = (
        on_host(cubic, vmap_method=vmap_method)
        if vmap_method != "expand_dims"
        else on_host(_cubic, vmap_method=vmap_method)
    )
    sol = ix.root(R, guess(n), A)
    np.testing.assert_allclose(cubic(np.asarray(sol.x), A), 0, atol=1e-9)
    assert "Ladder" in sol.solver


def _cubic(x, a):
    a = np.reshape(a, np.shape(a) + (1,) * (np.ndim(x) - np.ndim(a)))
    return x**3 + x - a * np.roll(x, 1, axis=-1) - 1


def test_a_root_that_is_none_is_none_without_a_derivative():
    R = on_host(lambda x: x**2 + 1.0)
    assert not ix.root(R, jnp.ones(2), throw=False).success


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("jit", [False, True])
def test_a_derivative_that_there_is_not_is_said_to_be_missing(mode, jit):
    for solve in (ix.fixed_point, ix.root):
        F = CALLBACK if solve is ix.fixed_point else as_root(CALLBACK)
        gradient = mode(lambda a, F=F, solve=solve: solve(F, guess(3), a).x[0])
        name = "fixed_point(F=...)" if solve is ix.fixed_point else "root(R=...)"
        with pytest.raises(TypeError, match=r"is no code of JAX, or has no rule: `pure_callback`.*custom_jvp") as error:
            (jax.jit(gradient) if jit else gradient)(A)
        assert str(error.value).startswith(f"`{name}`: expected a function that JAX can differentiate in")


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_a_rule_for_reverse_mode_is_enough(n, host):
    F, weights = reverse_only(host), jnp.sin(jnp.arange(n) + 1.0)

    def loss(F, kind, **keywords):
        F = F if kind is ix.fixed_point else as_root(F)
        return lambda a: weights @ kind(F, guess(n), a, **keywords).x

    for kind in (ix.fixed_point, ix.root):
        value, slope = jax.value_and_grad(loss(REFERENCE, kind))(A)
        for keywords in ({}, {"solver": ix.Newton()}):
            found = jax.value_and_grad(loss(F, kind, **keywords))(A)
            np.testing.assert_allclose(found, (value, slope), rtol=1e-8)
        np.testing.assert_allclose(jax.jit(jax.jacrev(loss(F, kind)))(A), slope, rtol=1e-8)
        # Forward mode by what reverse mode gives.
        np.testing.assert_allclose(jax.jacfwd(loss(F, kind))(A), slope, rtol=1e-8)


def test_a_rule_for_reverse_mode_above_the_size_of_a_matrix():
    n = 1500
    loss = lambda F: lambda a: jnp.sin(jnp.arange(n) + 1.0) @ ix.fixed_point(F, guess(n), a).x
    np.testing.assert_allclose(jax.grad(loss(reverse_only(False)))(A), jax.grad(loss(REFERENCE))(A), rtol=1e-7)


def test_a_rule_for_reverse_mode_has_all_verdicts():
    @jax.custom_vjp
    def F(x, a):
        return jnp.stack([a * jnp.cos(x[0]), x[1]])

    F.defvjp(
        lambda x, a: (F(x, a), (x, a)),
        lambda at, w: (jnp.stack([-at[1] * jnp.sin(at[0][0]) * w[0], w[1]]), jnp.cos(at[0][0]) * w[0]),
    )
    with pytest.raises(ix.ConvergenceError, match=r"∂R/∂x is singular"):
        jax.grad(lambda a: ix.fixed_point(F, jnp.ones(2), a, solver=ix.Picard()).x[0])(0.5)


def looping(x, a):
    """Three times F, by a loop which JAX does not know the length of."""
    return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (REFERENCE(c[0], a), c[1] + 1), (x, 0))[0]


def test_a_loop_has_forward_mode_and_words_in_reverse():
    solve = lambda F: lambda a: ix.fixed_point(F, guess(3), a).x
    np.testing.assert_allclose(jax.jacfwd(solve(looping))(A), jax.jacfwd(solve(REFERENCE))(A), rtol=1e-8)
    for mode in (jax.jacrev, lambda f: jax.jit(jax.jacrev(f))):
        with pytest.raises(TypeError, match=r"in reverse mode.*`while_loop`.*jacfwd.*lax\.scan.*ix\.fixed_point"):
            mode(solve(looping))(A)


def test_parts_with_one_mode_each_have_none():
    F = lambda x, a: reverse_only(False)(looping(x, a), a)
    assert ix.fixed_point(F, guess(3), 0.3).success
    for mode in (jax.jacrev, jax.jacfwd):
        with pytest.raises(TypeError, match=r"One part of F has a rule for reverse mode only .*, another a loop"):
            mode(lambda a: ix.fixed_point(F, guess(3), a).x)(0.3)


# One solve inside another, in every order of modes.

MODES = {"jvp": jax.jacfwd, "vjp": jax.jacrev}


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("kind", ["fixed_point", "root"])
def test_nested_solves_in_every_order_of_modes(first, second, kind):
    def inner(a):
        if kind == "root":
            return ix.root(lambda x, a: x**3 + jnp.roll(x, 1) - a, jnp.ones(2), jnp.stack([a, 2 * a])).x
        return ix.fixed_point(lambda x, a: jnp.cos(a * jnp.roll(x, 1)) / (1 + x), jnp.full(2, 0.5), a).x

    def outer(a):
        F = lambda y, a: 0.5 * jnp.sin(y) + 0.5 * inner(a)[0] + 0.1 * inner(0.5 + y / 9)[1]
        return ix.fixed_point(F, 0.1, a).x

    slope = MODES[first](outer)
    curvature = MODES[second](slope)(0.9)
    step = 1e-4
    np.testing.assert_allclose(slope(0.9), (outer(0.9 + step) - outer(0.9 - step)) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(curvature, (slope(0.9 + step) - slope(0.9 - step)) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(MODES[second](slope))(0.9), curvature, rtol=1e-7)
    lanes = jax.vmap(MODES[second](slope))(jnp.array([0.9, 1.1]))
    np.testing.assert_allclose(lanes[0], curvature, rtol=1e-7)


def test_history_under_debug_nans():
    with jax.debug_nans(True):
        sol = ix.fixed_point(jnp.cos, 0.5, history=True)
        assert sol.success
        assert bool(
            jax.jit(lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), 0.5, history=True, throw=False).success)(1.0)
        )


def test_numbers_of_python_as_tangents_and_cotangents():
    """Where lanes have parameters of their own, or directions."""
    solve = lambda a: ix.fixed_point(lambda x: 0.5 * jnp.cos(a * x), 0.5).x
    a = jnp.array([0.7, 1.2])
    slopes = jnp.stack([jax.grad(solve)(each) for each in a])
    np.testing.assert_allclose(jax.vmap(lambda a: jax.vjp(solve, a)[1](1.0)[0])(a), slopes, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(lambda a: jax.jvp(solve, (a,), (1.0,))[1])(a), slopes, rtol=1e-12)
    several = jax.vmap(lambda w: jax.vjp(solve, 0.7)[1](w)[0])(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(several, slopes[0] * jnp.array([1.0, -2.0]), rtol=1e-12)
