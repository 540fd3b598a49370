"""Hoisting what F depends on, compiling once, and the usual mistakes."""

import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems import X0, Reference, reference


class Counted(eqx.Module):
    """F that counts how often Python runs it."""

    alpha: object
    calls: list = eqx.field(static=True)

    def __call__(self, x):
        self.calls.append(None)
        return jnp.cos(self.alpha * x)


# Traced in each call, compiled once.


def compilations(monkeypatch):
    """What is given to `jax.jit` from now on."""
    compiled = []
    monkeypatch.setattr(jax, "jit", lambda f, jit=jax.jit, **k: compiled.append(f) or jit(f, **k))
    return compiled


def test_a_module_of_the_same_structure_is_compiled_once(monkeypatch):
    calls, compiled = [], compilations(monkeypatch)
    for alpha in (0.5, 0.7, 0.9):
        x = ix.fixed_point(Counted(alpha, calls), 1.0).x
        assert float(jnp.cos(alpha * x) - x) == pytest.approx(0, abs=1e-10)
    assert len(calls) <= 5  # two more in the first call, in which the dtype of a Python number is not known
    assert len(compiled) == 1
    ix.fixed_point(Counted(0.5, calls), jnp.ones(2))
    assert len(compiled) == 2


def test_a_call_traces_once_whatever_is_asked_of_it(monkeypatch):
    count, compiled = 0, compilations(monkeypatch)

    def F(x, a):
        nonlocal count
        count += 1
        return jnp.cos(a * x)

    x0 = jnp.asarray(np.ones(3))
    for calls, a in enumerate((0.5, 0.7)):
        ix.fixed_point(F, x0, a)
        jax.jacrev(lambda a: ix.fixed_point(F, x0, a).x)(a)
        ix.fixed_point(F, x0, a, solver=ix.Picard())
        assert count == 3 * (calls + 1)
    assert len(compiled) == 3  # two solvers, and a derivative


def test_compiled_programs_are_reused():
    F = lambda x, a: jnp.sin(a * x) / 2 + 1
    from implicitax._problem import Call, hoist

    for rtol in (1e-8, 1e-9):
        for a in (0.5, 0.7):
            ix.fixed_point(F, X0, a, rtol=rtol)
    problem = hoist(Call("fixed_point", "fixed_point", F, X0, (0.5,))).problem
    ((_, compiled, *_),) = problem.compiled.values()
    assert compiled._cache_size() == 1


def test_what_is_kept_holds_no_array_and_does_not_grow():
    from implicitax._problem import trace

    held, before = [], 0
    for seed in range(40):
        large = jax.random.normal(jax.random.key(seed), (5000,))
        held.append(weakref.ref(large))
        ix.fixed_point(lambda x, large=large: 0.1 * jnp.cos(x) * large[:3] + jnp.mean(large), jnp.zeros(3))
        before = before or len(trace._CACHE)
    del large
    gc.collect()
    assert not any(ref() is not None for ref in held)
    assert len(trace._CACHE) == before


# Never stale.


scale = 1.0


def _through_a_global(x):
    return scale * jnp.cos(x)


def _through_a_function(x):
    return _through_a_global(x)


@pytest.mark.parametrize("F", [_through_a_global, _through_a_function])
def test_a_global_bound_anew(F):
    global scale
    for value in (1.0, 0.5, jnp.asarray(0.3)):
        scale = value
        x = ix.fixed_point(F, 1.0).x
        assert float(value * jnp.cos(x) - x) == pytest.approx(0, abs=1e-9)


def test_a_closure_a_list_an_attribute_and_an_array_changed():
    class Plain:
        gain = 1.0

        def step(self, x):
            return self.gain * jnp.cos(x)

    values, array, plain = [1.0], np.array([1.0]), Plain()
    gain = 1.0

    def F(x):
        return gain * jnp.cos(x)

    functions = (F, lambda x: values[0] * jnp.cos(x), lambda x: array[0] * jnp.cos(x), plain.step)
    for new in (1.0, 0.5):
        gain = values[0] = array[0] = plain.gain = new
        for function in functions:
            x = ix.fixed_point(function, 1.0).x
            assert float(new * jnp.cos(x) - x) == pytest.approx(0, abs=1e-9)


