"""The structure of ∂R/∂x, found from R: values and derivatives beside a dense linear algebra."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import implicitax as ix
from implicitax import Status
from implicitax._loop import InTurn, Outcome

DENSE = {"solver": ix.Newton(lx.LU()), "adjoint": ix.Implicit(linear_solver=lx.LU())}


def line(u, theta):
    """One unknown a point, between two ends; not symmetric."""
    a, b = theta
    inside = a * u[:-2] - 2.2 * u[1:-1] + 1.1 * u[2:] - jnp.exp(u[1:-1]) * b
    return jnp.concatenate([u[:1] - b, inside, u[-1:] + a])


def species(state, theta):
    """Two unknowns a point, in leaves of their own."""
    a, b = theta
    u, v = state["u"], state["v"]
    spread = lambda w: jnp.pad(w[:-1], (1, 0)) - 2 * w + 1.1 * jnp.pad(w[1:], (0, 1))
    return {"u": a * spread(u) + u * u * v - b * u + 1, "v": spread(v) - u * u * v + 0.1 * a - v}


def ring(u, theta):
    return theta[0] * (jnp.roll(u, 1) - 2 * u) + jnp.roll(u, -1) - u**3 - theta[1] * jnp.sin(jnp.arange(u.size))


def markets(u, theta):
    """Independent systems of five unknowns."""
    mixed = jnp.asarray(np.random.default_rng(1).normal(size=(5, 5)) / 4, u.dtype)
    p = u.reshape(-1, 5)
    return (theta[0] * p + jnp.tanh(p @ mixed) - theta[1] * jnp.arange(p.size).reshape(p.shape) / p.size).ravel()


def wide(u, theta):
    """Neighbours up to 7 points away."""
    out = 3 * theta[0] * u + u**3 - theta[1]
    for k in (1, 3, 7):
        out = out + 0.3 * jnp.sin(jnp.pad(u[k:], (0, k))) - 0.2 * jnp.pad(u[:-k], (k, 0)) * k**-0.5
    return out


def square(u, theta):
    """Blown across a square, and reacting."""
    v = jnp.pad(u.reshape(26, 26), 1)
    blown = theta[0] * (v[2:, 1:-1] - 2 * v[1:-1, 1:-1]) + v[:-2, 1:-1] + 1.2 * v[1:-1, 2:] + 0.8 * v[1:-1, :-2]
    return (blown - 3 * v[1:-1, 1:-1] + theta[1] * jnp.cos(v[1:-1, 1:-1]) + jnp.arange(26) / 26).ravel()


def network(u, theta):
    """Flows along edges with resistances, of the square of the flow, from every node to others drawn at random."""
    rng = np.random.default_rng(2)
    start, end = np.concatenate([np.arange(1, 600), rng.integers(0, 600, 150)]), rng.integers(0, 600, 749)
    fall = theta[0] * u[start] - u[end]
    flow = jnp.arcsinh(fall) * (1 + start / 600)
    leak = u + 0.1 * u**3 - theta[1] * jnp.sin(jnp.arange(600))
    return leak.at[start].add(flow).at[end].add(-0.9 * flow)


def held(state, theta):
    """A ring on which only differences matter; two sources hold its mean and one of its waves."""
    u, source = state["u"], state["source"]
    angle = 2 * np.pi * jnp.arange(u.size) / u.size
    flow = theta[0] * (jnp.roll(u, 1) - u) + 0.9 * (jnp.roll(u, -1) - u) + jnp.cos(jnp.arange(u.size))
    mean = jnp.mean((1 + jnp.sin(angle) / 2) * u) - theta[1]
    wave = jnp.mean(jnp.cos(angle) * jnp.sinh(u)) - 0.1
    pushed = source[0] * jnp.exp(-u / 9) + source[1] * jnp.cos(angle - 0.3) / 1000
    return {"u": flow + pushed, "source": jnp.stack([mean, wave])}


CASES = {
    "tridiagonal, 3 tangents": (line, jnp.zeros(250), (0.9, 0.3)),
    "band of width 2, 4 tangents": (species, {"u": jnp.ones(110), "v": jnp.full(110, 0.5)}, (0.9, 3.0)),
    "band of width 2, 3 tangents": (ring, jnp.full(231, 0.1), (1.2, 0.7)),
    "42 blocks of at most 5, 5 tangents": (markets, jnp.zeros(210), (2.2, 0.7)),
    "block-tridiagonal, blocks of 7, 9 tangents": (wide, jnp.zeros(240), (1.2, 0.7)),
    "sparse LU, 5 tangents": (square, jnp.zeros(676), (1.1, 0.7)),
    "sparse LU, 9 tangents": (network, jnp.zeros(600), (1.1, 0.7)),
    "sparse LU, 7 tangents and 2 cotangents": (held, {"source": jnp.zeros(2), "u": jnp.full(601, 0.2)}, (1.1, 0.7)),
}


def parts(name, dtype: type = np.float64):
    R, x0, theta = CASES[name]
    return R, *jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (x0, theta))


def outcome(R, x0, weights, **keywords):
    """A number that all of the solution is in."""
    return lambda theta: weights @ ravel_pytree(ix.root(R, x0, theta, **keywords).x)[0]


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    R, x0, theta = parts(name)
    sol = ix.root(R, x0, theta)
    assert sol.linear_solver == name
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=ravel_pytree(x0)[0].size))
    of, right = outcome(R, x0, weights), outcome(R, x0, weights, **DENSE)
    np.testing.assert_allclose(jax.jit(of)(theta), right(theta), rtol=1e-9)
    wanted = jax.grad(right)(theta)
    np.testing.assert_allclose(jax.jit(jax.grad(of))(theta), wanted, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(of))(theta), wanted, rtol=1e-9)
    along = lambda of: jax.jit(jax.jacfwd(jax.grad(lambda s: of((theta[0] * s, theta[1] * s**2)))))
    np.testing.assert_allclose(along(of)(1.0), along(right)(1.0), rtol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_float32_and_lanes(name):
    R, x0, theta = parts(name, np.float32)
    a = theta[0] * jnp.linspace(1.0, 1.1, 3, dtype=np.float32)
    weights = jnp.asarray(np.random.default_rng(0).uniform(size=ravel_pytree(x0)[0].size), np.float32)
    lanes = jax.jit(jax.vmap(jax.value_and_grad(lambda a: outcome(R, x0, weights)((a, theta[1])))))
    values, slopes = lanes(a)
    R, x0, theta = parts(name)
    right = jax.vmap(jax.value_and_grad(lambda a: outcome(R, x0, weights.astype(float), **DENSE)((a, theta[1]))))
    for found, wanted in zip((values, slopes), right(a.astype(float))):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-4 * np.abs(wanted).max())


def test_a_large_line_and_differences():
    n = 20_000
    h = 1 / (n + 1)
    source = 1 + 0.3 * jnp.sin(6 * jnp.linspace(h, 1 - h, n))
    R = lambda u, s: jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) / h**2 + s * jnp.exp(u) * source
    mean = jax.jit(lambda s: ix.root(R, jnp.zeros(n), s).x.mean())
    assert float(mean(1.0)) == pytest.approx(0.0950439, rel=1e-6)
    slope = (mean(1.0 + 1e-5) - mean(1.0 - 1e-5)) / 2e-5
    assert float(jax.grad(mean)(1.0)) == pytest.approx(float(slope), rel=1e-6)


def test_indices_that_are_known_and_that_are_not():
    before = np.concatenate([[0], np.arange(249)])
    R = lambda u, theta, index: theta * u - 0.5 * jnp.sin(u[index]) - 0.3
    solve = lambda index, theta=2.0: ix.root(R, jnp.zeros(250), theta, index)
    assert solve(before).linear_solver == "tridiagonal, 2 tangents"
    assert jax.jit(lambda theta: solve(before, theta))(2.0).linear_solver == "tridiagonal, 2 tangents"
    # Another array is another pattern, also one that was changed in its place; a traced one may be any.
    other = solve(before[::-1].copy())
    assert other.linear_solver != "tridiagonal, 2 tangents"
    changed = before.copy()
    first = solve(changed)
    changed[:] = before[::-1]
    second = solve(changed)
    np.testing.assert_array_equal(second.x, other.x)
    assert not np.array_equal(first.x, second.x)
    traced = jax.jit(solve)(before[::-1].copy())
    assert traced.linear_solver == "DenseLU()"
    np.testing.assert_allclose(traced.x, other.x, rtol=1e-9)


def test_where_newton_gets_nowhere_the_ladder_follows():
    def R(u, a):
        v = u.reshape(-1, 2)  # Powell's badly scaled function, and Rosenbrock's, in pairs
        return jnp.stack([10 * (v[:, 1] - v[:, 0] ** 2), a - v[:, 0]], axis=1).ravel()

    x0 = jnp.tile(jnp.array([-1.2, 1.0]), 120)
    sol = ix.root(R, x0, 1.0)
    np.testing.assert_allclose(sol.x, 1, rtol=1e-9)
    hard = lambda u: u**3 - 2 * u + 2  # Newton's method cycles from 0
    np.testing.assert_allclose(ix.root(hard, jnp.zeros(250)).x, -1.7692923542386314, rtol=1e-9)


def test_a_singular_matrix_has_no_derivative():
    ring = lambda u, a: jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1) + a * jnp.sin(2 * jnp.pi * jnp.arange(250) / 250)
    solve = lambda a: ix.root(ring, jnp.zeros(250), a, throw=False).x[3]
    assert np.isnan(jax.grad(solve)(1.0))
    assert np.isnan(jax.jvp(solve, (1.0,), (1.0,))[1])


def test_a_fixed_point_has_its_derivative_by_its_structure():
    F = lambda u, a: 0.3 * jnp.tanh(jnp.pad(u[1:], (0, 1)) + a * jnp.pad(u[:-1], (1, 0))) + a * jnp.cos(u)
    solve = lambda a, **keywords: ix.fixed_point(F, jnp.zeros(300), a, **keywords)
    assert solve(0.4).linear_solver == "tridiagonal, 3 tangents"
    weights = jnp.linspace(1.0, 2.0, 300)
    gradient = jax.grad(lambda a, **keywords: weights @ solve(a, **keywords).x)
    np.testing.assert_allclose(gradient(0.4), gradient(0.4, adjoint=DENSE["adjoint"]), rtol=1e-9)


def test_a_fixed_point_at_which_plain_iteration_stalls():
    n = 2000
    F = lambda u, a: u + (jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) + a - u**3 / n) * 0.6  # eigenvalues to −1.4
    sol = ix.fixed_point(F, jnp.zeros(n), 0.01)
    assert bool(sol.success)
    np.testing.assert_allclose(F(sol.x, 0.01), sol.x, atol=1e-8)


def test_the_rungs_of_the_ladder_begin_at_the_guess_after_newton_too():
    """Newton's method, where A has a structure, and the first three rungs of the ladder, each from x0."""
    seen = []

    @jax.jit
    def solve(x0):
        def R(u):
            jax.debug.callback(lambda u: seen.append(float(u)), u[0])
            return u**2 + 1  # has no root

        return ix.root(R, x0, throw=False)

    sol = jax.block_until_ready(solve(jnp.full(250, 0.7)))
    jax.effects_barrier()
    assert not bool(sol.success)
    # JAX hands them to a thread of its own, which may have no float64.
    assert sum(abs(u - 0.7) < 1e-6 for u in seen) == 4


