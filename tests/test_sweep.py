"""`sweep` against closed forms, finite differences and `vmap`; what it refuses; eight devices, in another process."""

import os
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import implicitax as ix

LANES = 103  # a prime: no number of chunks divides it
A = np.random.default_rng(0).uniform(1.0, 9.0, LANES)
BAD = A.copy()
BAD[[7, 77]] = -1.0


def babylon(x, a):
    """x = √a, dx/da = 1 / (2 √a), d²x/da² = −1 / (4 a^(3/2))."""
    return 0.5 * (x + jnp.where(a > 0, a, jnp.nan) / x)


def sweep(a=A, F=babylon, x0=2.0, **keywords):
    return ix.sweep(F, x0, a, **({"batch_size": 10} | keywords))


class Line(eqx.Module):
    """x = (slope x + shift) / 2 has the solution x = shift / (2 − slope)."""

    slope: jax.Array
    shift: jax.Array
    name: str = "line"
    activation: object = jnp.multiply

    def __call__(self, x, scale):
        return self.activation(scale, self.slope * x + self.shift)


@pytest.mark.parametrize("lanes", [1, 9, 10, 11, 100, LANES])
@pytest.mark.parametrize("batch_size", [1, 10, 1000, None])
def test_values_whatever_the_chunks(lanes, batch_size):
    sol = sweep(A[:lanes], batch_size=batch_size)
    np.testing.assert_allclose(sol.x, np.sqrt(A[:lanes]), rtol=1e-10)
    assert sol.x.shape == sol.status.shape == sol.nit.shape == sol.residual.shape == (lanes,)
    assert sol.success.all()
    assert sol.message == f"{lanes} of {lanes} solves: {ix.Status.CONVERGED.text}"


def test_it_returns_what_vmap_returns():
    sol = sweep(error_estimate=True)
    expected = jax.vmap(lambda a: ix.fixed_point(babylon, 2.0, a, error_estimate=True, throw=False))(A)
    for got, want in zip(jax.tree.leaves(sol), jax.tree.leaves(expected)):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
    np.testing.assert_array_equal(sol.nit, expected.nit)
    assert (sol.solver, sol.linear_solver) == (expected.solver, expected.linear_solver)


def test_no_lanes():
    sol = sweep(A[:0])
    assert sol.x.shape == sol.status.shape == (0,)


def test_root():
    sol = ix.sweep(lambda x, a: x**3 - a, 2.0, A, kind="root", batch_size=10)
    np.testing.assert_allclose(sol.x, np.cbrt(A), rtol=1e-10)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
class TestDerivatives:
    def test_reverse(self, wrap):
        gradient = wrap(jax.grad(lambda a: jnp.sum(jnp.sin(sweep(a).x))))(A)
        np.testing.assert_allclose(gradient, np.cos(np.sqrt(A)) / (2 * np.sqrt(A)), rtol=1e-8)

    def test_forward(self, wrap):
        _, tangent = wrap(lambda a: jax.jvp(lambda a: sweep(a).x, (a,), (a**2,)))(A)
        np.testing.assert_allclose(tangent, A**1.5 / 2, rtol=1e-8)

    def test_what_all_lanes_share(self, wrap):
        def loss(theta):
            def F(x, a, scale):  # closes over theta
                return babylon(x, scale * theta["closed"] * a)

            return jnp.sum(ix.sweep(F, 2.0, A, theta["scale"], in_axes=(None, None, 0, None), batch_size=10).x)

        theta = {"closed": 2.0, "scale": 3.0}  # Σ √(s c a)
        gradient, total = wrap(jax.grad(loss))(theta), np.sum(np.sqrt(6 * A))
        np.testing.assert_allclose([gradient["closed"], gradient["scale"]], [total / 4, total / 6], rtol=1e-8)

    def test_second_order(self, wrap):
        loss = lambda s: jnp.sum(sweep(s * A).x)  # √s Σ √a
        hessian = wrap(jax.hessian(loss))(2.0)
        np.testing.assert_allclose(hessian, -np.sum(np.sqrt(A)) / (4 * 2**1.5), rtol=1e-7)
        np.testing.assert_allclose(wrap(jax.grad(jax.grad(loss)))(2.0), hessian, rtol=1e-7)

    def test_leaves_of_a_module(self, wrap):
        line = Line(jnp.linspace(0.1, 0.9, LANES), jnp.asarray(3.0))
        in_axes = (Line(0, None, None, None), None, None)
        wrap = eqx.filter_jit if wrap is jax.jit else wrap
        gradient = wrap(eqx.filter_grad(lambda F: jnp.sum(ix.sweep(F, 0.0, 0.5, in_axes=in_axes, batch_size=10).x)))
        got, free = gradient(line), 2 - line.slope
        np.testing.assert_allclose(got.slope, 3 / free**2, rtol=1e-8)
        np.testing.assert_allclose(got.shift, np.sum(1 / free), rtol=1e-8)


