"""The forms of sparse matrices against dense ones of NumPy: products, scaling, solves, verdicts, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from implicitax._linear import forms, sparse

EPS = {jnp.float32: 2e-7, jnp.float64: 4e-16}


def chain(n, width):
    return sp.diags_array([np.ones(n - abs(k)) for k in range(-width, width + 1)], offsets=range(-width, width + 1))


def cycle(n):
    return chain(n, 1) + sp.coo_array(([1.0, 1.0], ([0, n - 1], [n - 1, 0])), shape=(n, n))


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
}
DESCRIBED = {
    "tridiagonal": "tridiagonal",
    "two species stacked": "band of width 3",
    "five species in cells": "block-tridiagonal, blocks of 10",
    "pairs": "40 blocks of at most 2",
    "blocks stacked": "21 blocks of at most 6",
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