def test_python_float_that_is_needed_as_a_number():
    class Switch(eqx.Module):
        alpha: float

        def __call__(self, x):
            return jnp.cos(x) if self.alpha > 1 else jnp.sin(x) / 2 + float(np.sqrt(self.alpha))

    assert float(ix.fixed_point(Switch(2.0), 1.0).x) == pytest.approx(0.7390851332)
    x = float(ix.fixed_point(Switch(0.25), 1.0).x)
    assert x == pytest.approx(np.sin(x) / 2 + 0.5)


# What goes in and out.


def test_python_numbers_take_the_dtype_of_F():
    weight = jnp.asarray(0.5, jnp.float32)
    sol = ix.fixed_point(lambda x: (jnp.cos(weight * x[0]), jnp.sin(x[0]) * x[1] / 2 + 1), (1, 2.5))
    assert [leaf.dtype for leaf in sol.x] == [jnp.float32, jnp.float32]
    assert ix.fixed_point(lambda x: jnp.cos(x), 1).x.dtype == jnp.float64
    z = ix.fixed_point(lambda z: 0.5 * z**2 + 0.3j, 0.1j).x
    assert z.dtype == jnp.complex128
    assert complex(0.5 * z**2 + 0.3j - z) == pytest.approx(0, abs=1e-9)


def test_static_and_none_leaves_pass():
    class State(eqx.Module):
        value: jax.Array
        activation: object
        nothing: None
        label: str = eqx.field(static=True)

    def F(s):
        return State(s.activation(s.value) / 2 + 1, s.activation, None, s.label)

    sol = ix.fixed_point(F, State(jnp.ones(3), jnp.tanh, None, "canopy"))
    assert sol.x.activation is jnp.tanh
    assert sol.x.label == "canopy"
    np.testing.assert_allclose(sol.x.value, np.tanh(sol.x.value) / 2 + 1, rtol=1e-9)


def test_zero_size_leaf_beside_others():
    sol = ix.fixed_point(lambda x: (jnp.cos(x[0]), x[1]), (jnp.ones(2), jnp.zeros((0, 3))))
    assert sol.x[1].shape == (0, 3)
    np.testing.assert_allclose(sol.x[0], 0.7390851332, rtol=1e-9)


def test_tolerances_as_prefixes():
    def F(x):
        return {"K": 300 + 0.5 * (x["K"] - 300) + 1e-3 * x["f"], "f": 0.5 * x["f"] + 0.1}

    loose = ix.fixed_point(F, {"K": 310.0, "f": 0.0}, solver=ix.Picard(), atol={"K": 1.0, "f": 1e-12}, rtol=0.0)
    assert abs(float(loose.x["f"]) - 0.2) < 1e-11
    tight = ix.fixed_point(F, {"K": 310.0, "f": 0.0}, solver=ix.Picard(), atol={"K": 1e-3, "f": 1.0}, rtol=0.0)
    assert int(tight.nit) < int(loose.nit)


# Mistakes. Each message names the argument, both values, and the place.


def good(x):
    return jnp.cos(x)


