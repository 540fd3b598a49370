"""Two processes with one device each, by `jax.distributed` on this machine: values, gradients, and what fails."""

import os
import socket
import subprocess
import sys

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import implicitax as ix

assert (jax.device_count(), jax.local_device_count()) == (2, 1)
mesh = Mesh(np.array(jax.devices()), ("d",))
split = NamedSharding(mesh, P("d"))
put = lambda v: jax.make_array_from_callback(v.shape, split, lambda index: v[index])
mine = lambda v: np.concatenate([np.asarray(shard.data) for shard in v.addressable_shards])

a = np.linspace(1.0, 9.0, 10)
bad = np.where(np.arange(10) == 7, -1.0, a)
exact, slope = np.sqrt(mine(put(a))), 1 / (2 * np.sqrt(mine(put(a))))
F = lambda x, a, s: 0.5 * (x + jnp.where(a > 0, s * a, jnp.nan) / x)
x = lambda a, s=1.0: ix.sweep(F, 2.0, a, s, in_axes=(None, None, 0, None), mesh=mesh).x
total = lambda a, s: jnp.sum(x(a, s))

np.testing.assert_allclose(mine(x(put(a))), exact, rtol=1e-10)
np.testing.assert_allclose(mine(jax.jit(x)(put(a))), exact, rtol=1e-10)
by_a, by_s = jax.jit(jax.grad(total, argnums=(0, 1)))(put(a), 1.0)
np.testing.assert_allclose(mine(by_a), slope, rtol=1e-8)
np.testing.assert_allclose(by_s, np.sum(np.sqrt(a)) / 2, rtol=1e-8)

# A failure on one of them is one on both, with its index among all.
for call in (x, jax.jit(x), jax.jit(lambda a: total(a, 1.0)), jax.jit(jax.grad(lambda a: total(a, 1.0)))):
    try:
        jax.block_until_ready(call(put(bad)))
    except (ix.ConvergenceError, jax.errors.JaxRuntimeError, ValueError) as error:  # JAX's own, wherever it is noticed
        assert "1 of 10 solves failed, at index 7." in str(error), error
    else:
        raise AssertionError

# Without the sweep: `throw=False`.
alone = jax.vmap(lambda a: ix.root(lambda x: x**2 - a, 2.0, throw=False).x)
np.testing.assert_allclose(mine(jax.jit(alone)(put(a))), exact, rtol=1e-10)
print("both")
"""


def test_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": "4"}
    start = lambda i: subprocess.Popen(
        [sys.executable, "-c", PROGRAM, address, str(i)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    both = [start(i) for i in range(2)]
    try:
        ended = [process.communicate(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()
    for out, errors in ended:
        assert out.endswith("both\n"), errors[-3000:]
