"""Each work-around of `_xla.py` is still needed. Where a test fails here, its reason is gone: take the work-around out.

What is looked at is the program that XLA makes on CPU, by its default flags: never a time.
"""

import itertools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from implicitax import _xla

# In a process of its own, since the flags of the tests, and the number of devices, are read where JAX starts.
SCRIPT = r"""
import re, sys
import jax, jax.numpy as jnp
from implicitax import _xla
jax.config.update("jax_enable_x64", True)

def program(f, *args):
    return jax.jit(f).lower(*args).compile().as_text()

def count(text, operation):
    return len(re.findall(rf" {operation}\(", text))

x = jnp.arange(1.0, 5.0)
folded = program(lambda x: _xla.fold(jnp.maximum, x, jnp.max), x)
print("reduce", count(program(jnp.max, x), "reduce"), count(folded, "reduce"))

# A flag that depends on a costly expression, used in kernels that do not fuse: a loop, a sort, a product.
def used(flag, x):
    return jnp.where(flag, x, 1.0), jnp.sort(jnp.where(flag, x, 2.0)), jnp.outer(x, x) @ jnp.where(flag, x, 3.0)

def expression(x):
    for _ in range(6):
        x = x * x[::-1] - x * 0.3 + 0.1
    return x[0] + x[1] * x[2] - x[3] < 1.0

bare, once = program(lambda x: used(expression(x), x), x), program(lambda x: used(_xla.once(expression(x)), x), x)
print("once", count(bare, "subtract"), count(once, "subtract"))

conditions = [x[0] > i for i in range(3)]
print("select", count(program(lambda x: jnp.select([x[0] > 1, x[1] > 1], [x, x + 1], x), x), "reduce"),
      count(program(lambda x: _xla.select([x[0] > 1, x[1] > 1], [x, x + 1], x), x), "reduce"))

def newton(wrap):
    F = lambda x: jnp.sin(x[0] * x[1]) + jnp.stack([x[1], x[0]])
    def body(x):
        r, J = wrap(lambda x: (F(x), jax.jacfwd(F)(x)), x)
        d = jnp.linalg.solve(J, r)
        return jnp.where(jnp.max(jnp.abs(r)) < 1.0, x - d, jnp.where(r[0] > 0, x - 0.5 * d, x - r))
    return lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) > 0, body, x)

nothing = (x[:2], jnp.zeros((2, 2)))
bare = program(newton(lambda f, x: f(x)), x[:2])
behind = program(newton(lambda f, x: _xla.evaluated_once(x[0] > -9.0, f, nothing, x)), x[:2])
print("evaluated_once", count(bare, "sine") + count(bare, "cosine"), count(behind, "sine") + count(behind, "cosine"))
"""


@pytest.fixture(scope="module")
def operations():
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return {name: (int(bare), int(ours)) for name, bare, ours in re.findall(r"^(\w+) (\d+) (\d+)$", done.stdout, re.M)}


@pytest.mark.parametrize("name", ["reduce", "once", "select", "evaluated_once"])
def test_xla_would_make_more_of_it(operations, name):
    """How often an operation stands in the program: a reduction (of four entries, of `jnp.select`), a subtraction of an
    expression that several kernels need, a sine of an F whose value and Jacobian a loop uses."""
    bare, ours = operations[name]
    assert ours < bare


def test_the_largest_of_a_long_array_is_not_nan():
    a = np.ones(10_000)
    a[77] = np.nan
    a = jnp.asarray(a)
    assert float(jax.jit(jnp.max)(a)) == 1.0  # XLA on CPU
    assert np.isnan(jax.jit(_xla.max_abs)(a))
    assert float(jax.jit(_xla.largest)(a)) == np.inf


@pytest.mark.parametrize("choose", [_xla.if_any, _xla.if_all])
def test_a_branch_under_vmap_is_taken_by_all_lanes(choose):
    flags, x = jnp.array([True, False]), jnp.ones(2)
    both = jax.make_jaxpr(jax.vmap(lambda p, x: jax.lax.cond(p, jnp.sin, lambda x: x, x)))(flags, x)
    one = jax.make_jaxpr(jax.vmap(lambda p, x: choose(p, jnp.sin, lambda x: x, x)))(flags, x)
    primitives = lambda jaxpr: {eqn.primitive.name for eqn in jaxpr.eqns}
    assert "cond" not in primitives(both)
    assert "cond" in primitives(one)
    assert float(_xla.largest_of_lanes(x[0])) == 1.0


