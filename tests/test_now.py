"""F is the F that is there now: whatever Python reads, wherever it reads it, value and derivative; and found again."""

import contextvars
import dataclasses
import functools
import gc
import operator
import os
import subprocess
import sys
import threading
import types
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import implicitax as ix

VALUES = (1.1, 0.6, 1.7)


def answer(v, a):
    """x = 0.4 v a cos(x), and its derivative by a, by Newton's method in NumPy."""
    x = 0.5
    for _ in range(60):
        x -= (x - 0.4 * v * a * np.cos(x)) / (1 + 0.4 * v * a * np.sin(x))
    return x, 0.4 * v * np.cos(x) / (1 + 0.4 * v * a * np.sin(x))


def step(v, x, a):
    return 0.4 * v * a * jnp.cos(x)


# Each is a function that returns (F(x, a), set): F reads v somewhere, `set` changes it there.
WAYS = {}


def way(make):
    WAYS[make.__name__] = make
    return make


v_global = 0.0


def read_global():
    return v_global


def set_global(v):
    global v_global
    v_global = v


@way
def a_global():
    return lambda x, a: step(v_global, x, a), set_global


@way
def a_global_in_a_helper():
    return lambda x, a: step(read_global(), x, a), set_global


@way
def seven_helpers_deep():
    deep = functools.reduce(lambda inner, _: lambda: inner(), range(7), read_global)
    return lambda x, a: step(deep(), x, a), set_global


@way
def globals_by_name():
    return lambda x, a: step(globals()["v_global"], x, a), set_global


@way
def a_string_that_is_evaluated():
    return lambda x, a: step(eval("v_global"), x, a), set_global


@way
def an_enclosing_variable():
    v = 0.0

    def put(new):
        nonlocal v
        v = new

    return lambda x, a: step(v, x, a), put


def container(make, put):
    def ways():
        box = make()
        return lambda x, a: step(box[0], x, a), lambda v: put(box, v)

    return ways


def put_item(box, v):
    box[0] = v


WAYS["a_list"] = container(lambda: [0.0], put_item)
WAYS["a_dict"] = container(lambda: {0: 0.0}, put_item)
WAYS["a_numpy_array_in_place"] = container(lambda: np.zeros(1), put_item)
WAYS["a_mapping_proxy"] = container(lambda: [0.0], put_item)


def attribute(make):
    def ways():
        thing = make()
        return lambda x, a: step(thing.v, x, a), lambda v: setattr(thing, "v", v)

    return ways


class Plain:
    v = 0.0

    def step(self, x, a):
        return step(self.v, x, a)

    def __call__(self, x, a):
        return self.step(x, a)


class Inherited(Plain):
    pass


class Property:
    def __init__(self):
        self.box = [0.0]

    v = property(lambda self: self.box[0], lambda self, new: operator.setitem(self.box, 0, new))


class Getattr:
    def __init__(self):
        self.__dict__["box"] = [0.0]

    def __getattr__(self, name):
        return self.box[0]

    def __setattr__(self, name, new):
        self.box[0] = new


class Slots:
    __slots__ = ("v",)


WAYS["an_attribute"] = attribute(Plain)
WAYS["a_property"] = attribute(Property)
WAYS["getattr_and_setattr"] = attribute(Getattr)
WAYS["slots"] = attribute(Slots)
WAYS["a_namespace"] = attribute(types.SimpleNamespace)
WAYS["a_module"] = attribute(lambda: types.ModuleType("parameters"))
WAYS["a_class"] = attribute(lambda: type("Parameters", (), {}))
WAYS["thread_local"] = attribute(threading.local)
WAYS["a_function"] = attribute(lambda: lambda: None)


@way
def a_module_that_is_imported_in_f():
    sys.modules["parameters_of_a_test"] = module = types.ModuleType("parameters_of_a_test")

    def F(x, a):
        import parameters_of_a_test

        return step(parameters_of_a_test.v, x, a)

    return F, lambda v: setattr(module, "v", v)


def method(make, get):
    def ways():
        model = make()
        return get(model), lambda v: setattr(model, "v", v)

    return ways