STEPPED = {
    "tridiagonal, 3 tangents": (300, 1000, lambda u: jnp.diff(jnp.diff(u, prepend=0.0, append=0.0))),
    "sparse LU, 5 tangents": (625, 20, lambda u: spread_on_a_square(u.reshape(25, 25)).ravel()),
}


def spread_on_a_square(v):
    return sum(jnp.diff(jnp.diff(v, axis=k, prepend=0.0, append=0.0), axis=k) for k in range(2))


@pytest.mark.parametrize("name", STEPPED)
def test_steps_in_time(name):
    """A gradient through implicit steps in a `scan`, beside differences."""
    n, steps, spread = STEPPED[name]
    R = lambda u, before, a: u - before - 0.1 * (a * spread(u) + u * (1 - u) * (u - 0.3))
    first = jnp.exp(-(jnp.linspace(-3.0, 2.0, n) ** 2))
    assert ix.root(R, first, first, 1.0).linear_solver == name
    step = lambda a: lambda u, _: (ix.root(R, u, u, a).x, None)
    last = jax.jit(lambda a: jnp.linspace(1, 2, n) @ jax.lax.scan(step(a), first, None, length=steps)[0])
    slope = (last(1.3 + 1e-4) - last(1.3 - 1e-4)) / 2e-4
    assert float(jax.grad(last)(1.3)) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("name", STEPPED)
