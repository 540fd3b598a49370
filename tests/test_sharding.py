"""Sharded arrays and `shard_map` on eight simulated devices, in a process of its own: the flag is read at its start."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
jax.config.update("jax_enable_x64", True)
import implicitax as ix

devices = np.array(jax.devices())
assert devices.size == 8
mesh = Mesh(devices, ("d",))
rng = np.random.default_rng(0)

# Many independent problems, split over the devices: no device waits for another's iterations.
def one(a):
    return ix.fixed_point(lambda x: jnp.stack([jnp.cos(a * x[1]), jnp.sin(x[0]) / 2]), jnp.ones(2), throw=False).x

a = jnp.asarray(rng.uniform(0.5, 1.0, 64))
expected = jax.vmap(one)(a)
sharded = jax.jit(jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=P("d"), out_specs=P("d")))
np.testing.assert_allclose(sharded(a), expected, atol=1e-12)
gradient = jax.grad(lambda a: jnp.sum(sharded(a) ** 2))(a)
np.testing.assert_allclose(gradient, jax.grad(lambda a: jnp.sum(jax.vmap(one)(a) ** 2))(a), atol=1e-10)

# The gradient taken inside, after the same F was solved and differentiated outside.
loss = lambda a: jnp.sum(jax.vmap(one)(a) ** 2)
inside = jax.jit(jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=P("d"), out_specs=P("d")))
np.testing.assert_allclose(inside(a), jax.grad(loss)(a), atol=1e-10)

# The same with more unknowns, on LAPACK.
W = jnp.asarray(rng.normal(size=(20, 20)) / 10)
def many(a):
    # W is the same on every device: as an argument, for JAX's `custom_linear_solve` cannot mix such arrays with others.
    return ix.fixed_point(lambda x, W, a: jnp.tanh(W @ x + a), jnp.ones(20), W, a, throw=False).x

b = jnp.asarray(rng.normal(size=16))
split = jax.jit(jax.shard_map(jax.vmap(many), mesh=mesh, in_specs=P("d"), out_specs=P("d")))
np.testing.assert_allclose(
    jax.grad(lambda b: jnp.sum(split(b) ** 2))(b), jax.grad(lambda b: jnp.sum(jax.vmap(many)(b) ** 2))(b), atol=1e-9
)

# Closed over, it needs check_vma=False.
def closing(a):
    return ix.fixed_point(lambda x: jnp.tanh(W @ x + a), jnp.ones(20), throw=False).x

unchecked = jax.jit(
    jax.shard_map(jax.vmap(closing), mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
)
np.testing.assert_allclose(
    jax.grad(lambda b: jnp.sum(unchecked(b) ** 2))(b), jax.grad(lambda b: jnp.sum(split(b) ** 2))(b), atol=1e-9
)

# One large state, sharded; its dot products are reduced by XLA.
n = 4096
shift = jnp.asarray(rng.normal(size=n))
x0 = jax.device_put(jnp.zeros(n), NamedSharding(mesh, P("d")))
shift_sharded = jax.device_put(shift, NamedSharding(mesh, P("d")))

def F(x, shift, theta):
    return jnp.tanh(theta * jnp.roll(x, 1) + shift)

def loss(x0, shift, theta):
    return jnp.sum(ix.fixed_point(F, x0, shift, theta).x ** 2)

x = jax.jit(lambda x0, s: ix.fixed_point(F, x0, s, 0.7, throw=False).x)(x0, shift_sharded)
assert len(x.sharding.device_set) == 8
np.testing.assert_allclose(x, ix.fixed_point(F, jnp.zeros(n), shift, 0.7).x, atol=1e-9)
for wrap in (lambda f: f, jax.jit):
    g = wrap(jax.grad(loss, argnums=(1, 2)))(x0, shift_sharded, 0.7)
    e = jax.grad(loss, argnums=(1, 2))(jnp.zeros(n), shift, 0.7)
    np.testing.assert_allclose(g[0], e[0], atol=1e-8)
    np.testing.assert_allclose(g[1], e[1], rtol=1e-8)
print("sharded as one")
"""


@pytest.mark.default_flags
def test_shard_map_and_sharded_arrays():
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "sharded as one" in run.stdout
