"""What `constraint=` costs: `python benchmarks/constraint.py`.

A Markov chain of n states with k times n parameters, x ← x P(θ), of which the sum stays; value, and gradient of one
number by all parameters, compiled, alone and under `vmap`. Beside it what one writes by hand: the root of the same
equations with the sum in the place of the last one (`ix.root`, Newton), and the derivative of the iteration itself,
as many steps as plain iteration takes. In one process, interleaved, medians; the errors are those of the gradient,
against the root at a tolerance of 0.

Measured on 2026-11-27, 2 cores (x86-64), JAX 0.10.2, in microseconds:

|                    | value | without | by hand | gradient | by hand | unrolled | error |
|--------------------|-------|---------|---------|----------|---------|----------|-------|
| n = 3              | 15    | 28      | 16      | 21       | 19      | 10       | 4e-16 |
| n = 3, 1000 chains | 374   | 3,308   | 992     | 930      | 1,700   | 842      | 1e-15 |
| n = 10             | 47    | 37      | 140     | 157      | 153     | 65       | 2e-11 |
| n = 30             | 50    | 40      | 196     | 138      | 225     | 79       | 1e-11 |
| n = 100            | 75    | 66      | 467     | 433      | 640     | 176      | 5e-12 |
| n = 300            | 375   | 327     | 5,249   | 1,672    | 9,141   | 1,344    | 1e-11 |

Without it, Newton's steps of the first attempt (n = 3) meet a singular A. The chains forget within 9 to 22 steps, which
is when the derivative of the iteration itself is cheap.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix
from interleaved import medians

REPEATS = 51


def F(x, theta):
    return x @ jax.nn.softmax(theta, axis=1)


def total(x, theta):
    return x.sum() - 1


def by_constraint(theta):
    return ix.fixed_point(F, guess(theta), theta, constraint=total).x


def without(theta):
    return ix.fixed_point(F, guess(theta), theta).x


def by_hand(theta, **keywords):
    replaced = lambda x, theta: (F(x, theta) - x).at[-1].set(total(x, theta))
    return ix.root(replaced, guess(theta), theta, solver=ix.Newton(), **keywords).x


def unrolled(steps):
    return lambda theta: jax.lax.scan(lambda x, _: (F(x, theta), None), guess(theta), length=steps)[0]


def guess(theta):
    return jnp.full(len(theta), 1 / len(theta))


def main():
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    print("| | value | without | by hand | gradient | by hand | unrolled | error |")
    print("|---|---|---|---|---|---|---|---|")
    for n, lanes in ((3, 1), (3, 1000), (10, 1), (30, 1), (100, 1), (300, 1)):
        theta = jnp.asarray(rng.normal(size=(n, n) if lanes == 1 else (lanes, n, n)))
        one = theta if lanes == 1 else theta[0]
        steps = int(ix.fixed_point(F, guess(one), one, solver=ix.Picard()).nit)
        first = lambda solve: jax.grad(lambda given: solve(given)[0])
        every = jax.jit if lanes == 1 else lambda f: jax.jit(jax.vmap(f))
        values = [every(f) for f in (by_constraint, without, by_hand)]
        slopes = [every(first(f)) for f in (by_constraint, by_hand, unrolled(steps))]
        exact = every(first(lambda theta: by_hand(theta, rtol=1e-14, atol=0.0)))(theta)
        times = functools.partial(medians, repeats=REPEATS)
        error = float(jnp.max(jnp.abs(slopes[0](theta) - exact)) / jnp.max(jnp.abs(exact)))
        figures = " | ".join(f"{each:,.0f}" for each in (*times(values, theta), *times(slopes, theta)))
        print(f"| n = {n}{f', {lanes} chains' if lanes > 1 else ''} | {figures} | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