def test_a_sweep(name):
    R, x0, (a, b) = parts(name)
    many, weights = a * jnp.linspace(1.0, 1.1, 5), jnp.linspace(1.0, 2.0, x0.size)
    swept = lambda many: ix.sweep(lambda x, a, b: R(x, (a, b)), x0, many, b, in_axes=(None, None, 0, None), kind="root")
    assert swept(many).linear_solver == name
    right = jax.vmap(jax.value_and_grad(lambda a: outcome(R, x0, weights, **DENSE)((a, b))))(many)
    np.testing.assert_allclose(swept(many).x @ weights, right[0], rtol=1e-9)
    np.testing.assert_allclose(jax.grad(lambda many: (swept(many).x @ weights).sum())(many), right[1], rtol=1e-8)


def test_what_is_in_reserve_is_compiled_when_it_is_needed():
    """Outside `jit`: the first program has seen how the solve ended. Inside one program has both methods."""
    ended, made = [Status.CONVERGED], []

    class Program:
        trace = None

        def __init__(self, name):
            self.name = name

        def __call__(self, _):
            made.append(self.name)
            return SimpleNamespace(outcome=Outcome((), jnp.asarray(ended[0]), *[jnp.asarray(1)] * 4), by=self.name)

    first, whole = Program("first"), Program("whole")
    solve = InTurn(first, whole)
    assert [solve(1.0).by, solve(1.0).by] == ["first", "first"]
    ended[0] = Status.STALLED
    assert [solve(1.0).by, solve(1.0).by] == ["whole", "whole"]
    assert made == ["first", "first", "first", "whole", "whole"]
    solve = InTurn(first, whole)
    jax.jit(lambda x: x * (solve(x).by == "whole"))(1.0)
    assert made[5:] == ["whole"]


