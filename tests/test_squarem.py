"""SQUAREM: its steps beside those of the formula, rows and units, where it steps back, and where it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems import slow

N = 8


def contraction(seed, low=0.0, high=0.995, n=N):
    """x = J x + b; J is not symmetric, its eigenvalues are real."""
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(n, n)) + 2 * np.eye(n)
    J = V @ np.diag(np.linspace(low, high, n)) @ np.linalg.inv(V)
    return J, rng.normal(size=n)


def linear(x, J, b):
    return J @ x + b


def watched(F, x0, **keywords):
    """The solution, and the points at which F was evaluated, in order."""
    points = []

    def recorded(x):
        points.append(np.array(x))
        return np.asarray(F(np.asarray(x)), np.asarray(x).dtype)

    sol = ix.fixed_point(
        lambda x: jax.pure_callback(recorded, jax.ShapeDtypeStruct(x.shape, x.dtype), x), x0, **keywords
    )
    return sol, np.array(points)


def test_the_points_are_those_of_the_formula():
    """x0 and its plain iterate; then by α, which is at most 1 in the first cycle, 4 in the second, and so on."""
    J, b = contraction(3, high=0.9)
    x0 = np.full(N, 3.0)
    sol, points = watched(lambda x: J @ x + b, x0, solver=ix.Squarem())
    assert bool(sol.success)
    # The components are compared in units of their tolerance at the guess, or at its image where that is larger.
    size = lambda x: np.abs(x) + np.max(np.abs(x)) + 4 * np.finfo(float).eps * 3 / sol_rtol
    sol_rtol = np.finfo(float).eps ** (2 / 3)
    w = 1 / np.maximum(size(x0), size(J @ x0 + b))
    x, limit, lengths = x0, 1.0, []
    for k in range(4):
        r = J @ x + b - x
        v = (J - np.eye(N)) @ r
        lengths.append(min(np.linalg.norm(w * r) / np.linalg.norm(w * v), limit))
        np.testing.assert_allclose(points[2 * k : 2 * k + 2], [x, x + r], rtol=1e-9)
        x = x + 2 * lengths[-1] * r + lengths[-1] ** 2 * v
        limit *= 4 if lengths[-1] == limit else 1
    assert lengths[0] == 1
    assert max(lengths) > 1.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fewer_evaluations_than_plain_iteration(seed):
    J, b = contraction(seed)
    solve = lambda solver: ix.fixed_point(linear, jnp.zeros(N), J, b, solver=solver)
    fast, plain = solve(ix.Squarem()), solve(ix.Picard())
    exact = np.linalg.solve(np.eye(N) - J, b)
    np.testing.assert_allclose(fast.x, exact, rtol=0, atol=1e-7 * np.max(np.abs(exact)))
    assert int(fast.nfev) < int(plain.nfev) / 5


def test_plain_iteration_that_diverges():
    """λ down to −3: an α below 1, and a smaller damping where the residual has grown a thousandfold."""
    J, b = contraction(5, low=-3.0, high=0.5)
    exact = np.linalg.solve(np.eye(N) - J, b)
    for damping in (1.0, 0.25):
        sol = ix.fixed_point(linear, jnp.zeros(N), J, b, solver=ix.Squarem(damping))
        np.testing.assert_allclose(sol.x, exact, rtol=0, atol=1e-8 * np.max(np.abs(exact)))


def test_pauses_where_an_extrapolation_has_failed():
    """A dynamic programme: plain iteration takes 16,000 evaluations, and so do extrapolations one after the other."""
    case = slow.programme(0.999, near=False)(4)
    sol = ix.fixed_point(case.F, case.x0, case.theta, solver=ix.Squarem(), rtol=1e-10)
    exact = case.solution(case.theta)
    np.testing.assert_allclose(sol.x, exact, rtol=0, atol=1e-6 * np.max(np.abs(exact)))
    assert int(sol.nfev) < 1000


def test_the_unit_of_a_leaf_does_not_matter():
    """Powers of 2, so that rounding is the same: to the last bit."""
    J, b = contraction(7)

    def F(x, unit):
        y = J @ jnp.concatenate([x["a"] / unit, x["b"]]) + b
        return {"a": y[:3] * unit, "b": y[3:]}

    sols = [
        ix.fixed_point(F, {"a": jnp.full(3, unit), "b": jnp.ones(N - 3)}, unit, solver=ix.Squarem())
        for unit in (1.0, 2.0**40)
    ]
    assert int(sols[0].nfev) == int(sols[1].nfev)
    np.testing.assert_array_equal(sols[0].x["a"] * 2.0**40, sols[1].x["a"])


def test_rows_have_steplengths_of_their_own():
    """In a batch and under `vmap` each takes as many evaluations, and ends, as if it were alone."""
    a, solver = jnp.linspace(0.2, 0.99, 4), ix.Squarem()
    F = lambda x, a: a[..., None] * (0.6 * jnp.sin(x) + 0.3 * jnp.roll(x, 1, axis=-1)) + jnp.array([0.1, 0.5, 0.9])
    one = lambda a: ix.fixed_point(F, jnp.ones(3), a, solver=solver)
    alone = [one(ai) for ai in a]
    lanes = jax.vmap(one)(a)
    rows = ix.fixed_point(F, jnp.ones((4, 3)), a, solver=solver, batch_axis=0)
    assert len({int(sol.nfev) for sol in alone}) > 2
    for sols in (lanes, rows):
        np.testing.assert_allclose(sols.x, [sol.x for sol in alone], rtol=1e-12)
        np.testing.assert_array_equal(sols.nfev, [sol.nfev for sol in alone])


def test_a_scalar_and_its_derivative():
    solve = lambda a: ix.fixed_point(lambda x: a * jnp.sin(x) + 0.3, 1.0, solver=ix.Squarem()).x
    x, slope = jax.value_and_grad(solve)(0.99)
    np.testing.assert_allclose(slope, np.sin(x) / (1 - 0.99 * np.cos(x)), rtol=1e-8)


def test_in_float32():
    J, b = (jnp.asarray(array, jnp.float32) for array in contraction(9, high=0.95))
    sol = ix.fixed_point(linear, jnp.zeros(N, jnp.float32), J, b, solver=ix.Squarem())
    exact = np.linalg.solve(np.eye(N) - np.asarray(J, float), np.asarray(b, float))
    assert sol.x.dtype == jnp.float32
    np.testing.assert_allclose(sol.x, exact, rtol=0, atol=5e-3 * np.max(np.abs(exact)))


def test_inside_bounds():
    """F is not evaluated outside of them, where the first points extrapolated to would be."""
    F = lambda x: 0.97 * np.sqrt(x) + 1e-4
    exact = ((0.97 + np.sqrt(0.97**2 + 4e-4)) / 2) ** 2
    x0 = np.full(3, 2e-3)
    sol, points = watched(F, x0, solver=ix.Squarem(), bounds=(1e-3, 0.9415))
    assert np.max(watched(F, x0, solver=ix.Squarem())[1]) > 0.9415
    np.testing.assert_allclose(sol.x, exact, rtol=1e-8)
    assert np.all((points > 1e-3) & (points < 0.9415))


@pytest.mark.parametrize(
    ("F", "status"),
    [
        (lambda x: x + 1 / (1 + x**2), "UNBOUNDED"),
        (lambda x: x + 1, "UNBOUNDED"),
        (lambda x: jnp.where(x > 0, -1.0, 1.0), "NO_PROGRESS"),
    ],
    ids=["to infinity", "drift", "jump"],
)
def test_where_there_is_no_fixed_point(F, status):
    sol = ix.fixed_point(F, jnp.full(3, 0.3), solver=ix.Squarem(), throw=False)
    assert not bool(sol.success)
    assert ix.Status(int(sol.status)).name == status


def test_a_damping_that_is_none():
    with pytest.raises(ValueError, match=r"^`Squarem\(damping=\.\.\.\)`: expected a factor in \(0, 1\], got 0\."):
        ix.Squarem(0.0)
