"""What the sparse forms cost: `python benchmarks/sparse_forms.py [--largest 1000000]`.

For each pattern a matrix with random entries, in float64: SciPy's SuperLU (`splu`, in its default order, and in the
order given where that is faster), factorise and solve, beside ours, compiled: factorise and solve, five of these in a
loop, a solve with factors, and a product; and `jax.lax.linalg.tridiagonal_solve` where it applies. In one process,
repeats interleaved, medians in microseconds; the ratio is that of SuperLU, factorise and solve, to ours.

Measured on 2026-11-28, 2 cores (x86-64) under a load of 4 to 6, JAX 0.10.2, the least of 5 to 15 repeats, in
milliseconds; SuperLU in its default order, and in the order given:

|            | n         | SuperLU  | factorise and solve | solve |
|------------|-----------|----------|---------------------|-------|
| width 2    | 1,000     | 0.9, 0.7 | 0.6                 | 0.25  |
| width 2    | 1,000,000 | 707, 488 | 145                 | 44    |
| width 4    | 10,000    | 8.5, 5.5 | 3.1                 | 0.8   |
| 5 species  | 10,000    | 9.9, 7.5 | 9.7                 | 2.6   |
| 20 species | 10,000    | 22, 16   | 12                  | 2.0   |
"""

import argparse
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from implicitax._linear.forms import choose_form
from interleaved import medians

REPEATS = 7


def chain(n, width):
    return sp.diags_array([np.ones(n - abs(k)) for k in range(-width, width + 1)], offsets=range(-width, width + 1))


def cells(n, species):
    """Cells in a row, each of whose species depend on all of those of its neighbours."""
    return sp.kron(chain(n // species, 1), np.ones((species, species)))


PATTERNS = {
    "width 1": lambda n: chain(n, 1),
    "width 2": lambda n: chain(n, 2),
    "width 4": lambda n: chain(n, 4),
    "2 species": lambda n: sp.kron(np.ones((2, 2)), chain(n // 2, 1)),
    "5 species": lambda n: cells(n, 5),
    "20 species": lambda n: cells(n, 20),
    "blocks of 3": lambda n: sp.kron(sp.eye_array(n // 3), np.ones((3, 3))),
    "blocks of 10": lambda n: sp.kron(sp.eye_array(n // 10), np.ones((10, 10))),
}


def draw(pattern, rng):
    """The pattern's entries by rows, and a matrix that is diagonally not quite dominant."""
    pattern = sp.csr_array(pattern)
    pattern.sort_indices()
    rows = np.repeat(np.arange(pattern.shape[0], dtype=np.int32), np.diff(pattern.indptr))
    cols = pattern.indices.astype(np.int32)
    values = rng.normal(size=rows.size) + 2 * np.sqrt(rows.size / pattern.shape[0]) * (rows == cols)
    return rows, cols, values, sp.csc_array((values, (rows, cols)), shape=pattern.shape)


def five(form):
    """Five factorisations and solves in a loop, none of which is that of another."""

    def solve(values, b):
        step = lambda _, x: form.pack(values + 1e-9 * x[0]).factor().solve(b)
        return jax.lax.fori_loop(0, 5, step, b)

    return solve


def table(pattern, n):
    rows, cols, values, A = draw(PATTERNS[pattern](n), np.random.default_rng(0))
    n = A.shape[0]
    start = time.perf_counter()
    form = choose_form(rows, cols, n)
    chosen = time.perf_counter() - start
    if form is None:
        return
    values, b = jnp.asarray(values), jnp.asarray(np.random.default_rng(1).normal(size=n))
    host = np.asarray(b)
    both = jax.jit(lambda values, b: form.pack(values).factor().solve(b))
    packed = jax.jit(form.pack)(values)
    factors = jax.jit(lambda A: A.factor())(packed)
    start = time.perf_counter()
    x = np.asarray(both(values, b))
    compiled = time.perf_counter() - start
    solve, product = jax.jit(lambda factors, b: factors.solve(b)), jax.jit(lambda A, b: A.matvec(b))
    loop = jax.jit(five(form))
    programs = [
        lambda: splu(A).solve(host),
        lambda: splu(A, permc_spec="NATURAL").solve(host),
        lambda: both(values, b),
        lambda: loop(values, b),
        lambda: solve(factors, b),
        lambda: product(packed, b),
    ]
    if form.describe() == "tridiagonal":
        lapack = jax.jit(lambda data, b: jax.lax.linalg.tridiagonal_solve(*data, b[:, None]))
        programs.append(lambda: lapack(packed.data, b))
    natural = pattern != "2 species"  # in that order half the unknowns stand between the two
    if not natural:
        programs[1] = programs[0]
    found = medians(programs, repeats=REPEATS if n < 10**6 else 3)
    peer = min(found[:2])
    error = np.max(np.abs(A @ x - host)) / (np.max(np.abs(x)) * sp.linalg.norm(A, np.inf))
    row = f"{pattern:12s} {n:8d} {form.describe():34s} {chosen:7.2f} {compiled:7.2f} {error:8.0e}"
    row += "".join(f" {each:9.0f}" for each in [found[0], peer, *found[2:]])
    print(f"{row}   {peer / found[2]:5.1f} {peer / found[3] * 5:5.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--largest", type=int, default=10**5)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(
        "pattern             n form                               chosen[s] compiled[s] error   splu  its best  "
        "both  five in a loop  solve  product (tridiagonal_solve)   ratio, in a loop"
    )
    for pattern in PATTERNS:
        if given.only not in pattern:
            continue
        for n in (1000, 10_000, 100_000, 1_000_000):
            if n <= given.largest:
                table(pattern, n)


if __name__ == "__main__":
    sys.exit(main())
