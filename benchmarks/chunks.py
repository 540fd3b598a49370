"""How many lanes a chunk of a sweep has best: `python benchmarks/chunks.py [--devices 2]`.

The time of `ix.sweep(batch_size=...)` relative to one `vmap` over all lanes, in float64, by lanes in a chunk; all in
one process, repeats interleaved, medians. The rule of `fitting` in `implicitax/_sweep/chunks.py` is read off this
table: as many lanes as fit into the cache.

Measured on 2026-11-25 with JAX 0.10.2, two busy cores of an AMD EPYC with 1 MB of L2 cache each:

    2 unknowns, 2 parameters, 10^6 lanes          512    1024   2048   4096   8192
      value, on one device                        0.38   0.33   0.30   0.29   0.32
      value and gradient, on one device           0.34   0.32   0.29   0.32   0.41
      value, on two                               0.36   0.33   0.31   0.28   0.37
      value and gradient, on two                  0.39   0.33   0.29   0.27   0.33
    x = tanh(Wx + b), value and gradient           16     64     256    1024   4096
      20 unknowns, 20,000 lanes                   0.94   0.69   0.57   0.65   0.78
      100 unknowns, 2,000 lanes                   0.58   0.52   0.65   0.86

The rule takes 4096, 256 and 64 lanes.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix

REPEATS = 7


class Case(NamedTuple):
    name: str
    F: Callable[..., Any]
    x0: Any
    args: tuple[Any, ...]  # with the lanes along axis 0
    sizes: tuple[int, ...]


def reference(x: Any, alpha: Any, beta: Any) -> Any:
    F0 = jnp.sqrt(alpha - x[0] * x[1])
    return jnp.stack([F0, jnp.sqrt((57 - x[1]) / (beta * F0))])


def tanh(n: int, lanes: int, sizes: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(n)
    W = rng.normal(size=(n, n))
    W *= 0.7 / np.linalg.norm(W, 2)
    b = jnp.asarray(rng.normal(size=(lanes, n)))
    return Case(f"{n} unknowns, {lanes} lanes", lambda x, b: jnp.tanh(W @ x + b), jnp.zeros(n), (b,), sizes)


def cases(lanes: int) -> list[Case]:
    parameters = jnp.linspace(9.5, 10.5, lanes), jnp.linspace(2.8, 3.2, lanes)
    few = Case(
        f"2 unknowns, {lanes} lanes", reference, jnp.array([1.5, 3.5]), parameters, (512, 1024, 2048, 4096, 8192)
    )
    return [
        few,
        tanh(20, max(lanes // 50, 64), (16, 64, 256, 1024, 4096)),
        tanh(100, max(lanes // 500, 64), (16, 64, 256, 1024)),
    ]


def programs(case: Case) -> dict[Any, tuple[Any, Any]]:
    """By lanes in a chunk, value and gradient, compiled; under "vmap" that with which they are compared."""
    solves = {
        size: lambda *args, size=size: ix.sweep(case.F, case.x0, *args, batch_size=size, throw=False).x
        for size in case.sizes
    }
    one = lambda *args: ix.fixed_point(case.F, case.x0, *args, throw=False).x
    solves["vmap"] = lambda *args: jax.vmap(one)(*args)
    found = {}
    for key, solve in solves.items():
        gradient = jax.grad(lambda *args, solve=solve: jnp.sum(solve(*args) ** 2))
        found[key] = tuple(jax.jit(f).lower(*case.args).compile() for f in (solve, gradient))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=1_000_000)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", options.devices)
    os.environ.setdefault("NPROC", str(2 * options.devices))  # threads, else a sweep inside `jit` uses one device
    for case in cases(options.lanes):
        compiled = programs(case)
        times: dict[Any, list[list[float]]] = {key: [[], []] for key in compiled}
        for _ in range(REPEATS):
            for key, pair in compiled.items():
                for i, program in enumerate(pair):
                    start = time.perf_counter()
                    jax.block_until_ready(program(*case.args))
                    times[key][i].append(time.perf_counter() - start)
        for i, what in enumerate(("value", "gradient")):
            ratios = (np.median(np.divide(times[size][i], times["vmap"][i])) for size in case.sizes)
            shown = "  ".join(f"{size}: {ratio:.2f}" for size, ratio in zip(case.sizes, ratios))
            print(f"{case.name}, {what}, devices {options.devices}:  {shown}", flush=True)


if __name__ == "__main__":
    main()
