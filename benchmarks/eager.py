"""What a call costs outside `jit`, the first and then: python benchmarks/eager.py

Measured on 2026-11-27, 2 cores (x86-64), JAX 0.10.2, float64, the first call in milliseconds, then in microseconds; and
before F was traced in each call, when a call found its program by what F might read (commit 90a6ddf):

| | first, ms | then, µs | before: first, ms | then, µs |
|---|---|---|---|---|
| value | 1,077 | 1,470 | 981 | 218 |
| jacrev | 703 | 5,731 | 1,516 | 3,344 |
| jacfwd | 537 | 4,032 | 1,242 | 1,478 |
| grad | 400 | 4,241 | 483 | 2,064 |
| hessian | 1,319 | 10,868 | 2,162 | 7,152 |
| vmap, 50 lanes | 1,778 | 2,721 | 2,004 | 32,223 |
| vmap of grad | 612 | 6,135 | 2,044 | 36,260 |
| root | 1,729 | 1,446 | 1,804 | 249 |
| jacrev of a root | 375 | 5,422 | 2,239 | 4,643 |
| a lambda made anew | 2 | 1,383 | 1,001 | 1,017,987 |

Most of what a value takes now is JAX tracing F: 0.9 ms for its 17 operations. A derivative finds the program of the
value there already, so the first comes sooner; under `vmap` no check is compiled in each call any more.

And what people put into F, made anew in each call with another number in it: the first call, and the tenth.

| in F | first, ms | tenth, ms |
|---|---|---|
| a number | 985 | 1.4 |
| an array | 989 | 1.1 |
| relu | 887 | 1.3 |
| a network of Equinox | 1,332 | 3.7 |
| lax.scan | 1,370 | 2.1 |
| lax.scan, the number in its body | 1,311 | 1.7 |
| lax.cond | 1,492 | 1.7 |
| a loop of Equinox | 2,358 | 83.8 |
| lineax.linear_solve | 1,672 | 1.8 |
| a solve of implicitax | 3,256 | 2.3 |
| pure_callback | 1,158 | 3.3 |

The loop of Equinox has a derivative of its own, of which two orders are traced in each call to see whether it is the
same; inside `jax.jit` it is not.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import implicitax as ix

REPEATS = 101


def F(x, p):
    alpha, beta = p
    first = jnp.sqrt(alpha - x[0] * x[1])
    return jnp.stack([first, jnp.sqrt((57 - x[1]) / (beta * first))])


def inner_loop(v):
    step = lambda c: (0.5 * jnp.cos(c[0]), c[1] + 1)
    return lambda x: v * eqx.internal.while_loop(lambda c: c[1] < 3, step, (x, 0), max_steps=8, kind="checkpointed")[0]


NET = eqx.nn.MLP(2, 2, 8, 2, activation=jax.nn.relu, key=jax.random.key(0))
INSIDE = {
    "a number": lambda v: lambda x: v * jnp.cos(x),
    "an array": lambda v: (lambda w: lambda x: w * jnp.cos(x))(jnp.full(2, v)),
    "relu": lambda v: lambda x: 0.3 * jax.nn.relu(x + v),
    "a network of Equinox": lambda v: lambda x: v * jnp.tanh(NET(x)),
    "lax.scan": lambda v: lambda x: v * jax.lax.scan(lambda c, _: (jnp.cos(c), None), x, length=3)[0],
    "lax.scan, the number in its body": lambda v: (
        lambda x: jax.lax.scan(lambda c, _: (v * c, None), x, length=3)[0] + 1
    ),
    "lax.cond": lambda v: lambda x: v * jax.lax.cond(x[0] > 0, jnp.cos, jnp.sin, x),
    "a loop of Equinox": inner_loop,
    "lineax.linear_solve": lambda v: (
        lambda x: v * lx.linear_solve(lx.MatrixLinearOperator(2 * jnp.eye(2)), jnp.cos(x)).value
    ),
    "a solve of implicitax": lambda v: lambda x: v * ix.fixed_point(lambda y: 0.5 * jnp.cos(y) + 0.1 * x, x).x,
    "pure_callback": lambda v: lambda x: v * jax.pure_callback(np.cos, x, x),
}


def main():
    jax.config.update("jax_enable_x64", True)
    x0, p = jnp.array([1.5, 3.5]), (10.0, 3.0)
    lanes = jnp.linspace(9, 11, 50), jnp.linspace(2.9, 3.1, 50)
    solve, root = (lambda p: ix.fixed_point(F, x0, p).x), (lambda p: ix.root(lambda x, p: F(x, p) - x, x0, p).x)
    component = lambda p: solve(p)[0]
    calls = {
        "value": lambda: solve(p),
        "jacrev": lambda: jax.jacrev(solve)(p),
        "jacfwd": lambda: jax.jacfwd(solve)(p),
        "grad": lambda: jax.grad(component)(p),
        "hessian": lambda: jax.hessian(component)(p),
        "vmap, 50 lanes": lambda: jax.vmap(solve)(lanes),
        "vmap of grad": lambda: jax.vmap(jax.grad(component))(lanes),
        "root": lambda: root(p),
        "jacrev of a root": lambda: jax.jacrev(root)(p),
        "a lambda made anew": lambda: ix.fixed_point(lambda x, p: F(x, p), x0, p).x,
    }
    print("| | first, ms | then, µs |\n|---|---|---|")
    for name, call in calls.items():
        first, *others = (seconds(call) for _ in range(REPEATS))
        print(f"| {name} | {first * 1e3:,.0f} | {np.median(others) * 1e6:,.0f} |", flush=True)
    print("\n| in F | first, ms | tenth, ms |\n|---|---|---|")
    for name, make in INSIDE.items():
        times = [seconds(lambda v=v, make=make: ix.fixed_point(make(v), 0.3 * jnp.ones(2)).x) for v in VALUES]
        print(f"| {name} | {times[0] * 1e3:,.0f} | {times[-1] * 1e3:,.1f} |", flush=True)


VALUES = np.linspace(0.2, 0.6, 10).tolist()


def seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