MISTAKES = {
    "structure": (
        lambda: ix.fixed_point(lambda x: {"a": x["a"], "c": x["b"]}, {"a": 1.0, "b": jnp.ones(2)}),
        ValueError,
        r"`fixed_point\(F=\.\.\.\)`: expected the structure of x0, .*'b'.*, got .*'c'.*only in x0: x\['b'\].*"
        r"only in the output of F: x\['c'\]",
    ),
    "containers": (
        lambda: ix.root(lambda x: [x[0], x[1]], (1.0, 2.0)),
        ValueError,
        r"`root\(R=\.\.\.\)`: expected the structure of x0, .*\(\*, \*\).*, got .*\[\*, \*\]",
    ),
    "forgotten has_aux": (
        lambda: ix.fixed_point(lambda x: (jnp.cos(x), x), 1.0),
        ValueError,
        r"expected the structure of x0.*auxiliary output without has_aux",
    ),
    "has_aux without aux": (
        lambda: ix.fixed_point(good, 1.0, has_aux=True),
        TypeError,
        r"`fixed_point\(F=\.\.\.\)`: expected a pair \(value, aux\), because has_aux=True, got one number or array\.",
    ),
    "shape": (
        lambda: ix.fixed_point(lambda x: {"T": x["T"][:2]}, {"T": jnp.ones(3)}),
        ValueError,
        r"`fixed_point\(F=\.\.\.\)`: expected float64\[3\] at x0\['T'\], .*, got float64\[2\]",
    ),
    "dtype": (
        lambda: ix.fixed_point(lambda x: x * np.float64(0.5), jnp.ones(2, jnp.float32)),
        TypeError,
        r"`fixed_point\(F=\.\.\.\)`: expected float32\[2\] at x0, .*, got float64\[2\].*x0\.astype\(float64\)",
    ),
    "complex from real": (
        lambda: ix.root(lambda x: x + 1j, jnp.ones(2)),
        TypeError,
        r"`root\(R=\.\.\.\)`: expected float64\[2\] at x0, .*, got complex128\[2\]",
    ),
    "not a number out": (
        lambda: ix.fixed_point(lambda x: (jnp.cos(x[0]), "text"), (1.0, 2.0)),
        TypeError,
        r"expected float64\[\] at x0\[1\], got a Python str",
    ),
    "constant": (
        lambda: ix.fixed_point(lambda x: jnp.ones(2), jnp.zeros(2)),
        ValueError,
        r"`fixed_point\(F=\.\.\.\)`: expected F to depend on x, got a F whose output is the same for every x",
    ),
    "empty": (
        lambda: ix.fixed_point(good, {"a": jnp.ones((0, 2)), "b": None}),
        ValueError,
        r"`fixed_point\(x0=\.\.\.\)`: expected at least one number .* got \{'a': \*, 'b': \*\} and no numbers in it",
    ),
    "integers": (
        lambda: ix.fixed_point(lambda x: x, {"n": jnp.arange(3)}),
        TypeError,
        r"`fixed_point\(x0=\.\.\.\)`: expected floating-point or complex numbers, got int64\[3\] at x0\['n'\]",
    ),
    "not callable": (
        lambda: ix.root(jnp.ones(2), good),
        TypeError,
        r"`root\(R=\.\.\.\)`: expected a function R\(x, \*args\), got float64\[2\]",
    ),
    "negative tolerance": (
        lambda: ix.fixed_point(good, 1.0, rtol=-1e-3),
        ValueError,
        r"`fixed_point\(rtol=\.\.\.\)`: expected a number of at least 0, got -0\.001 at rtol",
    ),
    "NaN tolerance": (
        lambda: ix.fixed_point(lambda x: {"a": good(x["a"])}, {"a": 1.0}, atol={"a": float("nan")}),
        ValueError,
        r"`fixed_point\(atol=\.\.\.\)`: expected a number of at least 0, got nan at atol\['a'\]",
    ),
    "tolerance of another structure": (
        lambda: ix.fixed_point(lambda x: {"a": good(x["a"])}, {"a": 1.0}, atol={"b": 1e-3}),
        ValueError,
        r"`fixed_point\(atol=\.\.\.\)`: expected one number, or a pytree prefix of x0, .*'a'.*, got .*'b'",
    ),
    "max_steps": (
        lambda: ix.fixed_point(good, 1.0, max_steps=-1),
        ValueError,
        r"`fixed_point\(max_steps=\.\.\.\)`: expected an integer of at least 0, got -1",
    ),
    "solver by name": (
        lambda: ix.fixed_point(good, 1.0, solver="newton"),
        TypeError,
        r"`fixed_point\(solver=\.\.\.\)`: expected a solver such as .*, got 'newton'",
    ),
    "solver class": (
        lambda: ix.fixed_point(good, 1.0, solver=ix.Newton),
        TypeError,
        r"`fixed_point\(solver=\.\.\.\)`: expected .*, got the class Newton",
    ),
    "solver of the wrong kind": (
        lambda: ix.root(good, 1.0, solver=ix.Picard()),
        ValueError,
        r"`root\(solver=\.\.\.\)`: expected a solver for a root, got Picard",
    ),
    "adjoint": (
        lambda: ix.fixed_point(good, 1.0, adjoint=ix.SmallLU()),
        TypeError,
        r"`fixed_point\(adjoint=\.\.\.\)`: expected one of .*, got SmallLU",
    ),
    "series for a root": (
        lambda: ix.root(good, 1.0, adjoint=ix.OneStep()),
        ValueError,
        r"`root\(adjoint=\.\.\.\)`: expected .*, got OneStep",
    ),
    "unrolled Anderson": (
        lambda: ix.fixed_point(good, 1.0, solver=ix.Anderson(), adjoint=ix.Unrolled(5)),
        ValueError,
        r"`fixed_point\(solver=\.\.\., adjoint=ix\.Unrolled\(\.\.\.\)\)`: expected .*, got Anderson",
    ),
    "linear solver": (
        lambda: ix.Implicit(linear_solver=ix.Newton()),
        TypeError,
        r"`Implicit\(linear_solver=\.\.\.\)`: expected a Lineax linear solver, got a Newton",
    ),
    "terms": (lambda: ix.Neumann(-1), ValueError, r"`Neumann\(terms=\.\.\.\)`: expected .*, got -1"),
    "steps": (lambda: ix.Unrolled(0), ValueError, r"`Unrolled\(steps=\.\.\.\)`: expected .*, got 0"),
    "damping": (lambda: ix.Picard(0.0), ValueError, r"`Picard\(damping=\.\.\.\)`: expected .*\(0, 1\], got 0\.0"),
    "memory": (lambda: ix.Anderson(memory=0), ValueError, r"`Anderson\(memory=\.\.\.\)`: expected 1 to 20, got 0"),
    "layer without guess": (
        lambda: ix.FixedPointLayer(good)(),
        ValueError,
        r"`FixedPointLayer\(x0=\.\.\.\)`: expected an initial guess, got none",
    ),
    "layer with two guesses": (
        lambda: ix.RootLayer(good, init=1.0, init_fn=good),
        ValueError,
        r"`RootLayer\(init=\.\.\., init_fn=\.\.\.\)`: expected at most one of the two, got both",
    ),
    "unrolled custom": (
        lambda: ix.custom_root(good, adjoint=ix.Unrolled(3)),
        ValueError,
        r"`custom_root\(adjoint=\.\.\.\)`: expected .*, got Unrolled",
    ),
    "NaN in x0": (
        lambda: ix.fixed_point(lambda x: {"T": good(x["T"])}, {"T": jnp.array([1.0, jnp.nan])}),
        ix.ConvergenceError,
        r"`fixed_point`: x0 itself is NaN or infinite.*first at x0\['T'\]\[1\]",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name):
    make, error, pattern = MISTAKES[name]
    with pytest.raises(error, match=pattern):
        make()


def test_errors_of_F_itself_are_the_users():
    def F(x):
        return x + undefined_name

    with pytest.raises(NameError, match="undefined_name"):
        ix.fixed_point(F, 1.0)


def test_no_trace_from_inside_for_a_mistake():
    with pytest.raises(TypeError) as caught:
        ix.fixed_point(lambda x: x, jnp.arange(3))
    assert all("/jax/" not in str(entry.path) for entry in caught.traceback)


def test_named_axes():
    """Inside a vmap with a name, F may use the name; what was traced there is not reused elsewhere."""

    def F(x, a):
        return jnp.cos(a * x) / 2 + 0.1 * jax.lax.pmean(jax.lax.stop_gradient(a), "lanes")

    a = jnp.array([0.5, 0.7])
    x = jax.vmap(lambda a: ix.fixed_point(F, 1.0, a).x, axis_name="lanes")(a)
    np.testing.assert_allclose(jnp.cos(a * x) / 2 + 0.06, x, rtol=1e-9)


def test_reference_module_eagerly_with_python_floats_compiles_once():
    before = ix.fixed_point(Reference(11.0, 3.0), X0)
    after = ix.fixed_point(Reference(11.5, 2.9), X0)
    assert before.summary == after.summary
    np.testing.assert_allclose(reference(after.x, 11.5, 2.9), after.x, rtol=1e-9)
