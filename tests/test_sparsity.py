"""`sparsity`: the pattern of ∂R/∂x from the user, beside dense linear algebra; incomplete patterns; mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from jax.flatten_util import ravel_pytree

import implicitax as ix

N = 72  # above which a form is looked for, and below which none is by default
LINE = np.abs(np.subtract.outer(np.arange(N), np.arange(N))) <= 1
PATTERNS = {
    "csr": sp.csr_array(LINE * 0.5),
    "coo": sp.coo_matrix(LINE.astype(int)),
    "diagonals": sp.diags_array([np.ones(N - 1), np.ones(N), np.ones(N - 1)], offsets=[-1, 0, 1]),
    "truth values": LINE,
    "JAX": jnp.asarray(LINE, jnp.float32),
    "band": (1, 1),
    "band of NumPy's integers": [np.int64(1), np.int32(1)],
    "larger": (2, 3),
}


def line(u, theta):
    """One unknown a point; not symmetric."""
    a, b = theta
    left, right = jnp.pad(u[:-1], (1, 0)), jnp.pad(u[1:], (0, 1))
    return a * left - 2.5 * u + 1.1 * right * jnp.cos(left) - b * jnp.exp(u) + 0.3 * jnp.sin(jnp.arange(u.size))


def gap(u, theta):
    """`line` without what is to the left of an equation in ∂R/∂u, but of the unknown 9, on which the first depends."""
    return line(u, theta).at[0].add(0.2 * jnp.sin(u[9]))


def cells(state, theta):
    """Complex and real leaves, as a fixed point: of a cell each, and not holomorphic."""
    a, b = theta
    z, t = state["z"], state["t"]
    return {
        "t": 0.3 * jnp.sin(a * t) + 0.2 * jnp.real(z * jnp.array([1.0, 2.0, -1.0])[:, None]),
        "z": 0.3 * jnp.conj(z) * t + b * jnp.exp(0.3j * z) + 0.1 * a,
    }


CELLS = {"t": np.full((3, 9), 0.5), "z": np.full((3, 9), 0.2 + 0.1j)}
# In the order of the leaves, sorted by their keys: t, then the real parts of z, then its imaginary parts.
OF_CELLS = sp.kron(np.ones((3, 3)), sp.eye_array(27))
THETA = (0.9, 0.4)


def along(solve, x0, **keywords):
    """All of a solution as a function of one number, that both parameters depend on; θ is an argument."""
    weights = np.random.default_rng(0).normal(size=ravel_pytree(x0)[0].size)

    def of(s):
        x = ravel_pytree(solve(x0, (0.9 * s, 0.4 * s**2), **keywords).x)[0]
        return weights @ (jnp.real(x) + 2 * jnp.imag(x))

    return of


ALL = (jax.value_and_grad, jax.jacfwd, jax.hessian)


def same(solve, x0, sparsity, makes=(jax.value_and_grad,), rtol=1e-9, **keywords):
    """Whether value and gradient, or what is made besides, are those of a dense linear algebra."""
    of, right = along(solve, x0, sparsity=sparsity, **keywords), along(solve, x0, sparsity="dense")
    s = 1.1  # not what F was traced with before
    for make in makes:
        np.testing.assert_allclose(jax.jit(make(of))(s), jax.jit(make(right))(s), rtol=rtol)


def roots(x0, theta, R=line, **keywords):
    return ix.root(R, x0, theta, **keywords)


def points(x0, theta, **keywords):
    return ix.fixed_point(lambda u, theta: u + 0.2 * line(u, theta), x0, theta, **keywords)


def test_every_way_to_give_a_pattern():
    right = roots(jnp.zeros(N), THETA, sparsity="dense").x
    for name, pattern in PATTERNS.items():
        sol = roots(jnp.zeros(N), THETA, sparsity=pattern)
        form = "band of width 3, 6 tangents" if name == "larger" else "tridiagonal, 3 tangents"
        assert (name, sol.linear_solver) == (name, form)
        assert sol.solver == f"Newton(linear_solver={form})"
        np.testing.assert_allclose(sol.x, right, rtol=1e-9)


@pytest.mark.parametrize(("name", "makes"), [("csr", ALL), ("larger", ALL[:2])])
def test_a_root(name, makes):
    same(roots, jnp.zeros(N), PATTERNS[name], makes)


def test_a_fixed_point():
    for name in ("csr", "band"):
        assert points(jnp.zeros(N), THETA, sparsity=PATTERNS[name]).linear_solver == "tridiagonal, 3 tangents"
    same(points, jnp.zeros(N), (1, 1), ALL)


def test_a_pattern_of_a_fixed_point_needs_no_diagonal():
    F = lambda u, theta: 0.3 * jnp.sin(theta[0] * jnp.pad(u[:-1], (1, 0))) + theta[1] * jnp.cos(jnp.pad(u[1:], (0, 1)))
    solve = lambda x0, theta, **keywords: ix.fixed_point(F, x0, theta, **keywords)
    same(solve, jnp.zeros(N), LINE ^ np.eye(N, dtype=bool))


def test_leaves_and_complex_numbers():
    solve = lambda x0, theta, **keywords: ix.fixed_point(cells, x0, theta, **keywords)
    assert solve(CELLS, THETA, sparsity=OF_CELLS).linear_solver == "27 blocks of at most 3, 3 tangents"
    same(solve, CELLS, OF_CELLS)
    # Of another order of the leaves it is not the pattern.
    other = sp.kron(sp.eye_array(27), np.ones((3, 3)))
    with pytest.raises(ix.ConvergenceError, match=r"in the equation of x0\['t'\]\[0, 0\]"):
        solve(CELLS, THETA, sparsity=other)


@pytest.mark.float32
@pytest.mark.parametrize("solve", [roots, points])
def test_float32(solve):
    of, right = (jax.value_and_grad(along(solve, jnp.zeros(N), sparsity=s)) for s in (PATTERNS["csr"], "dense"))
    np.testing.assert_allclose(of(1.1), right(1.1), rtol=2e-4)


@pytest.mark.float32
def test_small_steps_of_a_fixed_point_in_float32():
    """The diagonal of ∂F/∂x − I is rounding, next to which nothing is missing."""
    F = lambda u, a: u + 1e-6 * (jnp.roll(u, 1) / 3 - u * (1 + a) + jnp.sin(u) / 5 + 1)
    ring = sp.eye_array(N) + sp.coo_array((np.ones(N), (np.arange(N), np.arange(N) - 1 + N * (np.arange(N) == 0))))
    assert bool(ix.fixed_point(F, jnp.ones(N), 1.0, sparsity=ring, throw=False).success)


def test_lanes():
    lanes = lambda **keywords: jax.jit(jax.vmap(jax.value_and_grad(along(roots, jnp.zeros(N), **keywords))))
    s = jnp.linspace(0.8, 1.2, 3)
    np.testing.assert_allclose(lanes(sparsity=(1, 1))(s), lanes(sparsity="dense")(s), rtol=1e-9)


def test_a_sweep():
    a = jnp.linspace(0.8, 1.0, 5)
    solve = lambda a, s: ix.sweep(lambda u, a: line(u, (a, 0.4)), jnp.zeros(N), a, kind="root", sparsity=s)
    assert solve(a, LINE).linear_solver == "tridiagonal, 3 tangents"
    every = [jax.grad(lambda a, s=s: (solve(a, s).x ** 2).sum())(a) for s in (LINE, "dense")]
    np.testing.assert_allclose(*every, rtol=1e-9)
    sol = ix.sweep(lambda u, a: gap(u, (a, 0.4)), jnp.zeros(N), a, kind="root", sparsity=LINE, throw=False)
    assert set(np.asarray(sol.status).tolist()) == {ix.Status.INCOMPLETE_PATTERN}


def test_layers():
    kinds = {ix.RootLayer: line, ix.FixedPointLayer: lambda u, theta: u + 0.2 * line(u, theta)}
    for Layer, F in kinds.items():
        layer = Layer(F, init=jnp.zeros(N), sparsity=sp.csr_array(LINE))
        assert layer.solve(THETA).linear_solver == "tridiagonal, 3 tangents"
        np.testing.assert_allclose(layer(THETA), Layer(F, init=jnp.zeros(N), sparsity="dense")(THETA), rtol=1e-9)
        again = Layer(F, init=jnp.zeros(N), sparsity=sp.csr_array(LINE))
        structures = [jax.tree.structure(each) for each in (layer, again)]
        assert structures[0] == structures[1]
        other = jax.tree.structure(Layer(F, init=jnp.zeros(N), sparsity=sp.eye_array(N)))
        assert structures[0] != other
    with pytest.raises(ValueError, match=r"`RootLayer\(sparsity=...\)`: .* got 'banded'"):
        ix.RootLayer(line, sparsity="banded")


def test_a_layer_keeps_the_pattern_that_it_was_given():
    pattern = LINE.copy()
    layer = ix.RootLayer(line, init=jnp.zeros(N), sparsity=pattern)
    pattern[:] = np.eye(N)
    assert layer.solve(THETA).linear_solver == "tridiagonal, 3 tangents"


@pytest.mark.parametrize("kind", ["root", "fixed_point"])
def test_a_solver_of_ones_own(kind):
    solve, custom = {"root": (roots, ix.custom_root), "fixed_point": (points, ix.custom_fixed_point)}[kind]
    F = line if kind == "root" else lambda u, theta: u + 0.2 * line(u, theta)
    by = lambda s: custom(F, sparsity=s)(lambda x0, theta: solve(x0, theta, sparsity="dense").x)
    weights = np.random.default_rng(0).normal(size=N)
    slopes = [jax.grad(lambda theta, s=s: weights @ by(s)(jnp.zeros(N), theta))(THETA) for s in (LINE, "dense")]
    np.testing.assert_allclose(*slopes, rtol=1e-9)
    with pytest.raises(ix.ConvergenceError, match=r"`sparsity` leaves out .*\(your solver, .* equation of x0\[1\]\)"):
        by((0, 1))(jnp.zeros(N), THETA)


METHODS = {
    "Newton": (ix.Newton(), "Newton(linear_solver=tridiagonal, 3 tangents)"),
    "Ladder": (ix.Ladder(), "Ladder(linear_solver=DenseLU())"),
    "Broyden": (ix.Broyden(), "Broyden()"),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_named(name):
    method, described = METHODS[name]
    sol = roots(jnp.zeros(N), THETA, solver=method, sparsity=LINE)
    assert (sol.solver, sol.linear_solver) == (described, "tridiagonal, 3 tangents")
    np.testing.assert_allclose(sol.x, roots(jnp.zeros(N), THETA, sparsity="dense").x, rtol=1e-8)


def test_what_is_named_by_the_user_is_taken():
    import lineax as lx

    sol = roots(jnp.zeros(N), THETA, solver=ix.Newton(lx.LU()), adjoint=ix.Implicit(lx.QR()), sparsity=LINE)
    assert (sol.solver, sol.linear_solver) == ("Newton(linear_solver=LU())", "QR()")


def test_a_structure_that_is_found_serves_a_method_that_is_named():
    for solver in (ix.Newton(), ix.Broyden()):
        sol = roots(jnp.zeros(250), THETA, solver=solver)
        assert sol.linear_solver == "tridiagonal, 3 tangents"
        dense = roots(jnp.zeros(250), THETA, solver=solver, sparsity="dense")
        assert dense.linear_solver == "DenseLU()"
        np.testing.assert_allclose(sol.x, dense.x, rtol=1e-8)


def test_dense_looks_for_nothing():
    sol = roots(jnp.zeros(250), THETA, sparsity="dense")
    assert (sol.solver, sol.linear_solver) == ("Ladder(linear_solver=DenseLU())", "DenseLU()")


def test_small_or_dense_patterns_serve_as_none():
    for n, pattern in ((10, (1, 1)), (N, np.ones((N, N))), (N, (N, 10**6)), (N, (60, 0))):
        sol = roots(jnp.zeros(n), THETA, sparsity=pattern)
        assert sol.linear_solver == "DenseLU()"
        np.testing.assert_allclose(sol.x, roots(jnp.zeros(n), THETA, sparsity="dense").x, rtol=1e-9)


def test_what_is_stored_as_0_is_0():
    stored = sp.coo_array(LINE * 1.0)
    wide = sp.coo_array((np.append(stored.data, 0.0), (np.append(stored.row, 0), np.append(stored.col, N - 1))))
    assert roots(jnp.zeros(N), THETA, sparsity=wide).linear_solver == "tridiagonal, 3 tangents"
    twice = sp.coo_array(([1.0, -1.0, *stored.data], ([0, 0, *stored.row], [1, 1, *stored.col])), shape=(N, N))
    assert roots(jnp.zeros(N), THETA, sparsity=twice).linear_solver == "tridiagonal, 3 tangents"


# Where F has no tangents of its own.


@pytest.mark.float32  # a callback runs in a thread of its own, which has no float64
def test_a_callback_takes_two_evaluations_a_colour():
    seen = []

    def on_host(u):
        u = np.asarray(u)
        seen.append(u.shape)
        out = 0.9 * np.pad(u[:-1], (1, 0)) - 2.5 * u + 1.1 * np.pad(u[1:], (0, 1)) - np.exp(u)
        return out.astype(np.float32)

    R = lambda u: jax.pure_callback(on_host, jax.ShapeDtypeStruct(u.shape, u.dtype), u, vmap_method="sequential")
    sol = ix.root(R, jnp.zeros(N), sparsity=(1, 1))
    assert sol.linear_solver == "tridiagonal, 3 tangents"
    assert len(seen) < 10 * int(sol.nfev) < 2 * N
    np.testing.assert_allclose(on_host(sol.x), 0, atol=5e-4)


def test_a_rule_for_reverse_mode_only():
    @jax.custom_vjp
    def f(u):
        return jnp.sin(u)

    f.defvjp(lambda u: (jnp.sin(u), u), lambda u, bar: (bar * jnp.cos(u),))
    R = lambda u, theta: line(f(u), theta)
    solve = lambda s: lambda theta: jnp.sum(ix.root(R, jnp.zeros(N), theta, sparsity=s).x ** 2)
    np.testing.assert_allclose(jax.grad(solve(LINE))(THETA), jax.grad(solve("dense"))(THETA), rtol=1e-9)


# Patterns that leave something out.

INCOMPLETE = {
    "upper": (line, (0, 1), r"x0\[1\]"),
    "one entry": (gap, LINE, r"x0\[0\]"),
    "a row": (line, LINE & (np.arange(N) != 7)[:, None], r"x0\[7\]"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_what_is_left_out_is_found_out(name):
    R, pattern, where = INCOMPLETE[name]
    keywords = {"sparsity": pattern, "solver": ix.Broyden() if name == "a row" else None}
    words = rf"`root`: `sparsity` leaves out .* leave `sparsity` out: .* first in the equation of {where}\)$"
    with pytest.raises(ix.ConvergenceError, match=words):
        roots(jnp.zeros(N), THETA, R, **keywords)
    sol = roots(jnp.zeros(N), THETA, R, throw=False, **keywords)
    assert ix.Status(int(sol.status)) is ix.Status.INCOMPLETE_PATTERN
    assert not bool(sol.success)
    jitted = jax.jit(lambda theta: roots(jnp.zeros(N), theta, R, throw=False, **keywords))(THETA)
    assert int(jitted.status) == ix.Status.INCOMPLETE_PATTERN


def test_and_under_jit_it_raises():
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"`sparsity` leaves out"):
        jax.block_until_ready(jax.jit(lambda theta: roots(jnp.zeros(N), theta, gap, sparsity=LINE).x)(THETA))


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_nor_has_it_a_derivative(mode, wrap):
    of = lambda s, **keywords: roots(jnp.zeros(N), (0.9 * s, 0.4), gap, sparsity=LINE, **keywords).x.sum()
    assert np.isnan(wrap(mode(lambda s: of(s, throw=False)))(1.1))
    with pytest.raises((ix.ConvergenceError, jax.errors.JaxRuntimeError), match="`sparsity` leaves out"):
        wrap(mode(of))(1.1)


def test_a_fixed_point_of_which_the_pattern_is_not_complete():
    F = lambda u, theta: u + 0.2 * gap(u, theta)
    for keywords in ({}, {"solver": ix.Picard()}, {"solver": ix.Newton()}):
        with pytest.raises(ix.ConvergenceError, match=r"in the equation of x0\[0\]"):
            ix.fixed_point(F, jnp.zeros(N), THETA, sparsity=(1, 1), **keywords)


def test_lanes_that_are_complete_have_their_values():
    R = lambda u, s: line(u, THETA).at[0].add(s * u[9])
    lanes = jax.vmap(lambda s: ix.root(R, jnp.zeros(N), s, sparsity=LINE, throw=False))(jnp.array([0.0, 0.3]))
    assert np.asarray(lanes.success).tolist() == [True, False]


# What is found again.


def test_one_pattern_is_compiled_once(monkeypatch):
    compiled = []
    before = jax.jit
    monkeypatch.setattr(jax, "jit", lambda f, *a, **k: compiled.append(f.__name__) or before(f, *a, **k))
    solve = lambda s: roots(jnp.zeros(N), THETA, lambda u, theta: 1.7 * line(u, theta), sparsity=s)
    solve(LINE)
    count = compiled.count("whole")
    assert count == 1
    for again in (LINE.copy(), sp.csr_array(LINE), sp.csc_array(LINE * 2), jnp.asarray(LINE), (1, 1), [1, 1]):
        solve(again)
        assert compiled.count("whole") == count
    solve((1, 2))
    assert compiled.count("whole") == count + 1
    changed = LINE.copy()
    solve(changed)
    changed[0, 2] = True
    assert solve(changed).linear_solver != "tridiagonal, 3 tangents"


# Mistakes.

MISTAKES = {
    "a name": ("tridiagonal", ValueError, ["a pattern as a 2-D array", "'tridiagonal'", "(1, 1)"]),
    "of another size": (
        np.eye(3),
        ValueError,
        ["shape (81, 81)", "27 in x0['t'], 27 in real(x0['z']), 27 in imag(x0['z'])", "shape (3, 3)", "real parts"],
    ),
    "of a size that is not square": (np.ones((81, 3)), ValueError, ["shape (81, 81)", "shape (81, 3)"]),
    "one axis": (np.ones(81), ValueError, ["two axes", "shape (81,)"]),
    "a sparse vector": (sp.coo_array(np.ones(81)), ValueError, ["two axes", "shape (81,)"]),
    "negative": ((1, -1), ValueError, ["two integers of at least 0", "(1, -1)", "solve_banded"]),
    "no integer": ((1.0, 1), ValueError, ["two integers of at least 0", "(1.0, 1)"]),
    "true": ((True, 1), ValueError, ["two integers of at least 0"]),
    "three": ((1, 1, 1), ValueError, ["two integers of at least 0", "(1, 1, 1)"]),
    "one number": (1, TypeError, ["a band (lower, upper)", "got 1."]),
    "a function": (lambda x: x, TypeError, ["got a function", "`jac_sparsity`"]),
    "a class": (sp.csr_array, TypeError, ["the class csr_array"]),
    "rows and columns": ((np.arange(3), np.arange(3)), TypeError, ["a tuple of 2 arrays", "coo_array"]),
    "lists": ([[1, 0], [0, 1]], TypeError, ["a list of 2 arrays", "np.array"]),
    "words": (np.array([["a", "b"], ["c", "d"]]), TypeError, ["truth values or numbers", "<U1"]),
    "objects": (np.array([[None, 1], [1, 1]]), TypeError, ["truth values or numbers", "object"]),
    "NaN": (np.diag([np.nan] * 81), ValueError, ["NaN in 81", "Jacobian"]),
    "NaN, sparse": (sp.diags_array(np.full(81, np.nan)), ValueError, ["NaN in 81"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    sparsity, kind, words = MISTAKES[name]
    with pytest.raises(kind) as error:
        ix.fixed_point(cells, CELLS, THETA, sparsity=sparsity)
    assert str(error.value).startswith("`fixed_point(sparsity=...)`: expected ")
    for word in words:
        assert word in str(error.value)
    with pytest.raises(kind, match=r"^`custom_root\(sparsity=...\)`: expected"):
        ix.custom_root(cells, sparsity=sparsity)(lambda x0, theta: x0)(CELLS, THETA)
    with pytest.raises(kind, match=r"^`sweep\(sparsity=...\)`: expected"):
        ix.sweep(cells, CELLS, (jnp.ones(3), jnp.ones(3)), sparsity=sparsity)


def test_a_traced_pattern():
    with pytest.raises(TypeError, match=r"known when the solve is compiled, got a traced array of shape \(72, 72\)"):
        jax.jit(lambda s: roots(jnp.zeros(N), THETA, sparsity=s).x)(LINE)


def test_what_a_pattern_does_not_go_together_with():
    rows = lambda **keywords: ix.fixed_point(
        lambda x, a: jnp.cos(a * x), jnp.ones((N, 2)), 1.0, batch_axis=0, **keywords
    )
    with pytest.raises(ValueError, match=r"`fixed_point\(sparsity=..., batch_axis=...\)`: expected one of the two"):
        rows(sparsity=(1, 1))
    np.testing.assert_array_equal(rows(sparsity="dense").x, rows().x)
    keeps = lambda x: x + 0.1 * (jnp.roll(x, 1) - x)
    with pytest.raises(ValueError, match=r"`fixed_point\(sparsity=..., constraint=...\)`: expected one of the two"):
        ix.fixed_point(keeps, jnp.ones(N), constraint=lambda x: x.sum() - N, sparsity=(1, 1))
    more = lambda x: jnp.append(x**2 - 2, x[0] - 2**0.5)
    with pytest.raises(ValueError, match=r"`root\(sparsity=...\)`: expected none where R has more equations"):
        ix.root(more, jnp.ones(N), sparsity=(0, 0))
    assert bool(ix.root(more, jnp.ones(N), sparsity="dense").success)


def test_unrolled_has_no_use_for_it():
    unrolled = lambda s: points(jnp.zeros(N), (0.9 * s, 0.4), sparsity=LINE, adjoint=ix.Unrolled(200)).x.sum()
    exact = lambda s: points(jnp.zeros(N), (0.9 * s, 0.4), sparsity="dense").x.sum()
    np.testing.assert_allclose(jax.grad(unrolled)(1.0), jax.grad(exact)(1.0), rtol=1e-8)


def test_diagnose_takes_it():
    report = ix.diagnose(line, jnp.zeros(N), THETA, kind="root", sparsity=LINE)
    assert report.healthy
    assert "sparsity" in str(ix.diagnose(gap, jnp.zeros(N), THETA, kind="root", sparsity=LINE))


def test_short_columns_in_lanes():
    """Below the size at which a structure is looked for, and that of other forms."""

    def column(h, theta):
        k = theta[0] / (1 + h**2)
        flux = jnp.concatenate([theta[1:], (k[1:] + k[:-1]) / 2 * jnp.diff(h) - 0.1 * k[1:], jnp.zeros(1)])
        return jnp.diff(flux) - 0.3 * h + jnp.sin(jnp.arange(17.0))

    of = lambda theta, **given: ix.root(column, jnp.zeros(17), theta, **given)
    assert of(jnp.array([2.0, 0.1]), sparsity=(1, 1)).linear_solver == "tridiagonal, 3 tangents"
    assert of(jnp.array([2.0, 0.1])).linear_solver == "DenseLU()"
    thetas = jnp.array([[2.0, 0.1], [3.0, -0.2], [1.0, 0.5]])
    weights = jnp.cos(jnp.arange(17.0))
    both = [jax.vmap(jax.value_and_grad(lambda t: weights @ of(t, **given).x)) for given in ({"sparsity": (1, 1)}, {})]
    for found, wanted in zip(jax.jit(both[0])(thetas), jax.jit(both[1])(thetas)):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
