"""Ways in which a model writes neighbours down, each with a Jacobian of 36 by 36 that is sparse, or is not.

`SPARSE` are those whose pattern is found exactly; of `FULL` it is dense, or depends on values; of `LOOSE` more is found
than is there. Points at which some of the branches are taken, and others, are drawn at random.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import sparse
from jax.flatten_util import ravel_pytree

N, SIDE = 36, 6
Function = Callable[[Array], Array]
SPARSE: dict[str, Function] = {}
FULL: dict[str, Function] = {}
LOOSE: dict[str, Function] = {}
_RANDOM = np.random.default_rng(5)
_FROM, _TO = np.repeat(np.arange(N), 3), _RANDOM.integers(0, N, 3 * N)
_WEIGHTS = _RANDOM.uniform(0.5, 2.0, 3 * N)


def sparse_(f: Function) -> Function:
    SPARSE[f.__name__] = f
    return f


def full(f: Function) -> Function:
    FULL[f.__name__] = f
    return f


def loose(f: Function) -> Function:
    LOOSE[f.__name__] = f
    return f


def grid(x):
    return x.reshape(SIDE, SIDE)


# Neighbours by position ---------------------------------------------------------------------------------------------


@sparse_
def slices(x):
    inside = 0.7 * x[:-2] - 2 * x[1:-1] ** 2 + 1.3 * x[2:]
    return jnp.concatenate([x[:1] - 1, inside, 2 * x[-1:]])


@sparse_
def rolled(x):
    return jnp.roll(x, 1) * x - 3 * jnp.roll(x, -2)


@sparse_
def padded(x):
    u = jnp.pad(grid(x), ((1, 1), (1, 0)))
    return (u[2:, 1:] - 4 * u[1:-1, 1:] ** 2 + u[:-2, 1:] + 0.3 * u[1:-1, :-1]).ravel()


@sparse_
def with_gaps(x):
    zero = jnp.zeros((), x.dtype)
    u = lax.pad(x[::2], zero, ((2, -1, 1),)) + lax.pad(x, zero, ((-2, 2, 0),))
    return jnp.sin(u) + x


@sparse_
def inserted(x):
    return jnp.append(jnp.insert(x, 0, 0.0), 1.0)[2:] - 2 * x + jnp.insert(x, 0, 0.0)[:-1] ** 2


@sparse_
def differences(x):
    return jnp.diff(jnp.diff(x, prepend=0.0, append=1.0)) - x**2


@sparse_
def second_axis(x):
    u = grid(x)
    d = lambda v: jnp.diff(v, axis=0, prepend=0.0) * v
    return (d(u) + d(u.T).T[:, ::-1]).ravel()


@sparse_
def reversed_order(x):
    return x[::-1] ** 2 + jnp.flip(grid(x), 1).ravel()


@sparse_
def reordered(x):
    return lax.reshape(grid(x), (N,), dimensions=(1, 0)) * x + jnp.tile(x[:6], 6)


@sparse_
def stacked(x):
    a, b, c = jnp.split(x, [5, 17])
    pair = jnp.stack([b, c[:12]], axis=1)
    return jnp.concatenate([a, pair.ravel() * 2, c[12:]])


@sparse_
def convolved(x):
    return jnp.convolve(x, jnp.array([1.0, 0.0, -2.0, 0.5]), mode="same") - jnp.tanh(x)


@sparse_
def convolved_2d(x):
    kernel = jnp.asarray([[0.0, 1, 0], [2, -4, 0], [0, 1, 3]])[None, None]
    return lax.conv(grid(x)[None, None], kernel.astype(x.dtype), (1, 1), "SAME").ravel() - x**3


@sparse_
def channels(x):
    """Two groups of two channels, with strides and holes."""
    kernel = jnp.asarray(_WEIGHTS[:24], x.dtype).reshape(4, 2, 3)
    u = x.reshape(1, 4, 9)
    spec = {"window_strides": (2,), "padding": [(2, 1)], "rhs_dilation": (2,), "feature_group_count": 2}
    return jnp.concatenate([lax.conv_general_dilated(u, kernel, **spec).ravel(), x[:20]])


@sparse_
def pooled(x):
    return lax.reduce_window(x, 0.0, lax.add, (3,), (1,), "SAME") - x**2


@sparse_
def pooled_largest(x):
    return lax.reduce_window(grid(x), -jnp.inf, lax.max, (2, 1), (1, 1), "SAME").ravel() - 2 * x


@sparse_
def means_of_rows(x):
    u = grid(x)
    return (u**2 - u.mean(axis=1, keepdims=True)).ravel()


@sparse_
def cumulated_in_rows(x):
    return jnp.cumsum(grid(x), axis=1).ravel() + lax.cumsum(grid(x) ** 2, axis=0, reverse=True).ravel()


@sparse_
def products_in_rows(x):
    return jnp.cumprod(1 + grid(x) ** 2, axis=1).ravel()


@sparse_
def softmax_in_rows(x):
    return jax.nn.softmax(grid(x) + grid(x) ** 2, axis=-1).ravel()


# Neighbours by index ------------------------------------------------------------------------------------------------


@sparse_
def put_in_place(x):
    r = jnp.zeros_like(x).at[1:-1].set(x[:-2] - 2 * x[1:-1] + x[2:] ** 2)
    return r.at[0].set(x[0] - 1).at[-1].set(x[-1] ** 2)


@sparse_
def added_to_edges(x):
    return (x**3).at[_FROM].add(_WEIGHTS * jnp.sin(x[_TO] - x[_FROM]))


@sparse_
def gathered(x):
    return x**3 + jnp.sum(jnp.tanh(x[_TO.reshape(N, 3)]), axis=1)


@sparse_
def filled(x):
    """Outside there is nothing."""
    return x.at[jnp.arange(2, N + 2)].get(mode="fill", fill_value=7.0) * x + x.at[jnp.arange(1, N + 1)].get(mode="clip")


@sparse_
def along_rows(x):
    index = jnp.asarray(_TO[:N].reshape(SIDE, SIDE) % SIDE)
    return jnp.take_along_axis(grid(x), index, axis=1).ravel() * x


@sparse_
def segments(x):
    edges = jnp.asarray(_WEIGHTS) * jnp.sin(x[_TO] - x[_FROM])
    return x**3 - jax.ops.segment_sum(edges, jnp.asarray(_FROM), num_segments=N)


@sparse_
def computed_indices(x):
    i = jnp.arange(N)
    order = jnp.argsort((7 * i) % N)
    return x[order] * x[(i + N - 5) % N] + x[jnp.where(i > 3, i - 3, i)]


@sparse_
def sparse_matrix(x):
    A = sparse.BCOO((jnp.asarray(_WEIGHTS), jnp.asarray(np.stack([_FROM, _TO], 1))), shape=(N, N))
    return A @ x + x**3


@sparse_
def matrix_with_zeros(x):
    A = np.diag(np.full(N, -2.0)) + np.eye(N, k=1) + 0.5 * np.eye(N, k=-3)
    return jnp.asarray(A) @ x - jnp.exp(x) + x @ jnp.asarray(np.eye(N, k=2))


@sparse_
def blocks_with_zeros(x):
    A = jnp.asarray(np.triu(_WEIGHTS[:16].reshape(4, 4)))
    u = x.reshape(3, 4, 3)
    return jnp.einsum("ij,ajb->bia", A, u).ravel() + jnp.einsum("aib,ji->ajb", u**2, A).ravel()


@sparse_
def unknown_blocks(x):
    u = x.reshape(9, 4)
    A = jax.vmap(jnp.outer)(u, u)
    return jnp.einsum("aij,aj->ai", A, u).ravel()


@sparse_
def masked(x):
    mask = np.ones((2, N))
    mask[0, 0] = mask[1, -1] = 0
    return jnp.roll(x, 1) * mask[0] + jnp.roll(x, -1) * (1 - (1 - mask[1])) - 2 * x + 0.0 * x[0]


@sparse_
def even_and_odd(x):
    return jnp.where(np.arange(N) % 2 == 0, jnp.roll(x, 1), x**2)


@sparse_
def arrow(x):
    return jnp.concatenate([x[:-1] ** 2 - jnp.pad(x[:-2], (1, 0)) + x[-1], jnp.sum(x[:-1])[None] - 1])


@sparse_
def two_species(x):
    half = N // 2
    unravel = ravel_pytree({"u": jnp.zeros(half, x.dtype), "v": jnp.zeros(half, x.dtype)})[1]
    s = unravel(x)
    lap = lambda w: jnp.pad(w[:-1], (1, 0)) - 2 * w + jnp.pad(w[1:], (0, 1))
    return ravel_pytree({"u": lap(s["u"]) + s["u"] ** 2 * s["v"], "v": lap(s["v"]) - s["u"]})[0]


@sparse_
def spectral_in_rows(x):
    """A real transform and back, with a shift of phase."""
    c = jnp.fft.rfft(grid(x), axis=1) * jnp.exp(0.3j * jnp.arange(4))
    return jnp.fft.irfft(c * (1 + 0.1 * jnp.arange(4)), n=SIDE, axis=1).ravel()


@sparse_
def in_complex_numbers(x):
    z = lax.complex(x, jnp.roll(x, 1))
    return jnp.real(z * z) + jnp.imag(jnp.conj(z) * (2 + 1j))


# Functions inside ---------------------------------------------------------------------------------------------------


@sparse_
def cells(x):
    def cell(left, own, right):
        return jnp.stack([left[0] - 2 * own[0] + right[0] + own[0] * own[1], own[1] - jnp.exp(-own[0])])

    u, zero = x.reshape(-1, 2), jnp.zeros((1, 2), x.dtype)
    return jax.vmap(cell)(jnp.concatenate([zero, u[:-1]]), u, jnp.concatenate([u[1:], zero])).ravel()


@sparse_
def lanes_with_a_name(x):
    return jax.vmap(lambda a: a**2 - lax.pmean(a, "lanes"), axis_name="lanes")(grid(x)).ravel()


@sparse_
def branches(x):
    d = lambda x: jnp.roll(x, 1) - x
    a = lax.cond(x[0] > 0, d, lambda x: jnp.roll(x, -1) - 2 * x, x)
    b = lax.switch(jnp.int32(x[1] > 0) + jnp.int32(x[2] > 0), [lambda x: x**2, lambda x: x, jnp.sin], x)
    return a + b + jnp.where(x > 0, x, 0.1 * jnp.roll(x, 3)) + jnp.clip(x, -0.5, 0.5)


@sparse_
def known_branch(x):
    which = jnp.asarray(1)
    return lax.switch(which, [lambda x: jnp.roll(x, 1), lambda x: x**2], x)


@sparse_
def cube_roots(x):
    """A loop that runs as long as its values say."""

    def go_on(c):
        return (c[0] < 20) & (jnp.max(jnp.abs(c[1] ** 3 + c[1] - x)) > 1e-6)

    y = lax.while_loop(go_on, lambda c: (c[0] + 1, c[1] - (c[1] ** 3 + c[1] - x) / (3 * c[1] ** 2 + 1)), (0, x))[1]
    return jnp.roll(y, 1) - 2 * y


@sparse_
def nested_calls(x):
    g = jax.jit(lambda x: x[1:] - x[:-1] ** 2)
    h = jax.checkpoint(lambda x: jnp.pad(g(x), 1))
    return jax.jit(lambda y: g(h(y)))(x) - x


@jax.custom_jvp
def rounded(x):
    return jnp.round(x)


rounded.defjvp(lambda p, t: (rounded(*p), t[0] * jnp.cos(p[0])))


@jax.custom_vjp
def stepped(x):
    return jnp.sign(x)


stepped.defvjp(lambda x: (stepped(x), x), lambda x, c: (jnp.roll(c, -2) * x + c,))


@sparse_
def straight_through(x):
    """No dependence, but a derivative."""
    return rounded(jnp.roll(x, 1)) + 0 * x


@sparse_
def own_rules(x):
    return jax.nn.relu(jnp.roll(x, 1) - x) + jax.nn.silu(x) + jax.nn.softplus(x)


@sparse_
def held(x):
    return x**2 * lax.stop_gradient(jnp.sum(x))


@sparse_
def safe_root(x):
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0) + jnp.nan_to_num(jnp.log(x)) + x


@sparse_
def interpolated(x):
    at = np.linspace(-3, 3, 50)
    return jnp.roll(x, 1) - 2 * x + jnp.interp(x, jnp.asarray(at), jnp.asarray(np.sin(at)))


@sparse_
def scanned(x):
    return lax.scan(lambda before, xi: (xi, xi**2 - before), jnp.zeros((), x.dtype), x)[1]


@sparse_
def scanned_back(x):
    return lax.scan(lambda after, xi: (xi**2, xi - after), x[0] * 0, x, reverse=True)[1]


@sparse_
def repeated(x):
    return lax.fori_loop(0, 3, lambda i, y: 0.5 * y + 0.25 * (jnp.roll(y, 1) + jnp.roll(y, -1)), x) - x


@sparse_
def row_by_row(x):
    return lax.fori_loop(1, N - 1, lambda i, r: r.at[i].set(x[i - 1] - 2 * x[i] + x[i + 1]), x)


@sparse_
def mapped(x):
    return lax.map(lambda c: jnp.sin(c[0]) - c[1] ** 2, (x, jnp.roll(x, 1)), batch_size=5)


@sparse_
def scan_in_scan(x):
    def row(before, u):
        y = lax.scan(lambda c, ui: (ui, ui * c), before[0], u)[1]
        return u, y + before

    return lax.scan(row, jnp.zeros(SIDE, x.dtype), grid(x))[1].ravel()


@sparse_
def small_systems(x):
    u = x.reshape(-1, 4)
    A = jnp.eye(4) * 5 + jax.vmap(lambda c: jnp.outer(c, c))(u)
    return jax.vmap(jnp.linalg.solve)(A, jnp.roll(u, 1, 0)).ravel() - x


@sparse_
def small_factors(x):
    u = x.reshape(-1, 4)
    A = jnp.eye(4) * 5 + u[:, :, None] * u[:, None, :]
    L = jnp.linalg.cholesky(A)
    y = jax.scipy.linalg.solve_triangular(L, u[..., None], lower=True)[..., 0]
    return (y + jnp.linalg.inv(A)[:, 0] + jnp.linalg.slogdet(A)[1][:, None]).ravel()


@sparse_
def soil_columns(x):
    """A tridiagonal system in each row."""
    u = grid(x)
    one = jnp.ones_like(u)
    low, high = one.at[:, 0].set(0.0), one.at[:, -1].set(0.0)
    return lax.linalg.tridiagonal_solve(low, 4 + u**2, high, u[..., None]).ravel()


# Dense --------------------------------------------------------------------------------------------------------------


@full
def cumulated(x):
    """A lower triangle."""
    return jnp.cumsum(x) - x**2


@full
def scanned_all(x):
    def step(p, xi):
        q = jnp.tanh(p + xi)
        return q, q - xi

    return lax.scan(step, jnp.zeros((), x.dtype), x)[1]


@full
def normalised(x):
    return x / jnp.linalg.norm(x)


@full
def one_system(x):
    return jnp.linalg.solve(jnp.eye(N) * 5 + jnp.outer(x, jnp.roll(x, 1)), x)


@full
def diffused(x):
    return lax.fori_loop(0, 200, lambda i, y: 0.5 * y + 0.25 * (jnp.roll(y, 1) + jnp.roll(y, -1)), x)


# More than there is -------------------------------------------------------------------------------------------------


@loose
def put_twice(x):
    """Which of two updates of one place is kept is not said, so both are."""
    return (x**2).at[jnp.array([3, 3, -1, 99])].set(jnp.zeros(4, x.dtype))


@loose
def in_order(x):
    return jnp.sort(x) * x


@loose
def at_the_least(x):
    return x**2 + x[jnp.argmin(x)]


@loose
def by_value(x):
    i = jnp.int32(jnp.floor(jnp.abs(x) * 7)) % N
    return x[i] + (x**2).at[i].add(x) + jnp.zeros_like(x).at[i].set(x)


@loose
def window_by_value(x):
    i = jnp.int32(jnp.abs(x[0]) * 10)
    y = lax.dynamic_slice(x, (i,), (10,))
    return lax.dynamic_update_slice(x**2, y * 2, (i + 1,))


@loose
def some_of_each_row(x):
    u = grid(x)
    y = jnp.take_along_axis(u, jnp.argsort(u, axis=1), axis=1)
    return (y + lax.top_k(u, 6)[0] * u[:, :1]).ravel()


@loose
def trips_by_value(x):
    """How often it turns is known from x alone."""
    return lax.fori_loop(0, jnp.int32(jnp.abs(x[0]) * 5), lambda i, y: jnp.roll(y, 1) * 2, x)


@loose
def called_back(x):
    """Somebody's NumPy, with a rule for its derivative in it too."""
    struct = jax.ShapeDtypeStruct(x.shape, x.dtype)

    @jax.custom_jvp
    def f(x):
        return jax.pure_callback(np.tanh, struct, x, vmap_method="expand_dims")

    f.defjvp(lambda p, t: (f(*p), jax.pure_callback(lambda v: v * 2, struct, t[0], vmap_method="expand_dims")))
    return f(x) + x
