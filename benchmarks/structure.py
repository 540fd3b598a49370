"""Sparse roots beside a specialist's: `python benchmarks/structure.py --out docs/structure.md [--largest 1000000]`.

Each problem is solved, value and gradient of a weighted mean, by `ix.root` with nothing said about structure, under
`jit`; and by Newton's method with SciPy's SuperLU, with a jitted R, a jitted sparse Jacobian from the same coloured
tangents, and one adjoint solve, with the last factors; on a line also by a Newton's method in JAX with
`tridiagonal_solve`, written by hand, with its adjoint. All stop where Newton's correction is below 3.7e-11 of the
largest |x|. One process, repeats interleaved, medians; accuracy is the largest difference of x between the first two,
relative to the largest |x|.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

import implicitax as ix
from implicitax._linear.assemble import from_tangents
from implicitax._problem.pattern import colour, detect
from interleaved import medians

RTOL, STEPS = 3.7e-11, 50


class Model(NamedTuple):
    R: Callable[..., Any]
    x0: Callable[[int], Any]
    a: float
    largest: int = 10**6  # unknowns that SciPy solves within a minute


def line(u, a):
    h = 1 / (u.size + 1)
    source = 1 + 0.3 * jnp.sin(6 * jnp.linspace(h, 1 - h, u.size))
    return jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) / h**2 + a * jnp.exp(u) * source


def _species(count, u, a):
    """Diffusing and reacting in a cycle, on a line, one after the other in x."""
    v = u.reshape(count, -1)
    spread = jnp.pad(v[:, :-1], ((0, 0), (1, 0)), constant_values=1.0) - 2 * v + jnp.pad(v[:, 1:], ((0, 0), (0, 1)))
    rate = a * v**2 * jnp.roll(v, 1, axis=0)
    source = jnp.linspace(0.0, 0.1, count)[:, None]
    return (3 * spread - rate + jnp.roll(rate, -1, axis=0) - 0.1 * v + source).ravel()


def markets(u, a):
    """Independent ones of 20 goods: excess demand."""
    p = u.reshape(-1, 20)
    weights = jnp.asarray(np.random.default_rng(0).uniform(size=(20, 20)))
    demand = jnp.exp(-a * p) @ weights
    return (p - demand / 10 - jnp.linspace(0.5, 1.0, u.size).reshape(p.shape)).ravel()


def square(u, a):
    """Bratu's problem on a square."""
    m = round(u.size**0.5)
    v = jnp.pad(u.reshape(m, m), 1)
    around = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2]
    return ((around - 4 * v[1:-1, 1:-1]) * (m + 1) ** 2 + a * jnp.exp(v[1:-1, 1:-1])).ravel()


def cube(u, a):
    """The same in a cube."""
    m = round(u.size ** (1 / 3))
    v = u.reshape(m, m, m)
    spread = sum(jnp.diff(jnp.diff(v, axis=k, prepend=0.0, append=0.0), axis=k) for k in range(3))
    return (spread * (m + 1) ** 2 + a * jnp.exp(v)).ravel()


def network(distance, degree, u, a):
    """Flows along edges, of their own resistance, and what each node takes: to nodes at random, or not far away."""
    n, rng = u.size, np.random.default_rng(0)
    start = np.concatenate([np.arange(1, n), rng.integers(1, n, int((degree / 2 - 1) * n))])
    back = rng.integers(1, np.minimum(start, distance or n) + 1)
    end = start - back
    flow = jnp.asarray(rng.uniform(0.5, 2, start.size)) * jnp.arcsinh(u[start] - u[end])
    taken = u + a * u**3 - jnp.sin(jnp.arange(n))
    return taken.at[start].add(flow).at[end].add(-flow)


MODELS = {
    "line": Model(line, jnp.zeros, 1.0),
    "two species": Model(partial(_species, 2), lambda n: jnp.full(n, 0.5), 0.3),
    "five species": Model(partial(_species, 5), lambda n: jnp.full(n, 0.5), 0.3),
    "markets of 20": Model(markets, lambda n: jnp.full(n, 0.5), 0.7),
    "square": Model(square, lambda n: jnp.zeros(round(n**0.5) ** 2), 5.0),
    "cube": Model(cube, lambda n: jnp.zeros(round(n ** (1 / 3)) ** 3), 5.0, 10_000),
    "grid of power": Model(partial(network, 30, 3), jnp.zeros, 0.3),
    "random network": Model(partial(network, None, 3), jnp.zeros, 0.3, 10_000),
}


def _weights(n: int):
    return jnp.linspace(1.0, 2.0, n) / n


