"""The pattern of ∂R/∂x against the Jacobian itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicitax._problem.pattern import detect
from problems.sparse import FULL, LOOSE, SPARSE, N, stepped

EVERY = SPARSE | FULL | LOOSE


def entries(f, *shapes, theta=(), **keywords):
    """The pattern as a boolean matrix, of a function of one or several leaves."""
    x = tuple(jax.ShapeDtypeStruct(shape, float) for shape in shapes or [(N,)])
    R = lambda x, theta: out if isinstance(out := f(*x, *theta), tuple) else (out,)
    pattern = detect(R, x, theta, **keywords)
    if pattern is None:
        return None
    matrix = np.zeros(pattern.shape, bool)
    matrix[pattern.rows, pattern.cols] = True
    place = pattern.rows.astype(np.int64) * pattern.shape[1] + pattern.cols
    assert (np.diff(place) > 0).all()  # in order, and each once
    assert pattern.rows.dtype == pattern.cols.dtype == np.int32
    return matrix


def nonzeros(f, draws=24, dtype=None):
    """The entries of the Jacobian that differ from 0 at any of some random points."""
    random, total = np.random.default_rng(0), np.zeros((N, N), bool)
    jacobian = jax.jit(jax.jacfwd(f))
    for k in range(draws):
        x = random.uniform(0.1, 2.0, N) if k == 0 else random.normal(size=N) * (1 if k % 2 else 0.3)
        with np.errstate(all="ignore"):
            total = total | (np.asarray(jacobian(jnp.asarray(x, dtype))) != 0)
    return total


@pytest.mark.parametrize("name", sorted(EVERY))
def test_no_nonzero_is_missed(name):
    found, there = entries(EVERY[name]), nonzeros(EVERY[name])
    assert there.any()
    assert found[there].all()
    if name not in LOOSE:
        assert (found == there).all()


@pytest.mark.float32
@pytest.mark.parametrize(
    "name", ["slices", "added_to_edges", "put_in_place", "row_by_row", "small_systems", "cube_roots"]
)
def test_float32_has_the_same_pattern(name):
    found = entries(EVERY[name])
    assert found[nonzeros(EVERY[name])].all()
    with jax.enable_x64(True):
        assert (found == entries(EVERY[name])).all()


@pytest.mark.parametrize("seed", range(12))
def test_functions_drawn_at_random(seed):
    """A chain of what moves, mixes and multiplies, so that what one leaves behind is what the next one meets."""
    random = np.random.default_rng(seed)
    index, coefficients = random.integers(0, N, N), random.normal(size=N) * (random.random(N) < 0.7)
    matrix = random.normal(size=(6, 6)) * (random.random((6, 6)) < 0.3)
    bits = jnp.asarray(random.random(N) < 0.5)
    grid = lambda x: x.reshape(6, 6)
    steps = [
        lambda x: x[index],
        lambda x: x.at[index].add(x**2),
        lambda x: x.at[3:8].multiply(x[:5]),
        lambda x: x * coefficients + jnp.roll(x, 7),
        lambda x: (matrix @ grid(x)).ravel() + x,
        lambda x: (grid(x) @ matrix).T.ravel(),
        lambda x: jnp.where(bits, x, x[::-1]),
        lambda x: jnp.where(x > 0, x, jnp.roll(x, 5)),
        lambda x: jnp.pad(x, (2, 0))[:N] * jnp.cos(x),
        lambda x: jnp.cumsum(x.reshape(12, 3), axis=1).ravel(),
        lambda x: jnp.tile(x.reshape(3, 12).sum(0), 3) * coefficients + x,
        lambda x: jax.lax.scan(lambda c, u: (u, u * c), x[:4], x.reshape(9, 4))[1].ravel(),
        lambda x: jax.lax.fori_loop(0, 5, lambda i, x: x.at[i].set(x[i] * x[3 * i + 1]), x),
        lambda x: jax.lax.cond(x[0] > 0, lambda x: x, lambda x: jnp.roll(x, 1), x),
        lambda x: x.at[2:9].set(x[11:18] ** 2).at[30].set(0.0),
    ]
    chain = [steps[k] for k in random.choice(len(steps), 4, replace=False)]
    f = lambda x: functools.reduce(lambda x, step: step(x), chain, x)
    assert entries(f)[nonzeros(f)].all()


def test_leaves_of_any_shape():
    def f(a, b, c, d):
        return b.sum(axis=0) * a, jnp.concatenate([c, d.ravel()])[::-1], a * d

    found = entries(f, (), (2, 3), (0,), (1, 2))
    wanted = np.zeros((7, 9), int)
    wanted[:3, 0] = 1
    wanted[[0, 0, 1, 1, 2, 2], [1, 4, 2, 5, 3, 6]] = 1
    wanted[[3, 4, 5, 6], [8, 7, 7, 8]] = 1
    wanted[[5, 6], 0] = 1
    assert (found == wanted).all()
    assert entries(lambda a, b: (a.sum() + 0 * b, b), (0,), (0, 3)).shape == (0, 0)


def test_updates_outside_are_dropped():
    drop = lambda x, mode: (x**2).at[jnp.array([3, 99])].set(x[:2], mode=mode)
    assert entries(lambda x: drop(x, "drop"))[:, :2].sum() == 3
    assert entries(lambda x: drop(x, "clip"))[N - 1].nonzero()[0] == 1
    assert entries(lambda x: drop(x, "promise_in_bounds"))[N - 1].nonzero()[0] == N - 1


def test_what_is_known_of_theta():
    index, factor = np.random.default_rng(0).integers(0, N, N), np.arange(N) % 3.0
    f = lambda x, i, a: a * x[i] - jnp.roll(x, 1)
    struct = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
    diagonal = np.roll(np.eye(N, dtype=bool), 1, axis=0)
    moved = np.eye(N, dtype=bool)[index]
    for given in (index, jnp.asarray(index)):
        assert (entries(f, theta=(given, jnp.asarray(factor))) == (moved & (factor != 0)[:, None]) | diagonal).all()
        assert (entries(f, theta=(given, struct(factor))) == moved | diagonal).all()
    assert entries(f, theta=(struct(index), factor)).sum() == (factor != 0).sum() * N + (factor == 0).sum()
    assert (entries(f, theta=(index, 0.0)) == diagonal).all()
    g = lambda x, where, k: jnp.where(where, x, jnp.roll(x, 1)) * k
    assert entries(g, theta=(factor > 0, 2)).sum() == N
    assert entries(g, theta=(struct(factor > 0), 2)).sum() == 2 * N


def test_inside_a_trace():
    found = []
    index = np.random.default_rng(0).integers(0, N, N)

    @jax.jit
    def outer(x, a, i):
        held = a * 2
        found.append(entries(lambda x, b: b * x[index] + held * x[::-1], theta=(a,)))
        found.append(entries(lambda x, i: x[i] + x, theta=(i,)))
        found.append(entries(SPARSE["computed_indices"]))
        return x

    jax.vmap(outer, (0, None, None))(jnp.ones((2, N)), jnp.ones(N), index)
    assert (found[0] == np.eye(N, dtype=bool)[index] | np.eye(N, dtype=bool)[::-1]).all()
    assert found[1].all()
    assert (found[2] == entries(SPARSE["computed_indices"])).all()


def test_a_rule_for_reverse_mode_only():
    shared = lambda x: stepped(x * jnp.roll(x, 3)) + x[::-1]
    there = np.asarray(jax.jacrev(shared)(jnp.asarray(np.random.default_rng(0).normal(size=N)))) != 0
    assert (entries(shared) == there).all()
    looped = lambda x: jax.lax.scan(lambda c, _: (stepped(c), None), x, None, length=2)[0]
    there = np.asarray(jax.jacrev(looped)(jnp.asarray(np.random.default_rng(0).normal(size=N)))) != 0
    assert (entries(looped) == there).all()


def test_without_tangents_nothing_is_found():
    struct = jax.ShapeDtypeStruct((N,), float)
    assert entries(lambda x: jax.pure_callback(np.tanh, struct, x)) is None


def test_nothing_is_run():
    ran = []
    struct = jax.ShapeDtypeStruct((N,), int)

    def f(x):
        jax.debug.callback(ran.append, x[0])
        jax.debug.callback(ran.append, jnp.ones(3))
        index = jax.pure_callback(lambda i: ran.append(i) or i, struct, jnp.arange(N))
        return x[index] + jax.random.normal(jax.random.key(0), (N,)) * x

    assert entries(f).all()
    assert ran == []


def test_a_budget():
    n = 3000
    pairs = lambda x: (x[:, None] - x).sum(1)
    for f in (pairs, jnp.cumsum, jnp.sort, lambda x: x / x.sum(), lambda x: jnp.outer(x, x).sum(0), jnp.fft.fft):
        assert entries(lambda x, f=f: jnp.real(f(x)), (n,)) is None
    assert entries(jnp.cumsum, (200,)).sum() == 200 * 201 // 2
    assert entries(jnp.cumsum, (200,), budget=1000) is None


def test_long_loops():
    """Too many iterations to be written out, and others that are."""
    n = 4000
    found = [
        entries(lambda x: jax.lax.map(lambda u: jnp.sin(u[0]) * u[1] + u[2], (x, x[::-1], jnp.roll(x, 1))), (n,)),
        entries(lambda x: jax.lax.scan(lambda c, u: ((c[0] + 1, u, c[1]), u * c[2]), (0, x[0], x[0]), x)[1], (n,)),
        entries(lambda x: jax.lax.fori_loop(0, 10**9, lambda i, y: 0.5 * y + x, x), (n,)),
        entries(lambda x: jax.lax.map(lambda i: x[i] * x[n - 1 - i], jnp.arange(n)), (n,)),
        entries(lambda x: jax.lax.scan(lambda y, t: (y + t * (jnp.sin(y) - x), None), x, jnp.arange(9000.0))[0], (n,)),
        entries(lambda x: jax.lax.while_loop(lambda c: c[0] < 9000, lambda c: (c[0] + 1, c[1] * x), (0, x))[1], (n,)),
    ]
    assert [int(matrix.sum()) for matrix in found] == [3 * n - 2, 2 * n - 1, n, 2 * n, n, n]
    assert found[1][5, [3, 5]].all()


def test_another_solve_inside():
    import lineax as lx

    import implicitax as ix

    def cell(u):
        A = lx.MatrixLinearOperator(jnp.eye(4) * 5 + jnp.outer(u, u))
        return lx.linear_solve(A, u * u[0]).value

    def f(x):
        inner = jax.vmap(lambda a: ix.fixed_point(lambda y: 0.3 * jnp.cos(y) + a, a, throw=False).x)(x)
        return inner - x**2 + jax.vmap(cell)(x.reshape(-1, 4)).ravel()

    assert (entries(f) == nonzeros(f, draws=2)).all()