WAYS["a_bound_method"] = method(Plain, lambda model: model.step)
WAYS["a_callable"] = method(Plain, lambda model: model)
WAYS["a_method_behind_a_lambda"] = method(Plain, lambda model: lambda x, a: model.step(x, a))
WAYS["an_inherited_call"] = method(Inherited, lambda model: model)
WAYS["an_inherited_method_behind_a_lambda"] = method(Inherited, lambda model: lambda x, a: model(x, a))
WAYS["a_partial_of_a_method"] = method(Plain, lambda model: functools.partial(model.step))
WAYS["attrgetter"] = method(Plain, lambda model: lambda x, a: step(operator.attrgetter("v")(model), x, a))


@way
def an_attribute_of_the_class_of_an_instance():
    kind = type("Model", (Plain,), {})
    model = kind()
    return lambda x, a: model.step(x, a), lambda v: setattr(kind, "v", v)


@way
def another_class_for_the_same_instance():
    model = Plain()
    return lambda x, a: model(x, a), lambda v: setattr(model, "__class__", type("Other", (Plain,), {"v": v}))


@way
def a_method_replaced_on_the_class():
    kind = type("Model", (), {})
    model = kind()
    return lambda x, a: model.step(x, a), lambda v: setattr(kind, "step", lambda self, x, a: step(v, x, a))


@way
def a_function_replaced_in_a_module():
    module = types.ModuleType("functions")
    return lambda x, a: module.step(x, a), lambda v: setattr(module, "step", lambda x, a: step(v, x, a))


@way
def defaults_of_f():
    def F(x, a, v=0.0):
        return step(v, x, a)

    return F, lambda v: setattr(F, "__defaults__", (v,))


@way
def keyword_defaults_of_f():
    def F(x, a, *, v=0.0):
        return step(v, x, a)

    return F, lambda v: setattr(F, "__kwdefaults__", {"v": v})


@way
def the_code_of_f():
    def F(x, a):
        return x

    return F, lambda v: setattr(F, "__code__", eval(f"(lambda x, a: step({v}, x, a)).__code__"))


@way
def the_keywords_of_a_partial():
    F = functools.partial(lambda x, a, v: step(v, x, a), v=0.0)
    return F, lambda v: F.keywords.update(v=v)


@way
def an_environment_variable():
    return (
        lambda x, a: step(float(os.environ["IMPLICITAX_TEST_V"]), x, a),
        lambda v: os.environ.update(IMPLICITAX_TEST_V=str(v)),
    )


@way
def a_context_variable():
    variable = contextvars.ContextVar("v")
    return lambda x, a: step(variable.get(), x, a), variable.set


@way
def a_file(tmp=[None]):  # noqa: B006
    import pathlib
    import tempfile

    path = pathlib.Path(tempfile.mkdtemp()) / "v"
    return lambda x, a: step(float(path.read_text()), x, a), lambda v: path.write_text(str(v))


class Static(eqx.Module):
    box: list = eqx.field(static=True)
    w: jax.Array

    def __call__(self, x, a):
        return step(self.box[0], x, a * self.w)


@way
def a_static_field_changed_in_place():
    module = Static([0.0], jnp.asarray(1.0))
    return module, lambda v: operator.setitem(module.box, 0, v)


@way
def a_branch_of_python():
    flag = [None]

    def F(x, a):
        return step(VALUES[0], x, a) if flag[0] == 0 else step(VALUES[flag[0]], x, a)

    return F, lambda v: operator.setitem(flag, 0, VALUES.index(v))


@way
def the_length_of_a_loop():
    terms = []

    def F(x, a):
        return sum((step(v, x, a) for v in terms), 0.0 * x)

    return F, lambda v: terms.extend([v - sum(terms)])


@way
def an_array_rebound():
    box = [None]
    return lambda x, a: step(box[0].sum(), x, a), lambda v: operator.setitem(box, 0, jnp.full(2, v / 2))


@way
def the_body_of_a_branch():
    box = [0.0]

    def F(x, a):
        return jax.lax.cond(x > -10, lambda x: step(box[0], x, a), lambda x: x, x)

    return F, lambda v: operator.setitem(box, 0, v)


@way
def the_body_of_a_scan():
    box = [0.0]

    def F(x, a):
        return jax.lax.scan(lambda c, _: (step(box[0], x, a), None), x, length=2)[0]

    return F, lambda v: operator.setitem(box, 0, v)


def custom(decorate):
    def ways():
        box = [0.0]

        def F(x, a):
            return decorate(box)(x, a)

        return F, lambda v: operator.setitem(box, 0, v)

    return ways


