"""The forms of sparse matrices against dense ones of NumPy: products, scaling, solves, verdicts, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from implicitax._linear import assemble, forms, sparse
from implicitax._problem.pattern import Colouring

EPS = {jnp.float32: 2e-7, jnp.float64: 4e-16}


def chain(n, width):
    return sp.diags_array([np.ones(n - abs(k)) for k in range(-width, width + 1)], offsets=range(-width, width + 1))


def cycle(n):
    return chain(n, 1) + sp.coo_array(([1.0, 1.0], ([0, n - 1], [n - 1, 0])), shape=(n, n))


def grid(m):
    return sp.kron(chain(m, 1), sp.eye_array(m)) + sp.kron(sp.eye_array(m), chain(m, 1))


def star(n):
    """One unknown that every other one has to do with."""
    rim = np.arange(0, n, 2)
    return sp.coo_array((np.ones(2 * rim.size), (np.append(rim, 0 * rim), np.append(0 * rim, rim))), shape=(n, n))


def bordered(n):
    """A chain, with two rows and columns that are full, but for what is in both."""
    whole = sp.lil_array(chain(n, 1))
    whole[-2:, :-2] = whole[:-2, -2:] = 1
    whole[-2:, -2:] = 0
    return sp.csr_array(whole)


def network(n, seed):
    """No node beside itself, and the diagonal in other columns for some: of equations in no order."""
    rng = np.random.default_rng(seed)
    one_way = sp.coo_array((np.ones(n), (rng.integers(0, n, n), rng.integers(0, n, n))), shape=(n, n))
    return sp.coo_array((one_way + sp.eye_array(n)).toarray()[np.roll(np.arange(n), n // 3)])


PATTERNS = {
    "tridiagonal": chain(90, 1),
    "a band": chain(101, 2),
    "one-sided": sp.coo_array(np.triu(chain(88, 3).toarray()) + np.diag(np.ones(87), -1)),
    "a cycle": cycle(80),
    "two species stacked": sp.kron(np.ones((2, 2)), chain(50, 1)),
    "five species in cells": sp.kron(cycle(30), np.eye(5)) + sp.kron(np.eye(30), np.ones((5, 5))),
    "pairs": sp.kron(np.eye(40), np.ones((2, 2))),
    "blocks stacked": sp.kron(np.ones((6, 6)), np.eye(21)),
    "blocks of all sizes": sp.block_diag([np.ones((k, k)) for k in (1, 9, 2, 3, 1, 17, 5, 9, 12, 4, 2)]),
    "diagonal": sp.eye_array(70),
    "a square": grid(26),
    "a network": network(601, 1),
    "a hub": chain(520, 1) + star(520),
    "a border": bordered(520),
}
DESCRIBED = {
    "tridiagonal": "tridiagonal",
    "two species stacked": "band of width 3",
    "five species in cells": "block-tridiagonal, blocks of 10",
    "pairs": "40 blocks of at most 2",
    "blocks stacked": "21 blocks of at most 6",
    "a square": "sparse LU",
    "a network": "sparse LU",
    "a hub": "sparse LU",
    "a border": "sparse LU",
}


def entries(pattern):
    """Rows and columns, sorted."""
    rows, cols = np.nonzero(pattern.toarray())
    return rows.astype(np.int32), cols.astype(np.int32)


@functools.cache
def form_of(name):
    return forms.choose_form(*entries(PATTERNS[name]), PATTERNS[name].shape[0])


def draw(name, dtype, seed, diagonal=0.0):
    """Values, the dense matrix and a right-hand side. Off the diagonal entries are normal: pivots have to be sought."""
    rng = np.random.default_rng(seed)
    (rows, cols), n = entries(PATTERNS[name]), PATTERNS[name].shape[0]
    values = rng.normal(size=rows.size) + diagonal * (rows == cols)
    values, b = values.astype(dtype), rng.normal(size=n).astype(dtype)
    dense = np.zeros((n, n))
    dense[rows, cols] = values
    return jnp.asarray(values), dense, jnp.asarray(b)


@jax.jit
def everything(A, b, u):
    """All that a form does, in one program."""
    factors = A.factor()
    return {
        "product": A.matvec(b),
        "transposed": A.rmatvec(b),
        "rows": A.largest_in_rows(),
        "columns": A.largest_in_columns(),
        "scaled": A.scaled(u, 1 / u**2).matvec(b),
        "abs": A.abs().matvec(b),
        "solve": sparse.solve_sparse(A, factors, b),
        "solve transposed": sparse.solve_sparse(A, factors, b, transpose=True),
    }


def backward_error(A, y, b):
    return np.max(np.abs(A @ y - b)) / (np.max(np.sum(np.abs(A), 1)) * np.max(np.abs(y)) + np.max(np.abs(b)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", PATTERNS)
def test_against_dense(name, dtype):
    # Nearly triangular matrices of random entries have conditions without bounds.
    values, dense, b = draw(name, dtype, 1, diagonal=4.0 if name == "one-sided" else 0.0)
    u = jnp.asarray(10.0 ** np.random.default_rng(2).uniform(-2, 2, b.size), dtype)
    found = everything(form_of(name).pack(values), b, u)
    assert found["product"].dtype == found["solve"].y.dtype == dtype
    x, v, tol = np.asarray(b, float), np.asarray(u, float), 50 * EPS[dtype]
    for what, wanted, size in (
        ("product", dense @ x, np.abs(dense) @ np.abs(x)),
        ("transposed", dense.T @ x, np.abs(dense.T) @ np.abs(x)),
        ("rows", np.abs(dense).max(1), 1),
        ("columns", np.abs(dense).max(0), 1),
        ("scaled", v * (dense @ (x / v**2)), v * (np.abs(dense) @ np.abs(x / v**2))),
        ("abs", np.abs(dense) @ x, np.abs(dense) @ np.abs(x)),
    ):
        assert np.all(np.abs(found[what] - wanted) <= tol * (size + 1e-30)), what
    condition = np.linalg.cond(dense)
    for what, A in (("solve", dense), ("solve transposed", dense.T)):
        y, ok = found[what]
        assert bool(ok), condition
        assert backward_error(A, np.asarray(y, float), x) < 64 * EPS[dtype]
        np.testing.assert_allclose(
            y, np.linalg.solve(A, x), rtol=0, atol=100 * EPS[dtype] * condition * np.max(np.abs(y))
        )


def test_what_the_forms_are_called():
    assert {name: form_of(name).describe() for name in DESCRIBED} == DESCRIBED


SOLVED = "tridiagonal", "two species stacked", "five species in cells", "blocks of all sizes", "a square"


@jax.jit
def solved(A, b):
    factors = A.factor()
    return sparse.solve_sparse(A, factors, b), sparse.solve_sparse(A, factors, b, transpose=True)


def check(A, dense, b):
    """Right to backward error in both directions, or not ok. Whether each was ok."""
    answers = solved(A, b)
    for (y, ok), matrix in zip(answers, (dense, dense.T)):
        assert not ok or backward_error(matrix, np.asarray(y, float), np.asarray(b, float)) < 128 * EPS[jnp.float64]
    return [bool(ok) for _, ok in answers]


@pytest.mark.parametrize("name", SOLVED)
def test_saddle_points_and_zero_diagonals(name):
    """The diagonal is 0, or a part of it: no elimination without exchanges gets past that."""
    for seed in range(6):
        values, dense, b = draw(name, jnp.float64, seed)
        rows, cols = entries(PATTERNS[name])
        zero = (rows == cols) & ((rows % 2 == 0) | (seed < 3))
        values = jnp.asarray(np.where(zero, 0, values))
        dense = dense * ~((np.arange(b.size) % 2 == 0) | (seed < 3)) * np.eye(b.size) + dense * (1 - np.eye(b.size))
        found = check(form_of(name).pack(values), dense, b)
        if np.linalg.cond(dense) < 1e10:
            assert all(found), (seed, np.linalg.cond(dense))


def test_an_exchange_across_the_border_of_two_parts():
    """Of pairs that are coupled only to each other an interior that cuts one is singular, as those of 7 unknowns do."""
    n, rng = 131, np.random.default_rng(3)
    rows, cols = entries(chain(n, 2))
    pair = (rows + 1) // 2 == (cols + 1) // 2
    values = np.where(pair & (rows != cols), rng.uniform(1, 2, rows.size), 0.0)
    values[(rows == cols) & ((rows == 0) | (rows == n - 1))] = 1
    dense = np.zeros((n, n))
    dense[rows, cols] = values
    form = forms.choose_form(rows, cols, n)
    assert form is not None
    assert form.describe() == "band of width 2"
    assert check(form.pack(jnp.asarray(values)), dense, jnp.asarray(rng.normal(size=n))) == [True, True]


@pytest.mark.parametrize("name", SOLVED)
def test_singular_is_not_ok(name):
    _, dense, b = draw(name, jnp.float64, 4)
    (rows, cols), n = entries(PATTERNS[name]), b.size
    single = sp.csgraph.connected_components(PATTERNS[name])[0] == 1
    middle, other = (n // 2, n // 2 + 1) if single else (n - 3, n - 4)
    pattern = PATTERNS[name].toarray()
    common = (pattern[middle] != 0) & (pattern[other] != 0)
    for what in ("row of zeros", "column of zeros", "two rows that are multiples", "a constant in the null space"):
        singular = dense.copy()
        if what == "row of zeros":
            singular[middle] = 0
        elif what == "column of zeros":
            singular[:, middle] = 0
        elif what == "two rows that are multiples":
            singular[middle] = np.where(common, singular[middle], 0)
            singular[other] = 0.3 * singular[middle]
        else:
            singular[np.arange(n), np.arange(n)] -= singular.sum(1)
        A = form_of(name).pack(jnp.asarray(singular[rows, cols]))
        assert check(A, singular, b) == [False, False], what


@pytest.mark.parametrize("name", SOLVED)
def test_units_over_ten_decades(name):
    """After rows and columns are scaled to a largest entry of 1, as a solve does, the units do not matter."""
    values, dense, b = draw(name, jnp.float64, 5)
    rng = np.random.default_rng(6)
    r, c = (10.0 ** rng.uniform(-5, 5, b.size) for _ in range(2))
    rows, cols = entries(PATTERNS[name])
    A = form_of(name).pack(values * r[rows] * c[cols])
    by_rows = 1 / A.largest_in_rows()
    by_columns = 1 / A.scaled(by_rows, jnp.ones_like(b)).largest_in_columns()
    y, ok = solved(A.scaled(by_rows, by_columns), b * r * by_rows)[0]
    assert bool(ok)
    x = np.linalg.solve(dense, b)
    np.testing.assert_allclose(y * by_columns * c, x, rtol=0, atol=1e-13 * np.linalg.cond(dense) * np.max(np.abs(x)))


@pytest.mark.parametrize("name", SOLVED)
def test_lanes_and_directions(name):
    """Lanes of matrices, and lanes of b with one matrix, factorised before; solves are linear in b."""
    form = form_of(name)
    values, dense, b = (np.stack(each) for each in zip(*(draw(name, jnp.float64, seed) for seed in (7, 8))))
    answers = jax.jit(jax.vmap(lambda values, b: solved(form.pack(values), b)))(values, b)
    for (y, ok), matrices in zip(answers, (dense, dense.transpose(0, 2, 1))):
        assert ok.tolist() == [True, True]
        np.testing.assert_allclose(y, np.linalg.solve(matrices, b[..., None])[..., 0], rtol=1e-8, atol=1e-10)
    A = form.pack(jnp.asarray(values[0]))
    found = jax.jit(directions)(A, jnp.asarray(b))
    for what, matrix, right in (
        ("lanes", dense[0].T, b),
        ("tangent", dense[0], b[1]),
        ("pulled", dense[0].T, b[0]),
    ):
        np.testing.assert_allclose(found[what], np.linalg.solve(matrix, right.T).T, rtol=1e-8, atol=1e-10)


def directions(A, b):
    factors = A.factor()
    return {
        "lanes": jax.vmap(lambda b: factors.solve(b, transpose=True))(b),
        "tangent": jax.jvp(factors.solve, (b[0],), (b[1],))[1],
        "pulled": jax.linear_transpose(factors.solve, b[0])(b[0])[0],
    }


def test_what_is_no_form():
    rng = np.random.default_rng(9)
    n = 200
    scattered = sp.coo_array((rng.random((n, n)) < 0.03) + np.eye(n))
    for pattern in (np.ones((80, 80)), np.ones((700, 700)), scattered, chain(60, 2), chain(16, 1)):
        rows, cols = entries(sp.coo_array(pattern))
        assert forms.choose_form(rows, cols, pattern.shape[0]) is None
    # A grid in two dimensions is a chain of blocks, one for each of its diagonals, whatever the order of its unknowns.
    order = rng.permutation(400)
    form = forms.choose_form(*entries(sp.coo_array(grid(20).toarray()[np.ix_(order, order)])), 400)
    assert form is not None
    assert "block-tridiagonal, blocks of 2" in form.describe()


def test_equal_forms_are_one_key():
    rows, cols = entries(PATTERNS["a band"])
    first, again = (forms.choose_form(rows.copy(), cols.copy(), 101) for _ in range(2))
    less = forms.choose_form(rows[1:], cols[1:], 101)
    assert first == again != less
    assert hash(first) == hash(again)


@pytest.mark.parametrize("chunk", [2**26, 3000])
def test_entries_from_products(chunk, monkeypatch):
    """Coloured by the remainder of the column, all products at once or some at a time."""
    monkeypatch.setattr(assemble, "CHUNK", chunk)
    values, dense, _ = draw("a band", jnp.float64, 10)
    rows, cols = entries(PATTERNS["a band"])
    none = np.zeros(0, np.int32)
    colouring = Colouring(rows, cols, (np.arange(101) % 5).astype(np.int32), 5, none, none)
    traced = []
    product = lambda v: traced.append(v) or jnp.asarray(dense) @ v
    found = jax.jit(lambda: assemble.from_tangents(product, colouring, jnp.float64))()
    np.testing.assert_allclose(found, values, rtol=1e-14)
    assert len(traced) == 1
