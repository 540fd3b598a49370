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


# Solvers for a certain form, of which `tags` say that A has it -------------------------------------------------------

DEFINITE = lx.positive_semidefinite_tag
N = 12
LAPLACE = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
COUPLED = np.random.default_rng(3).normal(size=(N, N)) + 6 * np.eye(N)
LOWER = np.tril(COUPLED)
PARAMETERS = np.linspace(1, 2, N)


def tagged_root(matrix, adjoint, units=1.0, sign=1):
    """The solution of M x + x³ = a as a function of a, in units of the unknowns."""
    R = lambda x, a: sign * (matrix @ (x / units) + (x / units) ** 3 - a) / units
    return lambda a: ix.root(R, units * jnp.ones(N), a, adjoint=adjoint).x


def both_modes(solve):
    a = jnp.asarray(PARAMETERS)
    return np.asarray(jax.jacfwd(solve)(a)), np.asarray(jax.jacrev(solve)(a))


FORMS = {
    "CG": (lx.CG(1e-12, 1e-12), DEFINITE, LAPLACE),
    "Cholesky": (lx.Cholesky(), DEFINITE, LAPLACE),
    "CG, several tags": (lx.CG(1e-12, 1e-12), (lx.symmetric_tag, DEFINITE), LAPLACE),
    "Tridiagonal": (lx.Tridiagonal(), lx.tridiagonal_tag, LAPLACE),
    "Diagonal": (lx.Diagonal(), lx.diagonal_tag, np.diag(PARAMETERS)),
    "Triangular": (lx.Triangular(), lx.lower_triangular_tag, LOWER),
    "general": (lx.BiCGStab(1e-12, 1e-12), DEFINITE, LAPLACE),
    "dense": (lx.LU(), DEFINITE, LAPLACE),
}