@custom
def value_of_a_custom_jvp(box):
    f = jax.custom_jvp(lambda x, a: step(box[0], x, a))
    f.defjvp(lambda at, dot: (f(*at), jax.jvp(lambda x, a: step(box[0], x, a), at, dot)[1]))
    return f


WAYS["a_custom_jvp_made_anew"] = value_of_a_custom_jvp


@custom
def value_of_a_custom_vjp(box):
    f = jax.custom_vjp(lambda x, a: step(box[0], x, a))
    f.defvjp(
        lambda x, a: (f(x, a), (x, a)),
        lambda at, w: jax.vjp(lambda x, a: step(box[0], x, a), *at)[1](w),
    )
    return f


WAYS["a_custom_vjp_made_anew"] = value_of_a_custom_vjp


@way
def a_custom_rule_that_is_kept():
    """The value goes by v, and so does the rule, both through what is read when they are traced."""
    box = [0.0]
    f = jax.custom_jvp(lambda x, a: step(box[0], x, a))
    f.defjvp(lambda at, dot: (f(*at), jax.jvp(lambda x, a: step(box[0], x, a), at, dot)[1]))
    return lambda x, a: f(x, a), lambda v: operator.setitem(box, 0, v)


@way
def a_nested_solve():
    box = [0.0]

    def F(x, a):
        return a * ix.fixed_point(lambda y: 0.5 * y + 0.2 * box[0] * jnp.cos(x), 0.1, solver=ix.Newton(), rtol=1e-13).x

    return F, lambda v: operator.setitem(box, 0, v)


@way
def a_linear_solve():
    box = [0.0]

    def F(x, a):
        operator_ = lx.MatrixLinearOperator(jnp.eye(1) / box[0])
        return lx.linear_solve(operator_, step(1.0, x, a)[None]).value[0]

    return F, lambda v: operator.setitem(box, 0, v)


@pytest.mark.filterwarnings("ignore:.*compiled anew in each call")
@pytest.mark.parametrize("name", WAYS)
def test_what_python_reads_is_what_is_there(name):
    F, put = WAYS[name]()
    solve = lambda a: ix.fixed_point(F, jnp.asarray(0.5), a).x
    gradient = jax.jacrev(solve)
    for v in VALUES:
        put(v)
        x, slope = answer(v, 0.9)
        np.testing.assert_allclose(solve(0.9), x, rtol=1e-9)
        np.testing.assert_allclose(gradient(0.9), slope, rtol=1e-8)


# What cannot hold a tracer.
NUMBERS = (
    *("a_numpy_array_in_place", "an_environment_variable", "a_file", "the_code_of_f", "a_branch_of_python"),
    *("the_length_of_a_loop", "a_static_field_changed_in_place"),
)


@pytest.mark.filterwarnings("ignore:.*compiled anew in each call")
@pytest.mark.parametrize("name", [name for name in WAYS if name not in NUMBERS and "custom" not in name])
def test_what_is_differentiated_may_be_there_too(name):
    F, put = WAYS[name]()

    def solve(v):
        put(v)
        return ix.fixed_point(F, jnp.asarray(0.5), 0.9).x

    for v in VALUES[:2]:
        slope = answer(v, 0.9)[1] * 0.9 / v  # v and a are in F as their product
        np.testing.assert_allclose(jax.grad(solve)(v), slope, rtol=1e-8)
        np.testing.assert_allclose(jax.jacfwd(solve)(v), slope, rtol=1e-8)


def test_a_rule_that_reads_an_array_which_changes():
    """Nothing of it is in the value of F."""
    box = [jnp.asarray(1.0)]
    f = jax.custom_jvp(lambda x, a: 0.5 * jnp.cos(x) * a)
    f.defjvp(lambda at, dot: (f(*at), dot[1] * box[0]))
    for scale in (1.0, 3.0, 2.0):
        box[0] = jnp.asarray(scale)
        slope = jax.grad(lambda a: ix.fixed_point(lambda x, a: f(x, a), 0.5, a, solver=ix.Picard()).x)(1.0)
        assert float(slope) == pytest.approx(scale)