def test_gradient_by_finite_differences():
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)) / 4)
    shifts = jnp.asarray(np.random.default_rng(2).normal(size=(LANES, 3)))
    F = lambda x, W, b: jnp.tanh(W @ x + b)
    loss = lambda W: jnp.sum(ix.sweep(F, jnp.zeros(3), W, shifts, in_axes=(None, None, None, 0), batch_size=10).x ** 2)
    gradient, direction, h = jax.grad(loss)(weights), jnp.ones((3, 3)), 1e-5
    difference = (loss(weights + h * direction) - loss(weights - h * direction)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-6)


def test_inside_vmap():
    scales = jnp.asarray([1.0, 4.0])
    np.testing.assert_allclose(jax.vmap(lambda s: sweep(s * A).x)(scales), np.sqrt(np.outer(scales, A)), rtol=1e-10)


class TestAxes:
    def test_any_axis_and_mapped_guesses(self):
        a = np.stack([A, 2 * A])  # lanes along axis 1
        x0 = {"x": np.full((1, 2, LANES), 2.0), "none": None}
        F = lambda x, args: {"x": babylon(x["x"], args["a"]), "none": args["none"]}
        sol = ix.sweep(F, x0, {"a": a, "none": None}, in_axes=[None, {"x": -1, "none": None}, 1], batch_size=10)
        np.testing.assert_allclose(sol.x["x"], np.sqrt(a).T[:, None], rtol=1e-10)
        assert sol.x["none"] is None

    def test_the_guess_decides(self):
        x0 = np.where(np.arange(LANES) % 2, 2.0, -2.0)
        sol = ix.sweep(babylon, x0, A, in_axes=(None, 0, 0), batch_size=10)
        np.testing.assert_allclose(sol.x, np.sign(x0) * np.sqrt(A), rtol=1e-10)

    def test_one_number_for_all(self):
        line = Line(jnp.linspace(0.1, 0.9, 12), jnp.linspace(1.0, 2.0, 12))
        sol = ix.sweep(line, np.zeros((12, 2)), jnp.full(12, 0.5), in_axes=0, batch_size=5)
        np.testing.assert_allclose(sol.x, np.repeat((line.shift / (2 - line.slope))[:, None], 2, 1), rtol=1e-9)

    def test_aux(self):
        F = lambda x, a: (babylon(x, a), {"square": x**2, "label": "text", "count": jnp.asarray(3)})
        sol = sweep(F=F, has_aux=True)
        np.testing.assert_allclose(sol.aux["square"], A, rtol=1e-9)
        assert sol.aux["label"] == "text"
        np.testing.assert_array_equal(sol.aux["count"], np.full(LANES, 3))
        gradient = jax.grad(lambda a: jnp.sum(sweep(a, F=F, has_aux=True).aux["square"]))(A)
        np.testing.assert_allclose(gradient, np.ones(LANES), rtol=1e-8)

    def test_complex(self):
        sol = ix.sweep(lambda x, a: 0.5 * (x + a / x), 1.0 + 1.0j, 1j * A, batch_size=10)
        np.testing.assert_allclose(sol.x, np.sqrt(1j * A), rtol=1e-9)

    def test_a_number_that_python_reads(self):
        class Model(eqx.Module):
            power: float

            def __call__(self, x, a):
                return babylon(x, a) if self.power > 1 else x / 2

        np.testing.assert_allclose(ix.sweep(Model(2.0), 2.0, A, batch_size=10).x, np.sqrt(A), rtol=1e-10)


@pytest.mark.float32
def test_float32():
    sol = sweep(A.astype(np.float32))
    assert sol.x.dtype == jnp.float32
    np.testing.assert_allclose(sol.x, np.sqrt(A), rtol=1e-4)