def ours(model: Model, n: int):
    @jax.jit
    def solve(a):
        sol = ix.root(model.R, model.x0(n), a, throw=False)
        return _weights(n) @ sol.x, sol

    def run(a):
        (_, sol), slope = graded(a)
        return sol, slope

    graded = jax.jit(jax.value_and_grad(solve, has_aux=True))
    return run


def specialist(model: Model, n: int):
    """Newton's method by SuperLU, and the adjoint."""
    x0 = model.x0(n)
    pattern = detect(lambda x, a: (model.R(x[0], a[0]),), (x0,), (jax.ShapeDtypeStruct((), float),))
    assert pattern is not None
    colouring = colour(pattern)
    assert colouring is not None
    R, by_a = jax.jit(model.R), jax.jit(lambda x, a: jax.jvp(lambda a: model.R(x, a), (a,), (1.0,))[1])

    @jax.jit
    def entries(x, a):
        return from_tangents(jax.linearize(lambda x: model.R(x, a), x)[1], colouring, x.dtype)

    def run(a):
        x, lu = np.asarray(x0), None
        for _ in range(STEPS):
            values = np.asarray(entries(x, a))
            lu = splu(sp.csc_array((values, (colouring.rows, colouring.cols)), shape=(n, n)))
            step = lu.solve(-np.asarray(R(x, a)))
            x = x + step
            if np.abs(step).max() <= RTOL * np.abs(x).max():
                break
        assert lu is not None
        adjoint = lu.solve(np.asarray(_weights(n)), trans="T")
        return x, -adjoint @ np.asarray(by_a(x, a))

    return run


def by_hand(n: int):
    """On a line: Newton's method with the diagonals written down."""
    h = 1 / (n + 1)
    off = jnp.full(n, 1 / h**2)
    lower, upper = off.at[0].set(0), off.at[-1].set(0)
    source = 1 + 0.3 * jnp.sin(6 * jnp.linspace(h, 1 - h, n))

    def solve(u, a, b):
        return jax.lax.linalg.tridiagonal_solve(lower, -2 / h**2 + a * jnp.exp(u) * source, upper, b[:, None])[:, 0]

    @jax.jit
    def run(a):
        def step(carry):
            u, _, k = carry
            change = solve(u, a, -line(u, a))
            return u + change, jnp.max(jnp.abs(change)) / jnp.max(jnp.abs(u + change)), k + 1

        u, _, _ = jax.lax.while_loop(lambda c: (c[1] > RTOL) & (c[2] < STEPS), step, (jnp.zeros(n), jnp.inf, 0))
        adjoint = solve(u, a, _weights(n))  # A is symmetric
        return u, -adjoint @ (jnp.exp(u) * source)

    return run


def varied(run: Callable[..., Any], a: float) -> Callable[[], Any]:
    """Each time at another a: a sparse LU remembers the last factors, and finds them again."""
    count = itertools.count()
    return lambda: run(a * (1 + 1e-6 * next(count)))


def row(name: str, n: int) -> str:
    model = MODELS[name]
    n = model.x0(n).size
    programs = [ours(model, n), specialist(model, n)] + ([by_hand(n)] if name == "line" else [])
    start = time.perf_counter()
    sol, slope = jax.block_until_ready(programs[0](model.a))
    first = time.perf_counter() - start
    x, other = programs[1](model.a)
    assert bool(sol.success), sol.message
    error = np.abs(np.asarray(sol.x) - x).max() / np.abs(x).max()
    times = medians([varied(run, model.a) for run in programs], repeats=max(3, min(15, 10**6 // n)))
    hand = f"{times[0] / times[2]:.2f}" if len(times) > 2 else ""
    return (
        f"| {name} | {n:,} | {sol.linear_solver} | {times[0] / 1e3:.1f} | {times[1] / 1e3:.1f} | "
        f"{times[1] / times[0]:.1f} | {hand} | {error:.0e} | {abs(slope / other - 1):.0e} | {first:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    lines = [
        "| model | unknowns | form | ours, ms | SuperLU, ms | SuperLU ÷ ours | ours ÷ by hand | x differs | gradient | "
        "first call, s |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in options.models:
        for n in (1000, 10_000, 100_000, 1_000_000):
            if n <= min(options.largest, MODELS[name].largest):
                lines.append(row(name, n))
                print(lines[-1], flush=True)
    if options.out is not None:
        before, _, rest = options.out.read_text().partition("<!-- table -->\n")
        after = rest.partition("<!-- end -->\n")[2]
        table = "\n".join(lines)
        options.out.write_text(f"{before}<!-- table -->\n{table}\n<!-- end -->\n{after}")


if __name__ == "__main__":
    main()
