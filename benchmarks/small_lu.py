"""Where the unrolled LU decomposition stops paying: `python benchmarks/small_lu.py`.

For n unknowns, one system `A y = b`, and 4096 of them under `vmap`, in float64: the time to compile, and to run, with
`implicitax.SmallLU` and with LAPACK's LU through `lineax.LU`, in one process, repeats interleaved, medians. The
constant `SMALL` in `implicitax/_linear/small_lu.py` is read off this table.

Measured on 2026-11-23, 2 cores (x86-64), JAX 0.10.2: from n = 5 on the unrolled one takes 4 times as long to compile
and more, and at n = 8 it is slower under `vmap` too.
"""

import time

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from implicitax import SmallLU

LANES, REPEATS = 4096, 31


def seconds(run):
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def main():
    jax.config.update("jax_enable_x64", True)
    print(" n  solver   residual   compile [s]  of vmap [s]   one [us]   a lane of vmap [ns]")
    for n in (2, 3, 4, 5, 6, 8):
        rng = np.random.default_rng(n)
        matrices, b = jnp.asarray(rng.normal(size=(LANES, n, n))), jnp.ones(n)
        programs = {}
        for name, solver in (("SmallLU", SmallLU()), ("LAPACK", lx.LU())):

            def solve(matrix, solver=solver, b=b):
                return lx.linear_solve(lx.MatrixLinearOperator(matrix), b, solver, throw=False).value

            lowered = jax.jit(solve).lower(matrices[0]), jax.jit(jax.vmap(solve)).lower(matrices)
            start = time.perf_counter()
            one = lowered[0].compile()
            middle = time.perf_counter()
            many = lowered[1].compile()
            programs[name] = one, many, middle - start, time.perf_counter() - middle
        times = {name: ([], []) for name in programs}
        for _ in range(REPEATS):
            for name, (one, many, *_) in programs.items():
                times[name][0].append(seconds(lambda one=one, m=matrices: one(m[0])))
                times[name][1].append(seconds(lambda many=many, m=matrices: many(m)))
        for name, (_, many, compile_one, compile_many) in programs.items():
            residual = np.max(np.abs(np.einsum("kij,kj->ki", matrices, many(matrices)) - b))
            one, lane = np.median(times[name][0]) * 1e6, np.median(times[name][1]) / LANES * 1e9
            print(
                f"{n:2d}  {name:8s} {residual:8.1e} {compile_one:11.2f} {compile_many:12.2f} {one:11.1f} {lane:14.0f}"
            )


if __name__ == "__main__":
    main()