def test_unrolled_and_bounds():
    unrolled = lambda a: sweep(a, adjoint=ix.Unrolled(60)).x
    np.testing.assert_allclose(jax.grad(lambda a: jnp.sum(unrolled(a)))(A), 1 / (2 * np.sqrt(A)), rtol=1e-8)
    sol = sweep(bounds=(0.5, None))
    np.testing.assert_allclose(sol.x, np.sqrt(A), rtol=1e-9)


class TestFailures:
    def test_global_indices(self):
        with pytest.raises(
            ix.ConvergenceError, match=r"^`sweep`: 2 of 103 solves failed, at indices 7, 77\. The first"
        ):
            sweep(BAD)
        with pytest.raises(ix.ConvergenceError, match=r"at indices 7, 77"):
            jax.grad(lambda a: jnp.sum(sweep(a).x))(BAD)
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"2 of 103 solves failed, at indices 7, 77"):
            jax.block_until_ready(jax.jit(lambda a: sweep(a).x)(BAD))

    def test_a_repeated_lane_does_not_count(self):
        last = A.copy()
        last[-1] = -1.0
        with pytest.raises(ix.ConvergenceError, match=r"1 of 103 solves failed, at index 102\."):
            sweep(last)
        shared = lambda s: sweep(s * last, throw=False)
        loss = lambda s: jnp.sum(jnp.where(shared(s).success, shared(s).x, 0))
        np.testing.assert_allclose(jax.grad(loss)(1.0), np.sum(np.sqrt(last[:-1])) / 2, rtol=1e-8)

    def test_statuses(self):
        sol = sweep(BAD, throw=False)
        failed = np.isin(np.arange(LANES), [7, 77])
        np.testing.assert_array_equal(sol.success, ~failed)
        np.testing.assert_array_equal(sol.status[failed], ix.Status.NON_FINITE)
        good = sweep(throw=False)
        np.testing.assert_array_equal(sol.x[~failed], good.x[~failed])
        assert "2 of 103 solves failed, at indices 7, 77" in sol.message
        gradient = jax.grad(lambda a: jnp.sum(sweep(a, throw=False).x))(BAD)
        np.testing.assert_array_equal(np.isnan(gradient), failed)
        masked = jax.grad(lambda a: (lambda sol: jnp.sum(jnp.where(sol.success, sol.x, 0)))(sweep(a, throw=False)))(BAD)
        np.testing.assert_array_equal(masked[failed], 0)
        np.testing.assert_allclose(masked[~failed], 1 / (2 * np.sqrt(A[~failed])), rtol=1e-8)

    def test_a_derivative_that_fails(self):
        # Above 8.9 the second component is passed through: solved, but undetermined.
        F = lambda x, a: jnp.stack([0.5 * x[0] + a, jnp.where(a > 8.9, x[1], 0.5 * x[1] + a)])
        solve = lambda a, **keywords: sweep(a, F=F, x0=np.zeros(2), solver=ix.Picard(), **keywords).x
        failed = A > 8.9
        assert 0 < failed.sum() < LANES
        with pytest.raises(jax.errors.JaxRuntimeError, match="solves in one chunk of the sweep failed, at ind"):
            jax.block_until_ready(jax.grad(lambda a: jnp.sum(solve(a)))(A))
        gradient = jax.grad(lambda a: jnp.sum(solve(a, throw=False)))(A)
        np.testing.assert_array_equal(np.isnan(gradient), failed)