def test_configurations_that_come_and_go():
    """An object that was there may have its place in memory, and its `id`, from one that is gone."""
    F = lambda x, c: step(c.v, x, 1.0)
    for make in (types.SimpleNamespace, dataclasses.make_dataclass("Config", ["v"]), lambda v: type("C", (), {"v": v})):
        for v in np.linspace(0.5, 1.8, 15):
            np.testing.assert_allclose(ix.fixed_point(F, jnp.asarray(0.5), make(v=v)).x, answer(v, 1.0)[0], rtol=1e-9)


# Found again. (What a call compiles goes through `jax.jit` once.)


@pytest.fixture
def compiled(monkeypatch):
    found = []
    monkeypatch.setattr(jax, "jit", lambda f, jit=jax.jit, **k: found.append(f) or jit(f, **k))
    return found


def _callback(x, a):
    return jax.pure_callback(lambda x, a: 0.4 * np.cos(x) * a, jax.ShapeDtypeStruct(x.shape, x.dtype), x, a)


class Net(eqx.Module):
    layer: eqx.nn.MLP

    def __call__(self, x, a):
        return 0.3 * jnp.tanh(self.layer(x) * a)


NET = Net(eqx.nn.MLP(2, 2, 4, 1, activation=jax.nn.softplus, key=jax.random.key(0)))


def closing_over(w, F):
    return lambda x, a: F(x, a, w)


HITS = {
    "a number": lambda v: lambda x, a: v * 0.4 * a * jnp.cos(x),
    "an array": lambda v: closing_over(jnp.full(2, v), lambda x, a, w: w * 0.4 * a * jnp.cos(x)),
    "a NumPy array": lambda v: closing_over(np.full(2, v), lambda x, a, w: w * 0.4 * a * jnp.cos(x)),
    "a random key": lambda v: closing_over(
        jax.random.key(int(10 * v)), lambda x, a, k: a * 0.1 * jax.random.normal(k, (2,)) * x + 0.1
    ),
    "relu": lambda v: lambda x, a: 0.4 * jax.nn.relu(x + v) * a,
    "softplus": lambda v: lambda x, a: 0.4 * jax.nn.softplus(x - v) * a,
    "logsumexp": lambda v: lambda x, a: 0.2 * jax.nn.logsumexp(jnp.stack([x, a * x + v]), axis=0),
    "a layer": lambda v: lambda x, a: v * NET(x, a),
    "a callback": lambda v: lambda x, a: v * _callback(x, a),
    "a scan": lambda v: lambda x, a: v * jax.lax.scan(lambda c, _: (0.5 * jnp.cos(c) * a, None), x, length=3)[0],
    "a scan with the number in its body": lambda v: (
        lambda x, a: jax.lax.scan(lambda c, _: (v * jnp.cos(c) * a, None), x, length=3)[0]
    ),
    "a branch with numbers in it": lambda v: (
        lambda x, a: jax.lax.cond(x[0] > 9 * v, lambda x: v * jnp.sin(x), lambda x: v * 0.4 * jnp.cos(x) * a + v, x)
    ),
    "a loop with numbers in it": lambda v: (
        lambda x, a: jax.lax.while_loop(lambda c: c[1] < 3 * v, lambda c: (v * jnp.cos(c[0]) * a, c[1] + v), (x, 0.0))[
            0
        ]
    ),
    "a branch": lambda v: lambda x, a: v * jax.lax.cond(a > 0, lambda x: 0.4 * jnp.cos(x), lambda x: 0.1 * x, x),
    "a while loop": lambda v: (
        lambda x, a: (
            v * jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (0.5 * jnp.cos(c[0]) * a, c[1] + 1), (x, 0))[0]
        )
    ),
    "a loop of Equinox": lambda v: (
        lambda x, a: (
            v
            * eqx.internal.while_loop(
                lambda c: c[1] < 3,
                lambda c: (0.5 * jnp.cos(c[0]) * a, c[1] + 1),
                (x, 0),
                max_steps=8,
                kind="checkpointed",
            )[0]
        )
    ),
    "a linear solve": lambda v: (
        lambda x, a: v * lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(2) * 3.0), a * jnp.cos(x)).value
    ),
    "a nested solve": lambda v: lambda x, a: v * 0.3 * ix.fixed_point(lambda y: 0.5 * jnp.cos(y) + 0.1 * a * x, x).x,
    "a nested gradient": lambda v: (
        lambda x, a: (
            v * 0.3 * jax.grad(lambda a: ix.fixed_point(lambda y: 0.5 * jnp.cos(a * y), 0.5).x)(0.8) * a * jnp.cos(x)
        )
    ),
    "error_if": lambda v: lambda x, a: v * 0.4 * a * jnp.cos(eqx.error_if(x, x[0] > 1e9, "large")),
}


