"""A derivative is refused where A is singular or nearly so, in both modes, by every kind of linear solver; not else."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import implicitax as ix
from implicitax import _linear
from problems.tridiagonal import Thomas, on_grid

LANES = 50
MODES = [jax.jacfwd, jax.jacrev]
FACTORISING = [ix.SmallLU(), _linear.DenseLU(), lx.LU(), lx.QR()]


def of_condition(rng, n, condition):
    """Singular values from 1 to 1/condition, in random directions."""
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return left @ np.diag(condition ** -np.linspace(0, 1, n)) @ right


def conserving(rng, n):
    """I − ∂F/∂x of a reaction network: the sum over the rows is 0 to rounding."""
    K = rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < 0.6)
    K += np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    np.fill_diagonal(K, 0)
    F = np.eye(n) + 0.1 * (K - np.diag(K.sum(axis=0)))
    return np.eye(n) - F


def of_lost_rank(rng, n):
    return rng.normal(size=(n, n - 1)) @ rng.normal(size=(n - 1, n))


def answers(matrices, solver, dtype=float, row=None, column=None):
    """Of A y = A 1, which has an answer whatever A: y, and whether it is trusted; with rows and columns in units."""
    matrices = np.asarray(matrices)
    row, column = (np.ones(matrices.shape[:2]) if units is None else units for units in (row, column))
    A, b = row[:, :, None] * matrices * column[:, None], row * matrices.sum(axis=2)
    solve = jax.vmap(lambda A, b: _linear.certify(A, (b,), solver, (), check="root"))
    (y,), ok, _ = solve(jnp.asarray(A, dtype), jnp.asarray(b, dtype))
    return column * np.asarray(y, float), ok


@pytest.mark.parametrize("solver", FACTORISING, ids=str)
@pytest.mark.parametrize("n", [2, 4, 12])
@pytest.mark.parametrize("family", [conserving, of_lost_rank])
def test_singular_to_rounding(family, n, solver):
    if isinstance(solver, ix.SmallLU) and n > 4:
        pytest.skip("its compile time grows as n³")
    rng = np.random.default_rng(n)
    matrices = [family(rng, n) for _ in range(LANES)]
    for transform in (lambda A: A, np.transpose):
        assert not np.any(answers(list(map(transform, matrices)), solver)[1])


@pytest.mark.parametrize(("dtype", "good", "bad"), [(np.float64, 1e8, 1e14), (np.float32, 1e3, 1e8)], ids=str)
@pytest.mark.parametrize("n", [2, 5, 40])
def test_from_both_sides_of_the_condition(n, dtype, good, bad):
    """Each row and column in a unit from 10⁻⁷⁵ to 10⁷⁵ (10⁻⁷ to 10⁷), too, which no scaling undoes entirely."""
    rng = np.random.default_rng(n)
    solver, decades, accuracy = _linear.factoriser(n), *((75, 1e-4) if dtype == np.float64 else (7, 3e-2))
    units = lambda: 2.0 ** np.round(rng.uniform(-decades, decades, (LANES, n)) * np.log2(10))
    for condition, least in ((10.0, 1.0), (good, 0.9), (bad, 0.0)):
        matrices = np.stack([of_condition(rng, n, condition) for _ in range(LANES)])
        # Of two unknowns a few have the largest condition by their units only.
        for in_units, fewest in ((False, bool(least)), (True, least)):
            row, column = (units(), units()) if in_units else np.ones((2, LANES, n))
            y, ok = answers(matrices, solver, dtype, row, column)
            assert np.mean(ok) >= fewest if least else np.mean(ok) <= 0.04
            if least:
                np.testing.assert_allclose(y[ok], 1, atol=accuracy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", [ix.Picard(), None], ids=str)
@pytest.mark.parametrize("linear_solver", [None, lx.QR(), lx.GMRES(1e-12, 1e-12)], ids=str)
def test_a_conserved_total(linear_solver, solver, mode):
    """A ⇌ B ⇌ C: the total is set by x0, which has no derivative here."""
    K = lambda t: jnp.array([[-1.0, t, 0.0], [1.0, -t - 0.7, 0.31], [0.0, 0.7, -0.31]])
    solve = lambda t, **keywords: (
        ix.fixed_point(
            lambda c, t: c + 0.2 * K(t) @ c,
            jnp.array([1.0, 0.0, 0.0]),
            t,
            solver=solver,
            adjoint=ix.Implicit(linear_solver),
            **keywords,
        ).x
    )
    with pytest.raises(Exception, match="singular"):
        mode(solve)(0.5)
    assert np.all(np.isnan(mode(lambda t: solve(t, throw=False))(0.5)))


def multiplied(n, t, **keywords):
    """x₁ is multiplied by 1 + r, where r = 0 at the solution: what it ends at depends on where it began."""

    def F(x, t):
        r = 0.5 * x[0] + t - x[0]
        return jnp.concatenate([jnp.stack([x[0] + r, x[1] * (1 + r)]), 0.3 * jnp.sin(x[2:]) + 0.1 * t])

    x0 = jnp.zeros(n).at[1].set(1.0)
    return ix.fixed_point(F, x0, t, solver=ix.Picard(), throw=False, **keywords).x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [2, 20, 150])
def test_a_column_of_rounding_noise(n, mode):
    """Where x₀ is exact to rounding, so is r = 0, and nothing else is in the column of x₁."""
    for t in (0.4, 0.7, 1.3):
        x = lambda t: multiplied(n, t, rtol=1e-15, atol=1e-16)
        assert np.all(np.isfinite(x(t)))
        assert np.all(np.isnan(mode(x)(t)))


@pytest.mark.parametrize("linear_solver", [lx.GMRES(1e-10, 1e-10), lx.BiCGStab(1e-10, 1e-10), None], ids=str)
def test_a_matrix_free_solver_sees_it_by_a_second_right_hand_side(linear_solver):
    """Without, the first answer is taken: 0 in place of the derivative of the iteration, 3.263."""
    adjoint = lambda check: ix.Implicit(linear_solver, check=check)
    x = lambda check: lambda t: multiplied(150, t, adjoint=adjoint(check))[1]
    for mode in MODES:
        assert np.isnan(mode(x(True))(0.4))
    assert abs(float(jax.jacfwd(x(False))(0.4))) < 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_row_by_row(mode):
    """Of 400 rows two conserve their total, and by themselves have no derivative; the others have theirs."""
    rows, kept = 400, np.array([3, 250])
    K = jnp.asarray(conserving(np.random.default_rng(0), 3))
    closed = jnp.isin(jnp.arange(rows), kept)[:, None]

    def F(c, t):
        return jnp.where(closed, c - (1 + 0.1 * jnp.sin(t)) * c @ K.T, 0.3 * jnp.cos(c + t))

    solve = lambda t: ix.fixed_point(F, jnp.ones((rows, 3)), t, batch_axis=0, throw=False)
    assert solve(0.5).linear_solver.startswith("RowKrylov")
    weights = jnp.arange(1.0, 4.0)
    derivative = mode(lambda t: solve(t).x @ weights if mode is jax.jacfwd else solve(t).x[:5] @ weights)(0.5)
    x = np.asarray(solve(0.5).x[0])
    exact = -0.3 * np.sin(x + 0.5) / (1 + 0.3 * np.sin(x + 0.5)) @ weights
    if mode is jax.jacfwd:
        np.testing.assert_array_equal(np.nonzero(np.isnan(derivative))[0], kept)
        np.testing.assert_allclose(np.delete(derivative, kept), exact, rtol=1e-7)
    else:
        assert np.all(np.isnan(derivative[3]))


def test_an_exact_solver_of_an_ill_conditioned_system_is_not_called_singular():
    """u'' + s eᵘ = 0 on 10,000 points, where A has a condition of 4·10⁷, so that no residual is half of the digits."""
    n, solver = 10_000, Thomas()
    R = on_grid(n)
    mean = lambda s: ix.root(R, jnp.zeros(n), s, solver=ix.Newton(solver), adjoint=ix.Implicit(solver)).x.mean()
    difference = (mean(1.0 + 1e-4) - mean(1.0 - 1e-4)) / 2e-4
    for mode in MODES:
        np.testing.assert_allclose(mode(mean)(1.0), difference, rtol=1e-6)


# Words ----------------------------------------------------------------------------------------------------------------


def reactions(c, rate):
    """A ⇌ B ⇌ C: the total stays what it is."""
    a, b, c = c["a"], c["b"], c["c"]
    first, second = 0.2 * (a - rate * b), 0.2 * (0.7 * b - 0.31 * c)
    return {"a": a - first, "b": b + first - second, "c": c + second}


def passing(n):
    return lambda x, a: {"kept": x["kept"], "T": 0.5 * jnp.sin(x["T"]) + a + 0 * x["kept"]}


@pytest.mark.parametrize("n", [2, 20, 200])
def test_the_message_names_what_is_not_determined(n):
    x0 = {"kept": 1.0, "T": jnp.ones(n)}
    solve = lambda a: jnp.sum(ix.fixed_point(passing(n), x0, a).x["T"])
    with pytest.raises(Exception, match=r"Not determined by the equations: x0\['kept'\]\."):
        jax.jacfwd(solve)(0.3)
    with pytest.raises(Exception, match=r"The equation of x0\['kept'\] holds whatever x is"):
        jax.grad(solve)(0.3)


def test_the_message_of_a_conserved_total_says_what_to_do():
    x0 = {"a": 1.0, "b": 0.0, "c": 0.0}
    solve = lambda rate, **keywords: ix.fixed_point(reactions, x0, rate, solver=ix.Picard(), **keywords).x["a"]
    with pytest.raises(Exception, match=r"x0\['b'\], x0\['c'\] holds .* total, as reactions do"):
        jax.grad(solve)(0.5)
    assert np.isnan(jax.grad(lambda rate: solve(rate, throw=False))(0.5))