class TestCost:
    def test_f_is_traced_once_a_call(self):
        calls = []

        def F(x, a):
            calls.append(1)
            return babylon(x, a)

        sweep(F=F)
        count = len(calls)
        assert count <= 2
        for shift in (0.1, 0.2):
            np.testing.assert_allclose(sweep(A + shift, F=F).x, np.sqrt(A + shift), rtol=1e-10)
        assert len(calls) == count + 2

    def test_a_module_is_compiled_once(self, monkeypatch):
        compiled = []
        monkeypatch.setattr(jax, "jit", lambda f, jit=jax.jit, **k: compiled.append(f) or jit(f, **k))
        for slope in (0.1, 0.2, 0.3):
            line = Line(jnp.full(LANES, slope), jnp.asarray(1.0))
            sol = ix.sweep(line, 0.0, 0.5, in_axes=(Line(0, None, None, None), None, None), batch_size=10)
            np.testing.assert_allclose(sol.x, 1 / (2 - slope), rtol=1e-9)
        assert len(compiled) <= 1

    def test_each_chunk_stops_by_itself(self):
        text = str(jax.make_jaxpr(lambda a: sweep(a).x)(A))
        assert re.search(r"scan\[", text)

    def test_memory_is_that_of_a_chunk(self):
        a, W = jnp.zeros((20_000, 8)), jnp.eye(8) / 2
        F = lambda x, a, W: jnp.tanh(W @ x + a)
        solve = lambda a, **k: ix.sweep(F, jnp.zeros(8), a, W, in_axes=(None, None, 0, None), throw=False, **k).x
        memory = lambda f: jax.jit(f).lower(a).compile().memory_analysis().temp_size_in_bytes
        assert memory(lambda a: solve(a, batch_size=200)) < 3 * a.nbytes
        assert memory(lambda a: solve(a, batch_size=20_000)) > 10 * a.nbytes
        # A gradient keeps of each lane what went in, x, and how the solve ended.
        assert memory(jax.grad(lambda a: jnp.sum(solve(a, batch_size=200)))) < 12 * a.nbytes


class TestProgress:
    def test_a_bar(self, capfd):
        sol = sweep(batch_size=2, progress=True)
        np.testing.assert_allclose(sol.x, np.sqrt(A), rtol=1e-10)
        assert sol.message == sweep().message
        assert "sweep" in capfd.readouterr().err
        assert sweep(A[:0], progress=True).x.shape == (0,)

    def test_another_axis_and_what_is_shared(self):
        a = np.stack([A, 2 * A])
        sol = ix.sweep(babylon, np.ones(2), a, in_axes=(None, None, 1), batch_size=3, progress=True)
        np.testing.assert_allclose(sol.x, np.sqrt(a).T, rtol=1e-10)

    def test_global_indices(self):
        with pytest.raises(ix.ConvergenceError, match=r"2 of 103 solves failed, at indices 7, 77\."):
            sweep(BAD, batch_size=3, progress=True)

    def test_not_inside_jit(self):
        with pytest.raises(
            ValueError, match=r"^`sweep\(progress=...\)`: expected False inside `jit`, `grad` and `vmap`"
        ):
            jax.jit(lambda a: sweep(a, progress=True).x)(A)

    def test_without_rich(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "rich.progress", None)
        with pytest.raises(
            ImportError,
            match=r"^`sweep\(progress=...\)`: expected the package rich, .*, got none\. .*implicitax\[cli\]",
        ):
            sweep(progress=True)


