"""`batch_axis`: an F written for a batch of weakly coupled rows."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import implicitax as ix


class Season:
    """A season of half-hours that pass a little heat to their neighbours, as a map F(x, p) over all rows at once.

    Each row has the state {"T": n₁ values in kelvin, "flux": n₂ in other units} with units from 1e-4 to 1e3, a random
    non-symmetric Jacobian whose real eigenvalues reach down to −3 in 40% of the rows, and a kinked branch. `jumps` are
    rows in which F jumps across the diagonal: they have no fixed point.
    """

    def __init__(self, seed: int, rows: int, n: int, coupling: float = 0.02, jumps: int = 2) -> None:
        rng = np.random.default_rng(seed)
        self.rows, self.n, self.coupling = rows, n, coupling
        J = np.empty((rows, n, n))
        for i in range(rows):
            eigenvalues = rng.uniform(-0.9, 0.95, n)
            if rng.random() < 0.4:
                eigenvalues[: rng.integers(1, 6)] = rng.uniform(-3, -1.05)
            basis = np.eye(n) + 0.5 * rng.normal(size=(n, n)) / np.sqrt(n)
            J[i] = basis @ np.diag(eigenvalues) @ np.linalg.inv(basis)
        self.jumps = np.sort(rng.choice(rows, jumps, replace=False))
        self.jump = np.isin(np.arange(rows), self.jumps)
        self.J, self.center = jnp.asarray(J), rng.normal(size=(rows, n))
        self.out, self.into = rng.normal(size=(2, n)) / np.sqrt(n)
        self.units = 10.0 ** rng.uniform(-4, 3, n)
        self.split = n // 3
        self.x0 = self.state(self.units * (self.center + rng.normal(size=(rows, n))))
        # For differences: the default is that of the largest of a leaf, whose units here are not one.
        self.atol = {"T": 1e-11 * self.units[: self.split], "flux": 1e-11 * self.units[self.split :]}

    def state(self, flat):
        return {"T": flat[:, : self.split], "flux": flat[:, self.split :]}

    def flat(self, x):
        return jnp.concatenate([x["T"], x["flux"]], axis=1)

    def __call__(self, x, p):
        y = self.flat(x) / self.units
        z = y - self.center
        new = jnp.einsum("rij,rj->ri", self.J, jnp.tanh(0.3 * z) / 0.6 + z / 2) + jnp.where(
            z > 0.4, 0.05 * (z - 0.4), 0
        )
        new = self.center + new + p[0] * jnp.sin(self.center)
        edge = jnp.zeros((1, self.n))
        neighbours = jnp.concatenate([edge, y[:-1]]) + jnp.concatenate([y[1:], edge])
        new = new + self.coupling * p[1] * jnp.tanh(neighbours @ self.out)[:, None] * self.into
        jumping = jnp.where(y[:, 0] > 0.3, y[:, 0] - 1 - 0.1 * jnp.abs(y[:, 1]), y[:, 0] + 1)
        new = new.at[:, 0].set(jnp.where(self.jump, jumping, new[:, 0]))
        return self.state(new * self.units)

    def held(self, x_held):
        """The same, with the rows that have no solution held: what the derivative is that of."""

        def F(x, p):
            choose = lambda a, b: jnp.where(self.jump[:, None], a, b)
            return jax.tree.map(choose, x_held, self(jax.tree.map(choose, x_held, x), p))

        return F


P = np.array([0.3, 1.0])


def test_a_season():
    season = Season(seed=0, rows=48, n=100)
    sol = ix.fixed_point(season, season.x0, P, batch_axis=0, throw=False)
    success, nfev = np.asarray(sol.success), np.asarray(sol.nfev)
    np.testing.assert_array_equal(np.nonzero(~success)[0], season.jumps)
    assert set(np.asarray(sol.status)[season.jumps].tolist()) == {ix.Status.STALLED}
    assert sol.linear_solver == "RowKrylov()"

    # Every row that is said to be solved is: with the failed ones where they are returned.
    x = season.flat(sol.x)
    residual = np.abs(season.flat(season(sol.x, P)) - x)
    largest = season.flat(jax.tree.map(lambda leaf: jnp.max(abs(leaf), 1, keepdims=True) + 0 * leaf, sol.x))
    tolerance = np.finfo(float).eps ** (2 / 3) * (largest + np.abs(x))
    assert np.all(residual[success] <= 1.001 * tolerance[success])
    np.testing.assert_allclose(sol.residual, residual.max(axis=1), rtol=1e-2)

    picard = ix.fixed_point(season, season.x0, P, solver=ix.Picard(0.3), batch_axis=0, max_steps=3000, throw=False)
    assert 4 * np.median(nfev[success]) < np.median(np.asarray(picard.nfev)[success])

    w = np.random.default_rng(1).normal(size=x.shape) / season.units
    loss = lambda x, ok: jnp.sum(jnp.where(ok[:, None], w * season.flat(x), 0))

    def of(p):
        sol = ix.fixed_point(season, season.x0, p, batch_axis=0, throw=False)
        return loss(sol.x, sol.success)

    # The oracle: forward mode of plain iteration, damped, to the last digit, the failed rows held.
    F = season.held(jax.lax.stop_gradient(sol.x))

    def damped(p):
        step = lambda x, _: (jax.tree.map(lambda a, b: a + 0.3 * (b - a), x, F(x, p)), None)
        return loss(jax.lax.scan(step, sol.x, length=2000)[0], success)

    exact = np.array([jax.jit(lambda e: jax.jvp(damped, (P,), (e,))[1])(e) for e in np.eye(2)])
    np.testing.assert_allclose(jax.grad(of)(P), exact, rtol=1e-8)
    np.testing.assert_allclose(jax.jvp(of, (P,), (jnp.array([1.0, 2.0]),))[1], exact @ [1, 2], rtol=1e-8)


@pytest.fixture(scope="module")
def small():
    return Season(seed=3, rows=7, n=12, coupling=0.05, jumps=1)


def test_the_coupling_is_in_the_derivative(small):
    """A parameter of one row moves the others; without the coupling blocks the derivative would be 0."""

    def neighbour(force, season=lambda x: small(x, P)):
        F = lambda x: jax.tree.map(lambda a: a.at[0].add(force * small.units[0]), season(x))
        return ix.fixed_point(F, small.x0, batch_axis=0, throw=False, atol=small.atol).x["T"]

    derivative = jax.jacfwd(neighbour)(0.0)
    # The oracle: differences, the failed rows held, for a small change may make them fail elsewhere.
    F = small.held(ix.fixed_point(small, small.x0, P, batch_axis=0, throw=False).x)
    held = lambda force: neighbour(force, lambda x: F(x, P))
    good = ~small.jump
    assert good[:2].all()
    assert float(jnp.max(jnp.abs(derivative[1] / small.units[: small.split]))) > 1e-4
    h = 3e-4  # the error of x, divided by this, is still far below what is compared
    difference = (held(h) - held(-h)) / (2 * h)
    scaled, expected = derivative[good] / small.units[:4], difference[good] / small.units[:4]
    np.testing.assert_allclose(scaled[0], expected[0], rtol=1e-3)
    np.testing.assert_allclose(scaled[1:], expected[1:], atol=1e-6)


@pytest.fixture(scope="module")
def difference_of_small(small):
    """The failed row held where it was returned: by itself it would end elsewhere for other parameters."""
    with jax.enable_x64(True):
        held = small.held(ix.fixed_point(small, small.x0, P, batch_axis=0, throw=False).x)

        def of_held(p):
            x = small.flat(ix.fixed_point(held, small.x0, p, batch_axis=0, rtol=0.0, atol=small.atol).x)
            return jnp.sum(jnp.where(small.jump[:, None], 0, x / small.units))

        h = 1e-4  # the error of x, divided by this, is far below what is compared
        return [(of_held(P + h * e) - of_held(P - h * e)) / (2 * h) for e in np.eye(2)]


@pytest.mark.default_flags
@pytest.mark.parametrize("linear_solver", [None, lx.LU(), lx.GMRES(1e-13, 1e-13, restart=100, max_steps=20)], ids=str)
def test_linear_solvers_agree(small, difference_of_small, linear_solver):
    def of(p):
        adjoint = ix.Implicit(linear_solver)
        sol = ix.fixed_point(small, small.x0, p, batch_axis=0, adjoint=adjoint, throw=False)
        return jnp.sum(jnp.where(sol.success[:, None], small.flat(sol.x) / small.units, 0))

    reverse, forward = jax.jacrev(of)(P), jax.jacfwd(of)(P)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    np.testing.assert_allclose(reverse, difference_of_small, rtol=1e-4)


def test_where_a_failed_row_is_returned(small):
    """One that got nowhere at its guess: where it ends is for rounding to decide, and its neighbours depend on it. One
    that was on its way at the best point it has seen."""
    sol = ix.fixed_point(small, small.x0, P, batch_axis=0, throw=False)
    for name, leaf in sol.x.items():
        np.testing.assert_array_equal(leaf[small.jump], small.x0[name][small.jump])
        assert np.all(np.any(leaf[~small.jump] != small.x0[name][~small.jump], axis=1))
    residual = jnp.abs(small.flat(small(sol.x, P)) - small.flat(sol.x))
    np.testing.assert_allclose(sol.residual, jnp.max(residual, axis=1), rtol=1e-2)

    slow = lambda x, a: x + a[:, None] * (jnp.cos(x) - x)
    short = ix.fixed_point(
        slow, jnp.ones((3, 2)), jnp.array([0.6, 0.05, 0.6]), solver=ix.Picard(), batch_axis=0, max_steps=60, throw=False
    )
    np.testing.assert_array_equal(short.status, [0, ix.Status.STEP_LIMIT, 0])
    assert np.all(np.abs(short.x[1] - 0.7390851332) < 0.02)


def test_failed_rows_are_loud(small):
    def x(p):
        return ix.fixed_point(small, small.x0, p, batch_axis=0, throw=False).x["T"]

    forward = np.asarray(jax.jacfwd(x)(P))
    assert np.isnan(forward[small.jump]).all()
    assert np.isfinite(forward[~small.jump]).all()
    assert np.isnan(jax.grad(lambda p: jnp.sum(x(p)))(P)).all()
    row = int(small.jumps[0])
    with pytest.raises(ix.ConvergenceError, match=f"1 of 7 rows failed, at index {row}.*stopped decreasing"):
        ix.fixed_point(small, small.x0, P, batch_axis=0)
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"1 of 7 rows failed, at index {row}"):
        jax.block_until_ready(jax.jit(lambda p: ix.fixed_point(small, small.x0, p, batch_axis=0).x)(P))


def independent(x, a):
    """Rows of 3 unknowns that do not know each other; a: one parameter a row."""
    return jnp.cos(a[:, None] * x) + 0.3 * jnp.roll(x, 1, axis=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("solver", [ix.Anderson(3), ix.Auto(), ix.Squarem(), ix.Broyden(), ix.Picard(0.5)], ids=str)
def test_a_row_changes_no_independent_row_by_a_bit(solver, bad):
    a, x0 = jnp.linspace(0.5, 1.5, 6), jnp.ones((6, 3))

    def both(x0):
        def loss(a):
            sol = ix.fixed_point(independent, x0, a, batch_axis=0, solver=solver, throw=False)
            return jnp.sum(jnp.where(sol.success[:, None], sol.x, 0) ** 2), (sol.x, sol.status)

        return jax.value_and_grad(loss, has_aux=True)(a)

    (_, (x, status)), gradient = jax.jit(both)(x0)
    (_, (x_bad, status_bad)), gradient_bad = jax.jit(both)(x0.at[2, 1].set(bad))
    others = np.arange(6) != 2
    assert not np.any(status)
    assert int(status_bad[2]) == ix.Status.NON_FINITE_GUESS
    assert not np.any(status_bad[others])
    np.testing.assert_array_equal(x[others], x_bad[others])
    np.testing.assert_array_equal(gradient[others], gradient_bad[others])
    assert float(gradient_bad[2]) == 0


def test_rows_are_what_vmap_finds():
    a, x0 = jnp.linspace(0.5, 1.5, 6), jnp.ones((6, 3))
    one = lambda a: ix.fixed_point(lambda x: independent(x[None], a[None])[0], x0[0], solver=ix.Anderson(3)).x
    whole = lambda a: ix.fixed_point(independent, x0, a, solver=ix.Anderson(3), batch_axis=0).x
    np.testing.assert_allclose(whole(a), jax.vmap(one)(a), rtol=1e-9)
    np.testing.assert_allclose(jax.jacrev(whole)(a), jax.jacfwd(lambda a: jax.vmap(one)(a))(a), rtol=0, atol=1e-8)
    weighted = lambda a: jnp.sum(whole(a) ** 3)
    np.testing.assert_allclose(
        jax.hessian(weighted)(a), jax.hessian(lambda a: jnp.sum(jax.vmap(one)(a) ** 3))(a), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("solver", [ix.Auto(), ix.Newton(), ix.Ladder(), ix.PseudoTransient()], ids=str)
def test_any_axis_and_solvers_with_a_matrix_a_row(axis, solver):
    a, x0 = jnp.linspace(0.5, 1.5, 6), jnp.ones((3, 6))
    F = lambda x, a: independent(x.T, a).T
    sol = ix.fixed_point(F, x0, a, solver=solver, batch_axis=axis)
    assert sol.status.shape == sol.nit.shape == sol.residual.shape == (6,)
    np.testing.assert_allclose(F(sol.x, a), sol.x, rtol=1e-9)


def test_roots_lanes_and_aux():
    def R(x, a):
        coupled = x**2 - a[:, None] + 0.01 * jnp.roll(x, 1, axis=0)
        return coupled, {"row": jnp.sum(x, axis=1), "all": jnp.sum(x)}

    a, x0 = jnp.linspace(1.0, 2.0, 5), jnp.ones((5, 2))
    solve = lambda a: ix.root(R, x0, a, batch_axis=0, has_aux=True)
    batch = jax.vmap(lambda scale: solve(scale * a))(jnp.array([1.0, 3.0]))
    assert batch.status.shape == (2, 5)
    np.testing.assert_allclose(batch.x[1], solve(3 * a).x, rtol=1e-12)
    dense = lambda a: ix.root(lambda x: R(x, a)[0], x0)
    np.testing.assert_allclose(solve(a).x, dense(a).x, rtol=1e-9)
    for key in ("row", "all"):
        np.testing.assert_allclose(
            jax.jacrev(lambda a: solve(a).aux[key])(a), jax.jacfwd(lambda a: R(dense(a).x, a)[1][key])(a), atol=1e-9
        )


def test_error_estimate_and_polish_by_row():
    a, x0 = jnp.linspace(0.5, 1.5, 6), jnp.ones((6, 3))
    exact = ix.fixed_point(independent, x0, a, batch_axis=0).x
    loose = {"solver": ix.Picard(0.5), "rtol": 1e-3, "batch_axis": 0}
    sol = ix.fixed_point(independent, x0, a, error_estimate=True, **loose)
    np.testing.assert_allclose(sol.error, np.max(np.abs(sol.x - exact), axis=1), rtol=0.02)
    gradient = lambda polish: jax.jacrev(
        lambda a: ix.fixed_point(independent, x0, a, adjoint=ix.Implicit(polish=polish), **loose).x
    )(a)
    truth = jax.jacrev(lambda a: ix.fixed_point(independent, x0, a, batch_axis=0).x)(a)
    assert np.abs(gradient(True) - truth).max() < 0.01 * np.abs(gradient(False) - truth).max()


def test_mistakes():
    a, x0 = jnp.ones(6), jnp.ones((6, 3))
    with pytest.raises(TypeError, match=r"fixed_point\(batch_axis=...\).*expected an integer, the axis.*got 'rows'"):
        ix.fixed_point(independent, x0, a, batch_axis="rows")
    with pytest.raises(ValueError, match=r"batch_axis.*same number of rows.*x0\['q'\] of shape \(4,\) with axis 0"):
        ix.fixed_point(lambda x: x, {"p": x0, "q": jnp.ones(4)}, batch_axis=0)
    with pytest.raises(ValueError, match=r"x0 of shape \(\) with axis 0"):
        ix.fixed_point(jnp.cos, 1.0, batch_axis=0)
    for keywords in (
        {"adjoint": ix.Unrolled(3)},
        {"solver": ix.NewtonKrylov()},
        {"solver": ix.Newton(lx.GMRES(1e-8, 1e-8))},
    ):
        with pytest.raises(ValueError, match="a solver that works row by row"):
            ix.fixed_point(independent, x0, a, batch_axis=0, **keywords)