@pytest.mark.parametrize("name", HITS)
def test_a_function_made_anew_is_found_again(name, compiled):
    make = HITS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [ix.fixed_point(make(0.5), jnp.full(2, 0.3), 0.9).x]
        first = len(compiled)
        for v in (0.6, 0.7, 0.5):
            values.append(ix.fixed_point(make(v), jnp.full(2, 0.3), 0.9).x)
    assert len(compiled) == first
    np.testing.assert_array_equal(values[0], values[-1])
    for v, x in zip((0.5, 0.6), values):  # as inside `jit`, where the numbers stay where they are
        inside = jax.jit(lambda v=v: ix.fixed_point(make(v), jnp.full(2, 0.3), 0.9, throw=False).x)
        np.testing.assert_allclose(x, inside(), rtol=1e-9 if x.dtype == np.float64 else 1e-5)
    assert not np.allclose(values[0], values[1])


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: lambda x: 0.4 * jax.pure_callback(Anew(), jax.ShapeDtypeStruct(x.shape, x.dtype), x), "made anew"),
        (lambda: lambda x: 0.4 * jax.jit(lambda x: jax.pure_callback(Anew(), x, x))(x), "made anew"),
    ],
)
def test_what_cannot_be_found_again_is_said_once_and_right(make, what):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(12):
            assert float(ix.fixed_point(make(), 0.3, solver=ix.Picard()).x) == pytest.approx(0.3725595, abs=1e-6)
    texts = [str(warning.message) for warning in caught if "compiled anew" in str(warning.message)]
    assert len(texts) <= 1
    assert all(what in text and "Wrap F" in text for text in texts)


class Anew:
    """A callback that is equal to nothing else."""

    def __call__(self, x):
        return np.cos(x)


def test_ten_thousand_closures_leave_nothing():
    from implicitax._problem import trace

    ix.fixed_point(lambda x: 0.1 * jnp.cos(x), jnp.ones(2))
    gc.collect()
    kept, objects = len(trace._CACHE), len(gc.get_objects())
    for v in range(2000):
        ix.fixed_point(lambda x, v=v: 1e-5 * v * jnp.cos(x), jnp.ones(2))
    gc.collect()
    assert len(trace._CACHE) == kept
    assert len(gc.get_objects()) < objects + 2000


def test_no_tracer_is_kept():
    with jax.checking_leaks():
        for F in (lambda x, a: jnp.cos(a * x), lambda x, a: 0.4 * jax.nn.relu(a * x) + 0.1):
            jax.jit(lambda a, F=F: ix.fixed_point(lambda x: F(x, a), 0.5, throw=False).x)(0.9)
            jax.grad(lambda a, F=F: ix.fixed_point(lambda x: F(x, a), 0.5, throw=False).x)(0.9)


def test_a_setting_of_jax_for_random_numbers():
    key = jax.random.key(3)
    F = lambda x: 0.3 * jnp.cos(x) + jax.random.uniform(key, (2,))
    for partitionable in (True, False, True):
        with jax.threefry_partitionable(partitionable):
            x = ix.fixed_point(F, jnp.zeros(2)).x
            np.testing.assert_allclose(x, F(x), rtol=1e-9)


def test_a_program_from_the_persistent_cache(tmp_path):
    """With `throw=False` there is no callback in it; the second process takes it from there."""
    script = f"""
import jax, jax.numpy as jnp, implicitax as ix
jax.config.update("jax_compilation_cache_dir", {str(tmp_path)!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
solve = lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), 0.5, throw=False).x
print(jax.jit(solve)(0.9), jax.jit(jax.grad(solve))(0.9), jax.grad(solve)(0.9))
print(sum("cache_hits" in hit for hit in hits), sum("cache_misses" in hit for hit in hits))
"""
    first, second = (subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    (values, counts), (again, more) = first.stdout.splitlines(), second.stdout.splitlines()
    assert values == again
    assert int(more.split()[0]) > int(counts.split()[0])
    assert int(more.split()[1]) == 0