MISTAKES = {
    "in_axes is no axis": (
        {"in_axes": "lanes"},
        ValueError,
        r"in_axes.*one entry for each of \(F, x0, \*args\), got 'l",
    ),
    "in_axes is short": ({"in_axes": (None, 0)}, ValueError, r"a tuple of 3, .*got \(None, 0\)"),
    "an axis is text": ({"in_axes": (None, None, "0")}, TypeError, r"integers, and None .*got '0' for args\[0\]"),
    "an axis is bool": ({"in_axes": (None, None, True)}, TypeError, r"got True for args\[0\]"),
    "no prefix": ({"in_axes": (None, None, {"a": 0})}, ValueError, r"a pytree prefix of args\[0\], .*got .*'a'"),
    "no such axis": (
        {"in_axes": (None, None, 1)},
        ValueError,
        r"an array with an axis 1 at args\[0\], got the shape \(103,",
    ),
    "a number has no axis": ({"a": 2.0}, ValueError, r"an axis 0 at args\[0\], got the shape \(\)"),
    "nothing is mapped": (
        {"in_axes": (None, None, None)},
        ValueError,
        "at least one array .* got .*None.* there is none",
    ),
    "unequal lengths": (
        {"x0": np.ones(5), "in_axes": (None, 0, 0)},
        ValueError,
        r"equally many problems along their axes, got 5 in x0, 103 in args\[0\]",
    ),
    "batch_size is 0": ({"batch_size": 0}, ValueError, r"`sweep\(batch_size=...\)`: expected .*at least 1, got 0"),
    "batch_size is no integer": ({"batch_size": 2.5}, ValueError, "got 2.5"),
    "kind": (
        {"kind": "minimum"},
        ValueError,
        r"`sweep\(kind=...\)`: expected \"fixed_point\" or \"root\", got 'minimum'",
    ),
    "batch_axis": ({"batch_axis": 0}, TypeError, r"`sweep\(batch_axis=...\)`: expected none, got 0\. .*coupled rows"),
    "a keyword": (
        {"tol": 1e-3},
        TypeError,
        r"`sweep\(tol=...\)`: expected one of the keywords solver, .*got the keyword",
    ),
    "mesh": ({"mesh": jax.devices}, TypeError, r"`sweep\(mesh=...\)`: expected a `jax.sharding.Mesh`, got a function"),
    "F": ({"F": 2.0}, TypeError, r"`sweep\(F=...\)`: expected a function F\(x, \*args\), got a Python float"),
    "the shape of F": (
        {"x0": np.ones(2), "F": lambda x, a: x[0] + a},
        ValueError,
        r"`sweep\(F=...\)`: expected float64\[2\]",
    ),
    "solver": ({"solver": "newton"}, TypeError, r"`sweep\(solver=...\)`: expected a solver"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    keywords, error, text = MISTAKES[name]
    with pytest.raises(error, match=text):
        sweep(**keywords)


def test_a_mesh_of_one_device():
    mesh = Mesh(np.array(jax.devices()[:1]), ("lanes",))
    np.testing.assert_allclose(sweep(mesh=mesh).x, np.sqrt(A), rtol=1e-10)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh
jax.config.update("jax_enable_x64", True)
import implicitax as ix

assert jax.device_count() == 8
F = lambda x, a, s: 0.5 * (x + jnp.where(a > 0, s * a, jnp.nan) / x)
lanes = 103  # of neither the devices nor the chunks a multiple
a = np.random.default_rng(0).uniform(1.0, 9.0, lanes)
sweep = lambda a, s=1.0, **k: ix.sweep(F, 2.0, a, s, in_axes=(None, None, 0, None), **({"batch_size": 4} | k))

sol = sweep(a)
assert len(sol.x.sharding.device_set) == 8
np.testing.assert_allclose(sol.x, np.sqrt(a), rtol=1e-10)
assert sol.message.startswith("103 of 103 solves")
np.testing.assert_allclose(sweep(a[:3]).x, np.sqrt(a[:3]), rtol=1e-10)
np.testing.assert_allclose(sweep(a, progress=True).x, np.sqrt(a), rtol=1e-10)

# A mesh of one's own, and arrays that are elsewhere.
two_axes = Mesh(np.array(jax.devices()[:6]).reshape(2, 3), ("p", "q"))
for mesh in (two_axes, jax.make_mesh((8,), ("d",), (AxisType.Explicit,))):
    for array in (a, jax.device_put(a, jax.devices()[7])):
        x = sweep(array, mesh=mesh).x
        assert len(x.sharding.device_set) == mesh.size
        np.testing.assert_allclose(x, np.sqrt(a), rtol=1e-10)
assert sweep(jax.device_put(a, jax.devices()[7])).x.devices() == {jax.devices()[7]}
with jax.default_device(jax.devices()[2]):
    assert sweep(a).x.devices() == {jax.devices()[2]}

# Derivatives: by what is split, by what all share; second order.
total = np.sum(np.sqrt(a))
for throw in (True, False):
    loss = lambda a, s: jnp.sum(sweep(a, s, throw=throw).x)
    for wrap in (lambda f: f, jax.jit):
        by_a, by_s = wrap(jax.grad(loss, argnums=(0, 1)))(a, 1.0)
        np.testing.assert_allclose(by_a, 1 / (2 * np.sqrt(a)), rtol=1e-8)
        np.testing.assert_allclose(by_s, total / 2, rtol=1e-8)
    np.testing.assert_allclose(jax.jvp(loss, (a, 1.0), (0 * a, 1.0))[1], total / 2, rtol=1e-8)
    np.testing.assert_allclose(jax.jit(jax.hessian(loss, argnums=1))(a, 1.0), -total / 4, rtol=1e-7)
    stacked = jax.vmap(lambda s: sweep(a, s, throw=throw).x)(jnp.asarray([1.0, 4.0]))
    np.testing.assert_allclose(stacked, np.sqrt(np.outer([1, 4], a)), rtol=1e-10)

# Arrays that are split already, and what is known of that inside `jit`.
mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("p", "q"))
split = jax.device_put(a[:96], jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("p", "q"))))
for throw in (True, False):
    for given in ({}, {"mesh": mesh}):
        loss = lambda a, s: jnp.sum(sweep(a, s, throw=throw, **given).x)
        for wrap in (lambda f: f, jax.jit):
            by_a, by_s = wrap(jax.grad(loss, argnums=(0, 1)))(split, 1.0)
            np.testing.assert_allclose(by_a, 1 / (2 * np.sqrt(a[:96])), rtol=1e-8)
            np.testing.assert_allclose(by_s, np.sum(np.sqrt(a[:96])) / 2, rtol=1e-8)