@pytest.mark.parametrize("units", [1.0, 1e-15, 1e12])
@pytest.mark.parametrize("name", FORMS)
def test_a_solver_for_a_certain_form(name, units):
    solver, tags, matrix = FORMS[name]
    solve = tagged_root(matrix, ix.Implicit(solver, tags=tags), units)
    x = np.asarray(solve(jnp.asarray(PARAMETERS))) / units
    exact = units * np.linalg.inv(matrix + 3 * np.diag(x**2))
    for jacobian in both_modes(solve):
        assert np.allclose(jacobian, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("solver", [lx.CG(1e-12, 1e-12), lx.Cholesky()], ids=lambda solver: type(solver).__name__)
def test_a_negative_definite_matrix(solver):
    solve = tagged_root(LAPLACE, ix.Implicit(solver, tags=lx.negative_semidefinite_tag), sign=-1)
    exact = both_modes(tagged_root(LAPLACE, None))[0]
    assert all(np.allclose(jacobian, exact, rtol=1e-8) for jacobian in both_modes(solve))


@pytest.mark.parametrize("solver", [lx.CG(1e-12, 1e-12), lx.Cholesky()], ids=lambda solver: type(solver).__name__)
def test_of_a_fixed_point_the_tags_are_those_of_one_minus_its_derivative(solver):
    F = lambda x, a: x - 0.2 * (LAPLACE @ x + x**3 - a)
    solve = lambda a: ix.fixed_point(F, jnp.ones(N), a, adjoint=ix.Implicit(solver, tags=DEFINITE)).x
    exact = both_modes(tagged_root(LAPLACE, None))[0]
    assert all(np.allclose(jacobian, exact, rtol=1e-8) for jacobian in both_modes(solve))
    a = jnp.asarray(PARAMETERS)
    second = lambda solve: jax.hessian(lambda a: solve(a)[0])(a)
    assert np.allclose(second(solve), second(tagged_root(LAPLACE, None)), rtol=1e-6, atol=1e-9)


def test_leaves_in_units_of_their_own_stay_symmetric():
    """The gradient of an energy, by a displacement of 1e-6 and a pressure of 1e5."""
    energy = lambda x, a: (
        jnp.sum((x["u"] * 1e6) ** 2) / 2
        + jnp.sum(x["p"] * 1e-5 * (x["u"] * 1e6)) / 4
        + jnp.sum((x["p"] * 1e-5 - a) ** 2)
    )
    R = jax.grad(energy)
    x0 = {"u": 1e-6 * jnp.ones(3), "p": 1e5 * jnp.ones(3)}
    solve = lambda a, adjoint: ix.root(R, x0, a, adjoint=adjoint).x
    tagged = ix.Implicit(lx.CG(1e-12, 1e-12), tags=DEFINITE)
    ours, exact = (jax.jacrev(solve)(jnp.array([1.0, 2.0, 3.0]), adjoint) for adjoint in (tagged, None))
    assert all(np.allclose(ours[name], exact[name], rtol=1e-8, atol=1e-9 * np.abs(exact[name]).max()) for name in exact)


WRONG = {
    "CG": (lx.CG(1e-12, 1e-12), DEFINITE, COUPLED),
    "Cholesky": (lx.Cholesky(), DEFINITE, COUPLED),
    "Tridiagonal": (lx.Tridiagonal(), lx.tridiagonal_tag, COUPLED),
    "Diagonal": (lx.Diagonal(), lx.diagonal_tag, COUPLED),
    "Triangular": (lx.Triangular(), lx.lower_triangular_tag, COUPLED),
    "CG, indefinite": (lx.CG(1e-12, 1e-12), DEFINITE, LAPLACE - 2.1 * np.eye(N)),
    "Cholesky, indefinite": (lx.Cholesky(), DEFINITE, LAPLACE - 6 * np.eye(N)),
    "Cholesky, of the other sign": (lx.Cholesky(), lx.negative_semidefinite_tag, LAPLACE),
}


def attempt(mode, solve):
    """The derivative, or None and the text of the error."""
    try:
        return mode(solve)(jnp.asarray(PARAMETERS)), ""
    except ix.ConvergenceError as error:
        return None, str(error)


@pytest.mark.parametrize("amount", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("name", ["Cholesky", "CG", "Tridiagonal"])
def test_a_tag_that_is_nearly_right_is_no_silent_wrong_answer(name, amount):
    solver, tags, matrix = FORMS[name]
    wrong = matrix + amount * np.triu(COUPLED, 2)
    for mode in (jax.jacfwd, jax.jacrev):
        ours, text = attempt(mode, tagged_root(wrong, ix.Implicit(solver, tags=tags)))
        if ours is None:
            assert "as `tags` say" in text
            assert amount > 1e-9
        else:
            exact = mode(tagged_root(wrong, None))(jnp.asarray(PARAMETERS))
            assert np.allclose(ours, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_tag_is_found_out(name, mode):
    solver, tags, matrix = WRONG[name]
    ours, text = attempt(mode, tagged_root(matrix, ix.Implicit(solver, tags=tags)))
    if ours is not None:  # conjugate gradients may be lucky where A is indefinite, and then the answer is one
        assert name == "CG, indefinite"
        assert np.allclose(ours, mode(tagged_root(matrix, None))(jnp.asarray(PARAMETERS)), rtol=1e-6)
        return
    words = "negative" if "other" in name else repr(tags).partition("_")[0]
    assert f"Or ∂R/∂x is not {words}" in text
    assert "holds whatever x is" not in text


def test_without_throw_a_wrong_tag_gives_nan():
    adjoint = ix.Implicit(lx.Cholesky(), tags=DEFINITE)
    R = lambda x, a: COUPLED @ x + x**3 - a
    solve = lambda a: ix.root(R, jnp.ones(N), a, adjoint=adjoint, throw=False).x.sum()
    assert np.isnan(jax.grad(solve)(jnp.asarray(PARAMETERS))).all()


def test_lanes_with_conjugate_gradients():
    solve = tagged_root(LAPLACE, ix.Implicit(lx.CG(1e-12, 1e-12), tags=DEFINITE))
    lanes = jnp.stack([jnp.asarray(PARAMETERS), 2 * jnp.asarray(PARAMETERS)])
    grad = lambda solve: jax.vmap(jax.grad(lambda a: solve(a).sum()))(lanes)
    assert np.allclose(grad(solve), grad(tagged_root(LAPLACE, None)), rtol=1e-8)


def test_what_is_shown_of_tags():
    sol = ix.root(lambda x: x**2 - 2, 1.0, adjoint=ix.Implicit(lx.CG(1e-9, 1e-9), tags=DEFINITE))
    assert sol.linear_solver == "CG(rtol=1e-09, atol=1e-09), A positive semidefinite"


TAGS = {
    "none": (
        lambda: ix.Implicit(lx.CG(1e-9, 1e-9)),
        r"`Implicit\(linear_solver=lineax.CG\(...\), tags=...\)`: expected positive_semidefinite_tag or .*, got none\. "
        r".*Add `tags=lineax.positive_semidefinite_tag`",
    ),
    "another": (
        lambda: ix.Implicit(lx.Triangular(), tags=DEFINITE),
        r"expected lower_triangular_tag or upper_triangular_tag, got positive_semidefinite_tag",
    ),
    "a name": (
        lambda: ix.Implicit(lx.CG(1e-9, 1e-9), tags="spd"),
        r"`Implicit\(tags=...\)`: expected tags of Lineax, .*, got 'spd'",
    ),
    "alone": (lambda: ix.Implicit(tags=DEFINITE), r"`Implicit\(tags=...\)`: expected none without a linear solver"),
}


def test_steps_are_taken_by_a_general_solver():
    text = r"^`Newton\(linear_solver=...\)`: expected a linear solver for general matrices, got CG\(.*`ix.Implicit"
    with pytest.raises(ValueError, match=text):
        ix.Newton(lx.CG(1e-9, 1e-9))


@pytest.mark.parametrize("name", TAGS)
def test_wrong_tags(name):
    make, text = TAGS[name]
    with pytest.raises(ValueError, match=text):
        make()
