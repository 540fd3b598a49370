"""What stands for the derivative of a solve that has failed: `Implicit(failed=...)`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix

N = 5
SLOW = 2  # the row that misses the tolerance


def F(x, theta):
    """A contraction of each row, one of which is slow; not symmetric."""
    W, rate, b = theta
    return rate * jnp.tanh(x @ W) + b


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    W = np.linalg.qr(rng.normal(size=(N, N)))[0].astype(dtype)
    rate = np.full((4, 1), 0.3, dtype)
    rate[SLOW] = 0.9999
    b = (0.1 * rng.normal(size=(4, N))).astype(dtype)
    return jnp.asarray(W), jnp.asarray(rate), jnp.asarray(b)


def lanes(theta, **keywords):
    W, rate, b = theta
    one = lambda rate, b: ix.fixed_point(lambda x: F(x, (W, rate, b)), jnp.zeros(N, b.dtype), **keywords)
    return jax.vmap(one)(rate, b)


def rows(theta, **keywords):
    return ix.fixed_point(F, jnp.zeros_like(theta[2]), theta, batch_axis=0, **keywords)


def solve(way, failed, theta, **keywords):
    adjoint = ix.Implicit(failed=failed)
    steps = 60 if theta[2].dtype == np.float64 else 14
    return way(theta, adjoint=adjoint, solver=ix.Picard(), max_steps=steps, throw=False, **keywords)


def loss(x):
    return jnp.sum(jnp.sin(x) * jnp.arange(1.0, x.size + 1, dtype=x.dtype).reshape(x.shape))


def wanted(theta, slow):
    """The gradient by W, rate and b, where the slow row is what `slow(theta)` gives."""

    def total(theta):
        good = jnp.arange(4) != SLOW
        x, _ = jax.lax.scan(lambda x, _: (F(x, theta), None), jnp.zeros_like(theta[2]), length=200)
        return loss(jnp.where(good[:, None], x, slow(theta)))

    return jax.grad(total)(theta)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", [lanes, rows])
def test_left_out_or_one_step(way, dtype):
    theta = parameters(dtype)
    sol = solve(way, "nan", theta)
    np.testing.assert_array_equal(sol.success, np.arange(4) != SLOW)
    last = sol.x
    expected = {
        "zero": wanted(theta, lambda theta: last),
        "one_step": wanted(theta, lambda theta: F(jax.lax.stop_gradient(last), theta)),
    }
    # One step is a derivative at the last x, of a function whose value is the next.
    tolerance = {"zero": 1e-7 if dtype == np.float64 else 2e-3, "one_step": 1e-2}
    for failed, right in expected.items():
        found = jax.jit(jax.grad(lambda theta, f=failed: loss(solve(way, f, theta).x)))(theta)
        for a, b in zip(found, right):
            np.testing.assert_allclose(a, b, rtol=tolerance[failed], atol=tolerance[failed] * np.abs(b).max())
    gradient = jax.grad(lambda theta: loss(solve(way, "nan", theta).x))(theta)
    assert np.isnan(gradient[0]).all()


@pytest.mark.parametrize("way", [lanes, rows])
def test_forward_is_the_transpose(way):
    theta = parameters()
    rng = np.random.default_rng(1)
    dot = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), theta)
    bar = jnp.asarray(rng.normal(size=(4, N)))
    for failed in ("zero", "one_step"):
        x = lambda theta, f=failed: solve(way, f, theta).x
        _, x_dot = jax.jvp(x, (theta,), (dot,))
        _, pullback = jax.vjp(x, theta)
        back = sum(jnp.vdot(a, b) for a, b in zip(pullback(bar)[0], dot))
        np.testing.assert_allclose(jnp.vdot(bar, x_dot), back, rtol=1e-9)
        slow = x_dot[SLOW]
        if failed == "zero":
            np.testing.assert_array_equal(slow, 0)
        else:
            at = solve(way, failed, theta).x[SLOW]
            (W, rate, b), (W_dot, rate_dot, b_dot) = theta, dot
            point, direction = (W, rate[SLOW], b[SLOW]), (W_dot, rate_dot[SLOW], b_dot[SLOW])
            _, one = jax.jvp(lambda *theta, at=at: F(at, theta), point, direction)
            np.testing.assert_allclose(slow, one, rtol=1e-9)


@pytest.mark.parametrize("way", [lanes, rows])
def test_second_derivatives_and_aux_of_what_is_left_out(way):
    theta = parameters()

    def with_aux(theta):
        W, rate, b = theta
        if way is rows:
            G = lambda x, theta: (F(x, theta), x**2 * theta[1])
            sol = ix.fixed_point(G, jnp.zeros((4, N)), theta, batch_axis=0, has_aux=True, **KEYWORDS)
            return sol.aux
        G = lambda x, rate, b: (F(x, (W, rate, b)), x**2 * rate)
        return jax.vmap(lambda rate, b: ix.fixed_point(G, jnp.zeros(N), rate, b, has_aux=True, **KEYWORDS).aux)(rate, b)

    along = lambda s: with_aux((theta[0], theta[1] * s, theta[2]))
    for derivative in (jax.jacfwd(along)(1.0), jax.jacrev(along)(1.0), jax.jacfwd(jax.jacrev(along))(1.0)):
        assert np.isfinite(derivative).all()
        np.testing.assert_array_equal(derivative[SLOW], 0)
        assert np.abs(derivative[0]).min() > 0


KEYWORDS = {"adjoint": ix.Implicit(failed="zero"), "solver": ix.Picard(), "max_steps": 60, "throw": False}


def test_a_lane_outside_the_domain_is_left_out():
    F = lambda x, a: jnp.sqrt(a - x**2) / 2
    x = lambda a: ix.fixed_point(F, 0.5, a, adjoint=ix.Implicit(failed="zero"), throw=False)
    a = jnp.array([1.0, -1.0, 2.0])
    sol = jax.vmap(x)(a)
    np.testing.assert_array_equal(sol.success, [True, False, True])
    np.testing.assert_allclose(jax.grad(lambda a: jax.vmap(x)(a).x.sum())(a), [0.5 / np.sqrt(5), 0, 0.5 / np.sqrt(10)])


def test_what_is_singular_is_still_refused():
    F = lambda x, a: jnp.stack([x[0], a - x[1]])  # x[0] is passed through
    x = lambda a: ix.fixed_point(F, jnp.ones(2), a, adjoint=ix.Implicit(failed="zero"), throw=False).x.sum()
    assert np.isnan(jax.grad(x)(1.0))


def test_with_throw_it_raises_all_the_same():
    with pytest.raises(ix.ConvergenceError, match="1 of 4 solves failed"):
        lanes(parameters(), adjoint=ix.Implicit(failed="zero"), solver=ix.Picard(), max_steps=60)


def test_what_is_not_meant():
    with pytest.raises(ValueError, match=r"failed=...\)`: expected 'nan' or 'zero' or 'one_step', got 'skip'"):
        ix.Implicit(failed="skip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a root R\\(x\\) = 0 has none"):
        ix.root(lambda x: x**2 - 2, 1.0, adjoint=ix.Implicit(failed="one_step"))
