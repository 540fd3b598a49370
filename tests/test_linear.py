"""The small LU, the verdict on linear solves, and the choice between solvers."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import implicitax as ix
from implicitax import _linear
from implicitax._linear import small_lu


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("solver", [ix.SmallLU(), _linear.DenseLU()], ids=str)
def test_lu_as_a_lineax_solver(solver, n, dtype):
    rng = np.random.default_rng(n)
    matrix = jnp.asarray(rng.normal(size=(n, n)), dtype)
    b = jnp.asarray(rng.normal(size=n), dtype)
    operator = lx.MatrixLinearOperator(matrix)
    tol = 1e-3 if dtype == jnp.float32 else 1e-11

    solution = lx.linear_solve(operator, b, solver)
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), rtol=tol)
    assert solution.value.dtype == dtype
    state = solver.init(operator, {})
    transposed, _ = solver.transpose(state, {})
    np.testing.assert_allclose(solver.compute(transposed, b, {})[0], np.linalg.solve(matrix.T, b), rtol=tol)
    twice, _ = solver.transpose(transposed, {})
    np.testing.assert_array_equal(solver.compute(twice, b, {})[0], solver.compute(state, b, {})[0])
    pulled = jax.vjp(lambda b: lx.linear_solve(operator, b, solver).value, b)[1](b)[0]
    np.testing.assert_allclose(pulled, np.linalg.solve(matrix.T, b), rtol=tol)
    # Applying the factors is linear by itself, without Lineax's rule.
    (pulled,) = jax.linear_transpose(lambda b: solver.compute(state, b, {})[0], b)(b)
    np.testing.assert_allclose(pulled, np.linalg.solve(matrix.T, b), rtol=tol)


def test_small_lu_needs_every_pivot_order():
    """Permutation matrices: elimination without, or with wrong, exchanges fails on all but one."""
    b = jnp.arange(1.0, 5.0)
    for order in itertools.permutations(range(4)):
        matrix = jnp.eye(4)[jnp.array(order)] + 1e-12
        value = lx.linear_solve(lx.MatrixLinearOperator(matrix), b, ix.SmallLU()).value
        np.testing.assert_allclose(value, np.linalg.solve(matrix, b), rtol=1e-9)


@pytest.mark.parametrize("solver", [ix.SmallLU(), _linear.DenseLU()], ids=str)
def test_complex_and_pytrees(solver):
    rng = np.random.default_rng(0)
    matrix = jnp.asarray(rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3)))
    b = jnp.asarray(rng.normal(size=3) + 0j)
    state = solver.init(lx.MatrixLinearOperator(matrix), {})
    np.testing.assert_allclose(solver.compute(state, b, {})[0], np.linalg.solve(matrix, b))
    conjugate, _ = solver.conj(state, {})
    np.testing.assert_allclose(solver.compute(conjugate, b, {})[0], np.linalg.solve(matrix.conj(), b))
    operator = lx.FunctionLinearOperator(
        lambda v: {"p": 2 * v["p"] + v["q"][0], "q": jnp.stack([v["p"] - v["q"][1], 3 * v["q"][0]])},
        {"p": jax.ShapeDtypeStruct((), jnp.float64), "q": jax.ShapeDtypeStruct((2,), jnp.float64)},
    )
    rhs = {"p": jnp.asarray(1.0), "q": jnp.array([2.0, 3.0])}
    value = lx.linear_solve(operator, rhs, solver).value
    assert eqx.tree_equal(operator.mv(value), rhs, rtol=1e-12, atol=1e-12)


def test_small_lu_reports_singular_and_not_square():
    singular = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [2.0, 4.0]]))
    assert lx.linear_solve(singular, jnp.ones(2), ix.SmallLU(), throw=False).result != lx.RESULTS.successful
    with pytest.raises(ValueError, match="`SmallLU`: expected a square operator, got one of 2 rows and 3 columns"):
        ix.SmallLU().init(lx.MatrixLinearOperator(jnp.ones((2, 3))), {})


def test_small_lu_under_vmap_has_no_lapack():
    matrices = jnp.asarray(np.random.default_rng(1).normal(size=(50, 4, 4)))
    solve = jax.vmap(lambda m: lx.linear_solve(lx.MatrixLinearOperator(m), jnp.ones(4), ix.SmallLU()).value)
    np.testing.assert_allclose(solve(matrices), np.linalg.solve(matrices, np.ones((50, 4, 1)))[..., 0], rtol=1e-8)
    assert "lapack" not in jax.jit(solve).lower(matrices).as_text()


@pytest.mark.parametrize("solver", [ix.SmallLU(), _linear.DenseLU(), lx.LU(), lx.QR()], ids=str)
def test_units_do_not_matter_to_the_verdict(solver):
    """A regular matrix in kelvin, pascal and fractions, of condition 1e12, is solved; a singular one is reported."""
    regular = np.array([[2.0, 1.0, 0.5], [-1.0, 3.0, 0.2], [0.3, -0.4, 1.5]])
    units, b = np.array([3e2, 1e5, 1e-3]), np.array([1.0, -2.0, 3.0])
    scaled = regular * (units[:, None] ** -1) * units
    y, ok = _linear.solve_dense(jnp.asarray(scaled), jnp.asarray(b / units), solver)
    assert bool(ok)
    np.testing.assert_allclose(y, np.linalg.solve(regular, b) / units, rtol=1e-9)
    for singular in (
        regular[[0, 1, 1]],
        regular * [[1], [1], [0]],
        np.stack([regular[0], regular[1], regular[0] - 2 * regular[1]]),
    ):
        assert not bool(_linear.solve_dense(jnp.asarray(singular), jnp.asarray(b), solver)[1])


def test_factors_keep_apart_from_the_right_hand_side():
    matrix = jnp.array([[0.0, 2.0], [1.0, 1.0]])
    factors = small_lu.factorise(small_lu.to_rows(matrix))
    for b in np.eye(2):
        np.testing.assert_allclose(
            jnp.stack(small_lu.apply_inverse(factors, list(jnp.asarray(b)))), np.linalg.solve(matrix, b)
        )


def test_matrix_free_scaling_and_zero_rows():
    rng = np.random.default_rng(2)
    n = 12
    units = 10.0 ** rng.uniform(-4, 4, n)
    A = (np.eye(n) + 0.2 * rng.normal(size=(n, n))) * units[:, None] / units
    b = rng.normal(size=n) * units
    solver = lx.GMRES(1e-12, 1e-12, restart=n)
    (y,), ok = _linear.solve(lambda v: (A @ v[0],), (jnp.asarray(b),), solver, (jnp.asarray(units),))
    assert bool(ok)
    np.testing.assert_allclose(y, np.linalg.solve(A, b), rtol=1e-8)
    (y,), ok = _linear.solve(
        lambda v: (A.T @ v[0],), (jnp.asarray(b / units**2),), solver, (jnp.asarray(units),), transpose=True
    )
    assert bool(ok)
    np.testing.assert_allclose(y, np.linalg.solve(A.T, b / units**2), rtol=1e-8)
    A[3], b[3] = 0, 0
    assert not bool(_linear.solve(lambda v: (A @ v[0],), (jnp.asarray(b),), solver, (jnp.asarray(units),))[1])


@pytest.mark.parametrize("n", [101, 1200])
def test_a_multiple_of_the_identity(n):
    """BiCGStab's first step is exact, and its next 0/0: what comes after it takes over. x = a/2 in each component."""
    fixed = lambda a: jnp.sum(ix.fixed_point(lambda x, a: a - x, jnp.zeros(n), a).x)
    root = lambda a: jnp.sum(ix.root(lambda x, a: 2 * x - a, jnp.zeros(n), a).x)
    for solve in (fixed, root, jax.vmap(fixed)):
        a = jnp.ones(2) if solve not in (fixed, root) else 1.0
        np.testing.assert_allclose(jax.grad(lambda a: jnp.sum(solve(a)))(a), n / 2, rtol=1e-12)
    sol = ix.root(lambda x: 2 * x - 1, jnp.zeros(n), solver=ix.Newton(), error_estimate=True)
    np.testing.assert_allclose(sol.x, 0.5, rtol=1e-12)
    assert float(sol.error) < 1e-9
