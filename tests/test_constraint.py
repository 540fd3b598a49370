"""`constraint`: one of a family of fixed points, against long unrolling from a guess that meets it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import implicitax as ix

STEPS = 3000


class Family:
    """A map with more fixed points than one, its conditions, a guess that meets them, and what is asked of x."""

    def __init__(self, F, c, x0, theta, output=lambda x, theta: x):
        self.F, self.c, self.x0, self.theta, self.output = F, c, x0, theta, output

    def solve(self, theta, **keywords):
        return self.output(ix.fixed_point(self.F, self.x0, theta, constraint=self.c, **keywords).x, theta)

    def unrolled(self, theta):
        x, _ = jax.lax.scan(lambda x, _: (self.F(x, theta), None), self.x0, length=STEPS)
        return self.output(x, theta)


def reactions(seed, dtype=np.float64):
    """A + B ⇌ C, C + A ⇌ D, D ⇌ E + B by explicit Euler: two kinds of atoms, which each reaction keeps."""
    rng = np.random.default_rng(seed)
    N = np.array([[-1, -1, 0], [-1, 0, 1], [1, -1, 0], [0, 1, -1], [0, 0, 1]], dtype)
    totals = scipy.linalg.null_space(N.T).T.astype(dtype)

    def F(x, k):
        a, b, c, d, e = x
        rates = jnp.stack([k[0] * a * b - k[1] * c, k[2] * c * a - k[3] * d, k[4] * d - k[5] * e * b])
        return x + dtype(0.1) * (jnp.asarray(N) @ rates)

    x0 = rng.uniform(0.5, 2, 5).astype(dtype)
    return Family(F, lambda x, k: totals @ (x - x0), jnp.asarray(x0), jnp.asarray(rng.uniform(0.3, 2, 6), dtype))


def chain(seed, dtype=np.float64):
    """A Markov chain of people, who stay as many as they were."""
    rng = np.random.default_rng(seed)
    people = rng.uniform(1, 50, 6).astype(dtype)

    def F(x, theta):
        return x @ jax.nn.softmax(theta, axis=1)

    theta = jnp.asarray(rng.normal(size=(6, 6)), dtype)
    return Family(F, lambda x, theta: x.sum() - people.sum(), jnp.asarray(people), theta)


def sinkhorn(seed, dtype=np.float64):
    """The potentials of entropic transport, of which one constant may be added to f and taken from g: the plan."""
    rng = np.random.default_rng(seed)
    a, b = (jnp.log(jnp.asarray(v / v.sum(), dtype)) for v in rng.uniform(0.5, 2, (2, 4)))

    def plan(x, cost):
        return jnp.exp(x["f"][:, None] + x["g"] - cost)

    def F(x, cost):
        f = a - jax.nn.logsumexp(x["g"] - cost, axis=1)
        return {"f": f, "g": b - jax.nn.logsumexp(f[:, None] - cost, axis=0)}

    x0 = {"f": jnp.zeros(4, dtype), "g": jnp.asarray(rng.normal(size=4), dtype)}
    cost = jnp.asarray(rng.uniform(0, 3, (4, 4)), dtype)
    return Family(F, lambda x, cost: x["g"].mean(), x0, cost, plan)


FAMILIES = [reactions, chain, sinkhorn]


@pytest.mark.parametrize("of", FAMILIES)
@pytest.mark.parametrize("solver", [None, ix.Picard(), ix.Anderson()], ids=repr)
def test_value_and_derivatives(of, solver):
    for seed in range(3):
        family = of(seed)
        solve = jax.jit(lambda theta: family.solve(theta, solver=solver))
        want = jax.jit(family.unrolled)(family.theta)
        np.testing.assert_allclose(solve(family.theta), want, rtol=1e-8)
        slope = jax.jit(jax.jacfwd(family.unrolled))(family.theta)
        size = np.max(np.abs(slope))
        for mode in (jax.jacfwd, jax.jacrev):
            np.testing.assert_allclose(jax.jit(mode(solve))(family.theta), slope, rtol=1e-7, atol=1e-8 * size)


@pytest.mark.parametrize("of", FAMILIES)
def test_second_derivatives(of):
    family = of(5)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=family.theta.shape))
    along = lambda function: lambda t: jnp.sum(jnp.sin(function(family.theta + t * direction)))
    want = jax.jit(jax.jacfwd(jax.jacfwd(along(family.unrolled))))(0.0)
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            np.testing.assert_allclose(jax.jit(outer(inner(along(family.solve))))(0.0), want, rtol=1e-6)


@pytest.mark.parametrize("of", FAMILIES)
def test_the_other_derivatives(of):
    """The series with many terms, in both modes, and as many steps as it takes, from a guess that does not meet it."""
    family = of(4)
    want = jax.jit(jax.jacfwd(family.unrolled))(family.theta)
    size = np.max(np.abs(want))
    for mode in (jax.jacfwd, jax.jacrev):
        slope = jax.jit(mode(lambda theta: family.solve(theta, adjoint=ix.Neumann(1000))))(family.theta)
        np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-6 * size)
    family.x0 = jax.tree.map(lambda leaf: 1.3 * leaf + 0.1, family.x0)
    slope = jax.jit(jax.jacfwd(lambda theta: family.solve(theta, adjoint=ix.Unrolled(1000))))(family.theta)
    np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("of", FAMILIES)
def test_lanes_and_single_precision(of):
    family = of(1, np.float32)
    thetas = family.theta + jnp.linspace(0, 0.2, 4, dtype=jnp.float32).reshape(4, *(1,) * family.theta.ndim)
    got = jax.jit(jax.vmap(jax.jacrev(family.solve)))(thetas)
    with jax.enable_x64():
        exact = of(1)
        want = jax.jit(jax.vmap(jax.jacfwd(exact.unrolled)))(jnp.asarray(np.asarray(thetas, np.float64)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=2e-3 * np.max(np.abs(want)))
    swept = ix.sweep(family.F, family.x0, thetas, constraint=family.c)
    each = jax.vmap(lambda theta: ix.fixed_point(family.F, family.x0, theta, constraint=family.c).x)(thetas)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), swept.x, each)


def test_the_total_is_a_parameter():
    """x* is proportional to the total, wherever that comes from, and whatever the guess."""
    chain_of = lambda x, rate: x + 0.3 * jnp.array([[-rate, 0.5], [rate, -0.5]]) @ x
    share = lambda rate: np.array([0.5, rate]) / (0.5 + rate)
    by_argument = lambda total: (
        ix.fixed_point(
            lambda x, rate, total: chain_of(x, rate),
            jnp.array([1.0, 5.0]),
            0.8,
            total,
            constraint=lambda x, rate, total: x.sum() - total,
        ).x
    )
    by_closure = lambda total: (
        ix.fixed_point(
            lambda x: chain_of(x, 0.8), jnp.array([1.0, 5.0]), constraint=lambda x: {"all": x.sum() - total}
        ).x
    )
    for solve in (by_argument, by_closure):
        np.testing.assert_allclose(solve(3.0), 3 * share(0.8), rtol=1e-9)
        np.testing.assert_allclose(solve(7.0), 7 * share(0.8), rtol=1e-9)
        np.testing.assert_allclose(jax.jacfwd(solve)(3.0), share(0.8), rtol=1e-9)
        np.testing.assert_allclose(jax.jacrev(solve)(3.0), share(0.8), rtol=1e-9)


def test_a_total_of_its_own_weights():
    """Masses are parameters, too: Σ mᵢ xᵢ is kept, and its weights have a derivative."""

    def F(x, mass):
        flow = 0.2 * (x[0] - x[1] ** 2)
        return x + jnp.stack([-flow / mass[0], flow / mass[1]])

    def solve(mass, method=None):
        return ix.fixed_point(F, jnp.array([2.0, 0.5]), mass, constraint=lambda x, m: m @ x - 3.0, solver=method).x

    def exact(mass):  # x₀ = x₁², m₀ x₁² + m₁ x₁ = 3
        x1 = (-mass[1] + jnp.sqrt(mass[1] ** 2 + 12 * mass[0])) / (2 * mass[0])
        return jnp.stack([x1**2, x1])

    mass = jnp.array([0.7, 1.9])
    for method in (None, ix.Picard(), ix.Newton()):
        np.testing.assert_allclose(solve(mass, method), exact(mass), rtol=1e-9)
        np.testing.assert_allclose(jax.jacrev(solve)(mass), jax.jacfwd(exact)(mass), rtol=1e-8)
        np.testing.assert_allclose(jax.jacfwd(solve)(mass), jax.jacfwd(exact)(mass), rtol=1e-8)


def test_many_unknowns_without_a_matrix():
    """Heat in an insulated rod with a source that sums to 0: its mean stays, by Krylov methods in both modes."""
    n = 1500
    s = np.linspace(0, 1, n)

    def F(x, k):
        flux = jnp.diff(x) * 0.4
        source = 0.1 * k * jnp.asarray(np.cos(np.pi * s) - np.cos(np.pi * s).mean()) + 0.05 * (x.mean() - x)
        return x + jnp.pad(flux, (0, 1)) - jnp.pad(flux, (1, 0)) + source

    solve = lambda k: ix.fixed_point(F, jnp.asarray(3.0 + s), k, constraint=lambda x, k: x.mean() - 3.5)
    laplace = -np.diag(np.r_[1.0, np.full(n - 2, 2.0), 1.0]) + np.eye(n, k=1) + np.eye(n, k=-1)
    A = 0.4 * laplace - 0.05 * np.eye(n)  # on vectors of mean 0
    slope = np.linalg.solve(A, -0.1 * (np.cos(np.pi * s) - np.cos(np.pi * s).mean()))
    sol = solve(1.3)
    assert "Krylov" in sol.linear_solver
    np.testing.assert_allclose(sol.x, 3.5 + 1.3 * slope, atol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(lambda k: solve(k).x)(1.3), slope, atol=1e-7)
    w = np.random.default_rng(0).normal(size=n)
    np.testing.assert_allclose(jax.grad(lambda k: solve(k).x @ w)(1.3), slope @ w, rtol=1e-6)


def test_layers_aux_custom_and_complex():
    family = chain(2)
    want = family.unrolled(family.theta)
    layer = ix.FixedPointLayer(family.F, init=family.x0, constraint=family.c)
    np.testing.assert_allclose(layer(family.theta), want, rtol=1e-8)

    def with_aux(x, theta):
        return family.F(x, theta), {"first": x[0], "name": "chain"}

    sol = ix.fixed_point(with_aux, family.x0, family.theta, constraint=family.c, has_aux=True)
    assert sol.aux["name"] == "chain"
    slope = jax.jacfwd(family.unrolled)(family.theta)
    first = lambda theta: ix.fixed_point(with_aux, family.x0, theta, constraint=family.c, has_aux=True).aux["first"]
    np.testing.assert_allclose(jax.grad(first)(family.theta), slope[0], atol=1e-7)

    @ix.custom_fixed_point(family.F, constraint=family.c)
    def solve(x0, theta):
        return jax.lax.fori_loop(0, 3000, lambda _, x: family.F(x, theta), x0)

    np.testing.assert_allclose(jax.jacrev(solve, argnums=1)(family.x0, family.theta), slope, atol=1e-7)

    rotated = lambda z, a: z + 0.3 * (a * (z[::-1] - z) + 1j * (z[::-1] - z))
    z0 = jnp.array([1.0 + 2j, 3.0 - 1j])
    of_z = lambda total: ix.fixed_point(rotated, z0, 0.9, constraint=lambda z, a: z.sum() - total).x
    np.testing.assert_allclose(of_z(4.0 + 1j), [2 + 0.5j, 2 + 0.5j], rtol=1e-9)
    np.testing.assert_allclose(jax.jvp(of_z, (4.0 + 1j,), (1j + 0.0,))[1], [0.5j, 0.5j], rtol=1e-9)


def test_what_it_depends_on_is_what_is_there_now():
    class Total(eqx.Module):
        of: jax.Array

        def __call__(self, x, rate):
            return x.sum() - self.of

    F = lambda x, rate: x + 0.3 * jnp.array([[-rate, 0.5], [rate, -0.5]]) @ x
    solve = lambda total: ix.fixed_point(F, jnp.array([1.0, 5.0]), 0.5, constraint=Total(jnp.asarray(total))).x
    for total in (2.0, 8.0, 4.0):
        np.testing.assert_allclose(solve(total), [total / 2, total / 2], rtol=1e-9)
    np.testing.assert_allclose(jax.jacrev(solve)(4.0), [0.5, 0.5], rtol=1e-9)


def test_two_conditions_may_say_the_same():
    F = lambda x: x + 0.3 * jnp.array([[-1.0, 0.5], [1.0, -0.5]]) @ x
    x = ix.fixed_point(F, jnp.ones(2), constraint=lambda x: (x.sum() - 3, 5 * x.sum() - 15)).x
    np.testing.assert_allclose(x, [1, 2], rtol=1e-9)
    with pytest.raises(ix.ConvergenceError, match="contradicts"):
        ix.fixed_point(F, jnp.ones(2), constraint=lambda x: (x.sum() - 3, 5 * x.sum() - 16))


# What it must not do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [None, ix.Picard(), ix.Newton(), ix.Anderson()], ids=repr)
def test_a_fixed_point_elsewhere_is_none(solver):
    """x = x/2 + a has one fixed point, 2a: not one of sum 1."""
    F = lambda x, a: 0.5 * x + a
    solve = lambda a, throw: ix.fixed_point(
        F, jnp.ones(2), a, constraint=lambda x, a: x.sum() - 1, solver=solver, throw=throw
    )
    with pytest.raises(ix.ConvergenceError, match="The constraint contradicts x = F"):
        solve(1.0, True)
    sol = solve(1.0, False)
    assert sol.status == ix.Status.CONTRADICTION
    assert np.all(np.isnan(jax.jacrev(lambda a: solve(a, False).x)(1.0)))
    assert np.all(np.isnan(jax.jacfwd(lambda a: solve(a, False).x)(1.0)))
    np.testing.assert_allclose(solve(0.25, True).x, [0.5, 0.5], rtol=1e-9)


@pytest.mark.parametrize(
    ("F", "at", "c"),
    [
        # A loss whose rate is 0: with any other, nothing is left of the total.
        (lambda x, k: x + 0.3 * jnp.array([[-1.0, 0.5], [1.0, -0.5]]) @ x - k * x, 0.0, lambda x, k: x.sum() - 1),
        # One fixed point, 2 (1, −1) + 2 b, which happens to have the sum 0.
        (lambda x, b: 0.5 * x + jnp.array([1.0, -1.0]) + b, 0.0, lambda x, b: x.sum()),
    ],
)
def test_a_constraint_that_holds_at_these_parameters_alone(F, at, c):
    solve = lambda k, throw=False: ix.fixed_point(F, jnp.array([1.0, 0.0]), k, constraint=c, throw=throw).x
    assert np.all(np.isfinite(solve(at)))
    for mode in (jax.jacfwd, jax.jacrev):
        assert np.all(np.isnan(mode(solve)(at)))
        with pytest.raises(Exception, match="agree at these parameters, but not at any next to them"):
            jax.block_until_ready(mode(lambda k: solve(k, True))(at))


def test_a_redundant_constraint_changes_nothing():
    F = lambda x, a: 0.5 * x + a * jnp.array([1.0, -1.0])
    solve = lambda a: ix.fixed_point(F, jnp.ones(2), a, constraint=lambda x, a: x.sum()).x
    np.testing.assert_allclose(solve(3.0), [6, -6], rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(solve)(3.0), [2, -2], rtol=1e-9)
    np.testing.assert_allclose(jax.jacrev(solve)(3.0), [2, -2], rtol=1e-9)


def test_a_total_too_few_is_still_singular():
    family = reactions(0)
    one = lambda x, k: family.c(x, k)[:1]
    solve = lambda k: ix.fixed_point(family.F, family.x0, k, constraint=one, throw=False).x
    assert np.all(np.isnan(jax.jacfwd(solve)(family.theta)))
    assert np.all(np.isnan(jax.jacrev(solve)(family.theta)))


def test_without_it_the_message_says_how():
    family = chain(0)
    with pytest.raises(Exception, match=r"`constraint=lambda x, \*args: x.sum\(\) - total`"):
        jax.block_until_ready(jax.jacrev(lambda theta: ix.fixed_point(family.F, family.x0, theta).x)(family.theta))


def test_wrong_constraints():
    F = lambda x: x
    x0 = jnp.ones(3)
    with pytest.raises(ValueError, match=r"`root\(constraint=...\)`: expected none for a root"):
        ix.root(F, x0, constraint=lambda x: x.sum())
    with pytest.raises(
        TypeError, match=r"`fixed_point\(constraint=...\)`: expected a function c\(x, \*args\), got a Py"
    ):
        ix.fixed_point(F, x0, constraint=1.0)
    with pytest.raises(TypeError, match=r"got bool\[\]. A comparison such as"):
        ix.fixed_point(F, x0, constraint=lambda x: x.sum() == 1)
    with pytest.raises(TypeError, match="got one that returns none"):
        ix.fixed_point(F, x0, constraint=lambda x: None)
    with pytest.raises(ValueError, match=r"batch_axis=..., constraint=...\)`: expected one of the two, got both"):
        ix.fixed_point(F, x0, batch_axis=0, constraint=lambda x: x.sum())


def test_diagnose_sees_the_one_that_is_meant():
    family = chain(3)
    report = ix.diagnose(family.F, family.x0, family.theta, constraint=family.c)
    assert report.healthy, report
    assert not ix.diagnose(family.F, family.x0, family.theta).healthy