def test_a_root_that_newton_does_not_find_is_the_same_outside_and_inside_jit():
    n = 300
    R = lambda x, a: x**3 - 2 * x + a + 0.01 * (x - jnp.roll(x, 1))  # from 0 Newton's steps go round in a circle
    solve = lambda a: ix.root(R, jnp.zeros(n), a)
    outside, inside = solve(2.0), jax.jit(solve)(2.0)
    assert int(outside.nfev) == int(inside.nfev)
    np.testing.assert_array_equal(outside.x, inside.x)
    np.testing.assert_allclose(outside.x, -1.7692923542386314, rtol=1e-9)


def test_the_figure_of_a_structure():
    R, x0, theta = parts("band of width 2, 4 tangents")
    figure = ix.plot_structure(R, x0, theta, kind="root")
    (ax,) = figure.axes
    dense = jax.jacfwd(lambda u: ravel_pytree(R(ravel_pytree(x0)[1](u), theta))[0])(ravel_pytree(x0)[0] + 0.3)
    (points,) = ax.collections
    np.testing.assert_array_equal(points.get_offsets()[:, ::-1], np.argwhere(dense))
    assert ax.get_title() == f"{points.get_offsets().shape[0]} of 48,400 entries (1.81%)\nband of width 2, 4 tangents"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x0['u']", "x0['v']"]
    # One tangent, one colour: no two of its entries are in one row.
    hues = {tuple(hue) for hue in points.get_facecolors()}
    assert len(hues) == 4
    figure.canvas.draw()


def test_the_figure_of_what_has_none():
    title = lambda *args, **keywords: ix.plot_structure(*args, **keywords).axes[0].get_title()
    mixed = lambda x: jnp.cos(x) + x.mean()
    assert title(mixed, jnp.zeros(300)) == (
        "90,000 of 90,000 entries (100%)\nin no form that pays: A is dense, or products with it"
    )
    assert title(line, jnp.zeros(100), (0.9, 0.3), kind="root").endswith(
        "tridiagonal, 3 tangents if it had more than 200 unknowns; so it is dense"
    )
    called = lambda x: jax.pure_callback(lambda x: np.cos(x), jax.typeof(x), x)
    assert title(called, jnp.zeros(300)).endswith("no pattern was found: A is dense, or products with it")
    grid = lambda u: jnp.roll(u, 150) + 4 * u + jnp.roll(u, -1) + jnp.roll(u, 1) ** 2
    (ax,) = ix.plot_structure(grid, jnp.zeros(22_500), kind="root").axes  # too many entries for points
    assert ax.images[0].get_array().shape == (400, 400)
    assert int(np.ma.count(ax.images[0].get_array())) <= 2000
