"""Temporary memory of the compiled gradient, against the number of iterations and against the unknowns."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from . import peers
from .measure import Record, find, goal
from .problems import Stencil, loss

TITLE = "Memory"
TEXT = """What XLA sets aside for the gradient of ½|x|² by c and b in the map of three neighbours, as the compiled
program says (`memory_analysis().temp_size_in_bytes`): with more and more iterations allowed for 10,000 unknowns, and
for more and more unknowns with 100 iterations. The unit is one vector of n numbers of 8 bytes."""
ITERATIONS, LENGTH = (10, 100, 1000, 10_000), 10_000
SIZES, STEPS = (10_000, 100_000, 1_000_000), 100


def solvers(steps: int, quick: bool) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {peers.OURS: peers.ours(max_steps=steps)}
    if not quick:
        found["Optimistix FixedPointIteration, GMRES"] = peers.picard(peers.gmres(), steps)
    if peers.jaxopt is not None and not quick:
        for name in ("FixedPointIteration", "AndersonAcceleration"):
            found[f"jaxopt {name}"] = peers.of_jaxopt(name, maxiter=steps, implicit_diff_solve=peers.exact_cg())
    scan = lambda F, x0, *args: jax.lax.scan(lambda x, _: (F(x, *args), None), x0, length=steps)[0]
    return found | {peers.NAIVE: scan}


def temporary(solve: Callable[..., Any], n: int) -> float:
    """In vectors of n numbers."""
    problem = Stencil(n, 0.98)
    function = lambda *args: loss(solve(Stencil.F, jnp.zeros(n), *args))
    compiled = jax.jit(jax.grad(function, argnums=(0, 1))).lower(*problem.args).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / (8 * n)


def run(quick: bool) -> list[Record]:
    iterations, sizes = (ITERATIONS[:2], SIZES[:2]) if quick else (ITERATIONS, SIZES)
    records = []
    by_steps, by_size = "vectors, against iterations", "vectors, against n"
    for who in solvers(1, quick):
        record = {"case": by_steps, "what": f"n = {LENGTH:,}", "who": who, "note": ""}
        record |= {f"{steps:,} iterations": temporary(solvers(steps, quick)[who], LENGTH) for steps in iterations}
        records.append(record)
    for who in solvers(1, quick):
        record = {"case": by_size, "what": f"{STEPS} iterations", "who": who, "note": ""}
        records.append(record | {f"n = {n:,}": temporary(solvers(STEPS, quick)[who], n) for n in sizes})
    for case, columns, text in (
        (by_steps, [f"{steps:,} iterations" for steps in iterations], "flat: the last column ≤ 1.01 × the first"),
        (by_size, [f"n = {n:,}" for n in sizes], "O(n): the last column ≤ 1.01 × the first"),
    ):
        if ours := find(records, peers.OURS, case=case):
            goal(ours, text, ours[columns[-1]] / ours[columns[0]], 1.01)
    return records
