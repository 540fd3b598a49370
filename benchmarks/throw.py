"""What `throw=True` costs inside `jit`: `python benchmarks/throw.py`.

The reference system, value and Jacobian by `jacrev`, alone and for 1000 pairs of parameters under `vmap`, compiled,
with the check that raises (a callback behind a branch) and without; in one process, interleaved, medians.

Measured on 2026-11-23, 2 cores (x86-64), JAX 0.10.2, in microseconds, and in seconds to compile:

|               | throw=False | throw=True | ratio | compile, False | True |
|---------------|-------------|------------|-------|----------------|------|
| value         | 25.4        | 26.3       | 1.03  | 0.83           | 0.86 |
| jacrev        | 28.9        | 30.5       | 1.05  | 0.95           | 1.11 |
| value x 1000  | 920         | 907        | 0.99  | 1.12           | 1.22 |
| jacrev x 1000 | 960         | 948        | 0.99  | 1.40           | 1.56 |

A program compiled ahead of time (`lower().compile()`) and called as such pays 45 microseconds a call on top, because
JAX then starts one with callbacks from Python.
"""

import time

import jax
import jax.numpy as jnp

import implicitax as ix
from interleaved import medians

REPEATS = 301


def F(x, alpha, beta):
    F0 = jnp.sqrt(alpha - x[0] * x[1])
    return jnp.stack([F0, jnp.sqrt((57 - x[1]) / (beta * F0))])


def main():
    jax.config.update("jax_enable_x64", True)
    x0, lanes = jnp.array([1.5, 3.5]), jnp.linspace(9.5, 10.5, 1000)
    print("                  throw=False [us]   throw=True [us]   ratio   compile [s]: False  True")
    for name, transform, alpha in (
        ("value", lambda f: f, 10.0),
        ("jacrev", jax.jacrev, 10.0),
        ("value x 1000", jax.vmap, lanes),
        ("jacrev x 1000", lambda f: jax.vmap(jax.jacrev(f)), lanes),
    ):
        programs, compile_time = [], []
        for throw in (False, True):
            solve = lambda a, throw=throw: ix.fixed_point(F, x0, a, 3.0, throw=throw).x
            # Called as a user calls it: JAX starts a program that was compiled ahead of time in a slower way.
            program = jax.jit(transform(solve))
            lowered = program.lower(alpha)
            start = time.perf_counter()
            lowered.compile()
            compile_time.append(time.perf_counter() - start)
            programs.append(program)
        without, with_ = medians(programs, alpha, repeats=REPEATS)
        row = f"{name:16s} {without:14.1f} {with_:18.1f} {with_ / without:10.2f}"
        print(f"{row} {compile_time[0]:17.2f} {compile_time[1]:6.2f}")


if __name__ == "__main__":
    main()