# Failures.
bad = np.where(np.isin(np.arange(lanes), [7, 77]), -1.0, a)
try:
    sweep(bad)
except ix.ConvergenceError as error:
    assert "2 of 103 solves failed, at indices 7, 77" in str(error)
else:
    raise AssertionError
np.testing.assert_array_equal(sweep(bad, throw=False).success, bad > 0)

# Inside `jit` all devices raise at once, with the indices of all; also where the program goes on with what they have.
G = lambda x, a, s: (F(x, a, s), {"twice": 2 * a, "count": jnp.int32(3)})
aux = lambda a: ix.sweep(G, 2.0, a, 1.0, in_axes=(None, None, 0, None), batch_size=4, has_aux=True).aux
plain, total = lambda a: sweep(a).x, lambda a: jnp.sum(sweep(a).x) + jnp.mean(a)
told = "2 of 103 solves failed, at indices 7, 77"
for f, given, told in (
    (plain, bad, told),
    (total, bad, told),
    (jax.grad(total), bad, told),
    (aux, bad, told),
    (jax.grad(lambda a: jnp.sum(aux(a)["twice"])), bad, told),
    (jax.vmap(plain), jnp.stack([a, bad]), "2 of 206 solves failed, at indices (1, 7), (1, 77)"),
):
    for _ in range(2):
        try:
            jax.block_until_ready(jax.jit(f)(given))
        except jax.errors.JaxRuntimeError as error:
            assert told in str(error), error
        else:
            raise AssertionError
    jax.block_until_ready(jax.jit(f)(jnp.abs(given)))
np.testing.assert_array_equal(aux(a)["count"], 3)

# The linear solve of a derivative cannot: it is NaN.
flat = lambda a: jnp.sum(ix.sweep(lambda x, a: x + a * 0 * x, 1.0, a).x)
assert np.isnan(jax.jit(jax.grad(flat))(a)).all()

# Inside somebody's own `shard_map` each device sweeps over what it has.
mesh, P = Mesh(np.array(jax.devices()), ("d",)), jax.sharding.PartitionSpec
own = jax.shard_map(lambda a: sweep(a, throw=False).x, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
np.testing.assert_allclose(jax.jit(own)(a[:96]), np.sqrt(a[:96]), rtol=1e-10)
print("all devices")
"""


def test_eight_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "16"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "all devices" in run.stdout
    assert "rematerialization" not in run.stderr


FEW_THREADS = """
import jax, jax.numpy as jnp, numpy as np
import implicitax as ix

a = jnp.linspace(1.0, 2.0, 8)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
sweep = lambda a, mesh=None: ix.sweep(lambda x, a: jnp.exp(-a * x), 0.5, a, mesh=mesh).x
assert len(sweep(a, mesh).sharding.device_set) == len(sweep(a).sharding.device_set) == 2
assert len(jax.jit(sweep)(a).sharding.device_set) == 1
assert len(jax.grad(lambda a: jnp.sum(sweep(a)))(a).sharding.device_set) == 1
assert len(jax.jit(lambda: sweep(a))().sharding.device_set) == 1
for call in (jax.jit(lambda a: sweep(a, mesh)), jax.grad(lambda a: jnp.sum(sweep(a, mesh)))):
    try:
        call(a)
    except ValueError as error:
        assert "expected 4 threads for 2 CPU devices" in str(error), error
    else:
        raise AssertionError
print("refused")
"""


def test_where_the_devices_would_wait_for_a_thread():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "NPROC": "3"}
    run = subprocess.run([sys.executable, "-c", FEW_THREADS], capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == "refused", run.stderr[-3000:]
