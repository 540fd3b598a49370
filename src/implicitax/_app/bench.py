"""The command `bench`: how fast this machine solves and differentiates, beside Optimistix and a rule by hand.

A look, with few repeats; `benchmarks/` in the repository has more problems, more peers, and the reasons.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import implicitax as ix

from .measure import duration

_RUNS, _QUICK_RUNS = 9, 3  # of all contestants in turn, of which the median is taken
_TOLERANCE = 1e-10
_DENSE = 1000  # unknowns up to which a matrix is built


class Problem(NamedTuple):
    """`x = F(x, θ)`, or many of them, one for each row of θ."""

    name: str
    F: Callable[[Any, Any], Any]
    x0: Any
    theta: Any
    many: bool = False


def problems(quick: bool) -> list[Problem]:
    def small(x: Any, theta: Any) -> Any:
        F0 = jnp.sqrt(theta[0] - x[0] * x[1])
        return jnp.stack([F0, jnp.sqrt((57 - x[1]) / (theta[1] * F0))])

    rng = np.random.default_rng(0)
    x0, theta = jnp.array([1.5, 3.5]), jnp.array([10.0, 3.0])
    lanes, n, large = (100, 50, 10_000) if quick else (100_000, 300, 100_000)
    W = jnp.asarray(0.7 * rng.normal(size=(n, n)) / np.sqrt(n))
    dense = lambda x, b: jnp.tanh(W @ x + b)
    stencil = lambda x, b: jnp.tanh(0.49 * (jnp.roll(x, 1) + jnp.roll(x, -1)) + b)
    return [
        Problem("2 unknowns", small, x0, theta),
        Problem(f"{lanes:,} × 2 unknowns", small, x0, theta * jnp.asarray(rng.uniform(1, 1.2, (lanes, 2))), True),
        Problem(f"{n} unknowns, dense", dense, jnp.zeros(n), jnp.asarray(rng.normal(size=n))),
        Problem(f"{large:,} unknowns, stencil", stencil, jnp.zeros(large), jnp.asarray(rng.normal(size=large))),
    ]


def contestants(problem: Problem) -> dict[str, Callable[[Any], Any]]:
    """θ ↦ x by each, all to the same tolerance."""

    def ours(theta: Any) -> Any:
        if problem.many:
            return ix.sweep(problem.F, problem.x0, theta, rtol=_TOLERANCE, atol=_TOLERANCE, throw=False).x
        return ix.fixed_point(problem.F, problem.x0, theta, rtol=_TOLERANCE, atol=_TOLERANCE, throw=False).x

    def optimistix(theta: Any) -> Any:
        solver = optx.FixedPointIteration(rtol=_TOLERANCE, atol=_TOLERANCE)
        # By default it builds the matrix.
        krylov = lx.BiCGStab(rtol=_TOLERANCE, atol=_TOLERANCE)
        adjoint = optx.ImplicitAdjoint(krylov) if problem.x0.size > _DENSE else optx.ImplicitAdjoint()
        find = functools.partial(optx.fixed_point, problem.F, solver, problem.x0, max_steps=10_000, throw=False)
        one = lambda theta: find(theta, adjoint=adjoint).value
        return (jax.vmap(one) if problem.many else one)(theta)

    @jax.custom_jvp
    def by_hand(theta: Any) -> Any:
        return jax.lax.scan(lambda x, _: (problem.F(x, theta), None), problem.x0, length=1000)[0]

    @by_hand.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        x = by_hand(*primals)
        B_theta = jax.jvp(lambda theta: problem.F(x, theta), primals, tangents)[1]
        A = jnp.eye(x.size) - jax.jacfwd(problem.F)(x, *primals)
        return x, jnp.linalg.solve(A, B_theta)

    found = {"implicitax": ours, "Optimistix": optimistix}
    if problem.x0.size <= _DENSE:  # it builds the matrix
        found["by hand"] = jax.vmap(by_hand) if problem.many else by_hand
    return found


def measure_all(console: Console, quick: bool) -> list[dict[str, Any]]:
    """Prints the table; returns its rows, times in seconds."""
    rows: list[dict[str, Any]] = []
    runs = _QUICK_RUNS if quick else _RUNS
    with jax.enable_x64(True), Progress(console=Console(stderr=True), transient=True) as bar:
        for problem in bar.track(problems(quick), description="measuring"):
            rows += _measure(problem, runs)
    table = Table(title=f"jax {jax.__version__}, {jax.devices()[0].device_kind}, float64, compiled; medians of {runs}")
    for column in ("problem", "", "value", "value and gradient", "compiling both", "max|F(x) − x|"):
        table.add_column(column, justify="left" if column in ("problem", "") else "right")
    for row in rows:
        times = (duration(row[key]) for key in ("value", "gradient", "compiling"))
        table.add_row(row["problem"], row["who"], *times, f"{row['residual']:.0e}")
    console.print(table)
    return rows


def _measure(problem: Problem, runs: int) -> list[dict[str, Any]]:
    compiled, compiling, residuals = {}, {}, {}
    for who, solve in contestants(problem).items():
        start = time.perf_counter()
        value = jax.jit(solve).lower(problem.theta).compile()
        loss = jax.value_and_grad(lambda theta, solve=solve: jnp.sum(jnp.sin(solve(theta))))
        compiled[who] = value, jax.jit(loss).lower(problem.theta).compile()
        compiling[who] = time.perf_counter() - start
        F = jax.vmap(problem.F) if problem.many else problem.F
        x = value(problem.theta)
        residuals[who] = float(jnp.max(jnp.abs(F(x, problem.theta) - x)))
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(runs):
        for who, programs in compiled.items():
            for i, program in enumerate(programs):
                start = time.perf_counter()
                jax.block_until_ready(program(problem.theta))
                times.setdefault((who, i), []).append(time.perf_counter() - start)
    return [
        {
            "problem": problem.name,
            "who": who,
            "value": float(np.median(times[who, 0])),
            "gradient": float(np.median(times[who, 1])),
            "compiling": compiling[who],
            "residual": residuals[who],
        }
        for who in compiled
    ]
