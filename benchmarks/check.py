"""What it costs that a derivative finds out whether A is nearly singular: `python benchmarks/check.py`.

Gradient of one number by two parameters, and what the solve alone takes, with `Implicit()` and with
`Implicit(check=False)`: small LU alone and for 1000 problems under `vmap`, LAPACK, and a Krylov method. In one process,
interleaved, medians.

Measured on 2026-11-27, 2 cores (x86-64), JAX 0.10.2, in microseconds:

|                   | solve | gradient without | with  | ratio |
|-------------------|-------|------------------|-------|-------|
| n = 2             | 16    | 19               | 20    | 1.05  |
| n = 2, 1000 lanes | 222   | 249              | 256   | 1.03  |
| n = 20, LAPACK    | 35    | 47               | 52    | 1.10  |
| n = 100, LAPACK   | 83    | 216              | 268   | 1.24  |
| n = 5000, Krylov  | 602   | 1,263            | 2,291 | 1.81  |
"""

import jax
import jax.numpy as jnp

import implicitax as ix
from interleaved import medians

REPEATS = 101


def small(x, a, b):
    F0 = jnp.sqrt(a - x[0] * x[1])
    return jnp.stack([F0, jnp.sqrt((57 - x[1]) / (b * F0))])


def chain(x, a, b):
    return 0.45 * jnp.tanh(jnp.roll(x, 1) * a) + 0.45 * jnp.roll(x, -1) + b


def gradient(F, x0, check):
    adjoint = ix.Implicit(check=check)
    return jax.grad(lambda a, b: jnp.sum(ix.fixed_point(F, x0, a, b, adjoint=adjoint).x), argnums=(0, 1))


def main():
    jax.config.update("jax_enable_x64", True)
    print("| | solve | gradient without | with | ratio |")
    print("|---|---|---|---|---|")
    lanes = jnp.linspace(9.5, 10.5, 1000)
    for name, F, x0, a, b in (
        ("n = 2", small, jnp.array([1.5, 3.5]), 10.0, 3.0),
        ("n = 2, 1000 lanes", small, jnp.array([1.5, 3.5]), lanes, jnp.full(1000, 3.0)),
        ("n = 20, LAPACK", chain, jnp.ones(20), 1.0, 0.3),
        ("n = 100, LAPACK", chain, jnp.ones(100), 1.0, 0.3),
        ("n = 5000, Krylov", chain, jnp.ones(5000), 1.0, 0.3),
    ):
        every = jax.vmap if jnp.ndim(a) else lambda f: f
        solve = lambda a, b, F=F, x0=x0: ix.fixed_point(F, x0, a, b).x
        programs = [jax.jit(every(f)) for f in (solve, gradient(F, x0, False), gradient(F, x0, True))]
        alone, without, with_ = medians(programs, a, b, repeats=REPEATS)
        print(f"| {name} | {alone:,.0f} | {without:,.0f} | {with_:,.0f} | {with_ / without:.2f} |", flush=True)


if __name__ == "__main__":
    main()