def on_one_device(f):
    """f inside `shard_map`, where JAX tells what differs from device to device by its type."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    along = jax.sharding.PartitionSpec("d")
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=along, out_specs=along))


def test_a_loop_in_shard_map_wants_its_start_typed():
    def count(a, start):
        return jax.lax.while_loop(lambda n: n[0] < a[0], lambda n: n + a / a, start)

    a = jnp.full(1, 3.0)
    with pytest.raises(TypeError, match="carry"):
        on_one_device(lambda a: count(a, jnp.zeros(1)))(a)
    assert float(on_one_device(lambda a: count(a, _xla.varying(jnp.zeros(1), (a,))))(a)[0]) == 3.0
    assert not _xla.named_axes()


def test_false_in_shard_map_wants_to_be_typed():
    def first_only(a, no):
        body = lambda carry: (carry[0] + jnp.where(carry[1], 10.0, 1.0) * a / a, no(carry[1]))
        return jax.lax.while_loop(lambda carry: carry[0][0] < a[0], body, (0 * a, a[0] > 0))[0]

    a = jnp.full(1, 12.0)
    with pytest.raises(TypeError, match="carry"):
        on_one_device(lambda a: first_only(a, lambda flag: jnp.zeros((), bool)))(a)
    assert float(on_one_device(lambda a: first_only(a, _xla.false_like))(a)[0]) == 12.0


def test_linked_leaves_have_lanes_if_one_has():
    """So a primitive under `vmap` sees all of its operands with an axis of lanes, or none."""
    f = lambda x, y: _xla.linked({"x": x, "y": y}, (x,))
    alone = jax.vmap(lambda x, y: {"x": x, "y": y}, in_axes=(0, None), out_axes={"x": 0, "y": None})
    assert alone(jnp.ones(3), jnp.ones(2))["y"].shape == (2,)
    with pytest.raises(ValueError, match="out_axes"):
        jax.vmap(f, in_axes=(0, None), out_axes={"x": 0, "y": None})(jnp.ones(3), jnp.ones(2))
    assert jax.vmap(f, in_axes=(0, None))(jnp.ones(3), jnp.ones(2))["y"].shape == (3, 2)


def test_a_custom_rule_is_forgotten_in_a_scan():
    """So the rule of the derivative is made of primitives: by `jax.custom_jvp` this second derivative is silently 0."""

    @jax.custom_jvp
    def sine(x):
        return jnp.sin(jax.lax.stop_gradient(x))

    @sine.defjvp
    def sine_jvp(primals, tangents):
        y = sine(*primals)
        return y, jnp.sqrt(1 - y**2) * tangents[0]

    of = lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, length=1)[0]
    assert float(jax.grad(jax.grad(sine))(0.4)) == pytest.approx(-np.sin(0.4))
    assert float(jax.grad(jax.grad(of(sine)))(0.4)) == 0.0

    # y − sin(x) = 0, by the rule of `_rule/implicit.py`.
    solved = lambda x: ix.root(lambda y, x: y - jnp.sin(x), 0.1, x).x
    assert float(jax.grad(jax.grad(of(solved)))(0.4)) == pytest.approx(-np.sin(0.4))


def test_where_is_no_call():
    a = jnp.arange(3.0)
    assert "jit" in str(jax.make_jaxpr(jnp.where)(True, a, a))
    assert "jit" not in str(jax.make_jaxpr(_xla.where)(True, a, a))


@pytest.mark.parametrize("condition", [True, np.array([True, False, True]), np.array([[True], [False]])])
def test_where_is_that_of_jax(condition):
    some = 1, 2.5, np.float32(1.5), np.arange(3, dtype=np.int32), np.ones((2, 1))
    others = 0, jnp.inf, np.int32(3), np.arange(3, dtype=np.float32), np.ones((), np.float64)
    for a, b in itertools.product(some, others):
        got, want = _xla.where(condition, a, b), jnp.where(condition, a, b)
        np.testing.assert_array_equal(got, want)
        assert jax.typeof(got) == jax.typeof(want)
