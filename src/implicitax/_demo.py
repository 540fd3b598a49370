"""`implicitax demo`: two small systems, solved and differentiated in several ways, side by side."""

import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich import box
from rich.console import Console
from rich.table import Table

import implicitax as ix

from . import _plot
from ._systems import (
    Answer,
    Parameters,
    Reference,
    Sister,
    reference,
    reference_answer,
    reference_curves,
    sister,
    sister_answer,
    sister_curves,
)

GUESS = np.array([1.5, 3.5])  # of the reference system
SISTER_GUESSES = {1.0: np.array([0.5, 1.0]), -1.0: np.array([-0.5, -1.0])}  # by the sign of the root they lead to
UNROLLED = 100  # iterations that whoever unrolls must choose beforehand
REPEATS = 21
DERIVATIVES = ("∂x₀/∂α", "∂x₁/∂α", "∂x₀/∂β", "∂x₁/∂β")


class Result(NamedTuple):
    """A solution with its derivative, and what they cost."""

    x: Float[np.ndarray, "2"]
    derivative: Float[np.ndarray, "2 2"]
    iterations: int
    compile_seconds: float
    seconds: float
    memory: int | None


# One solve each: (x, iterations) of a system, by at most n iterations.


def unrolled(system: Reference, n: int) -> tuple[Array, Any]:
    """The naive way: n iterations in a `scan`, which JAX differentiates one by one."""
    x, _ = jax.lax.scan(lambda x, _: (system(x), None), jnp.asarray(GUESS), length=n)
    return x, n


def same_loop(system: Reference, n: int) -> tuple[Array, Any]:
    """The same n iterations, with the implicit derivative."""
    return ix.custom_fixed_point(system, throw=False)(lambda _: unrolled(system, n)[0])(GUESS), n


def picard(system: Reference, n: int) -> tuple[Array, Any]:
    """Plain iteration until it has converged, with the implicit derivative."""
    sol = ix.fixed_point(system, GUESS, solver=ix.Picard(), max_steps=n, throw=False)
    return sol.x, sol.nit


def auto(system: Reference, n: int = 100) -> tuple[Array, Any]:
    """The default solver, with the implicit derivative."""
    sol = ix.fixed_point(system, GUESS, max_steps=n, throw=False)
    return sol.x, sol.nit


def differentiated(solve: Callable[..., Any], jacobian: Any = jax.jacrev) -> Callable[..., Any]:
    """(x, derivative by α and β, iterations) from `solve(system, ...) -> (x, iterations)`."""

    def run(system: Any, *rest: Any) -> Any:
        def with_aux(system: Any) -> Any:
            x, iterations = solve(system, *rest)
            return x, (x, iterations)

        J, (x, iterations) = jacobian(with_aux, has_aux=True)(system)
        return x, jnp.stack([J.para.alpha, J.para.beta], axis=1), iterations

    return run


def by_differences(system: Reference) -> Any:
    """The same by central differences: two solves for each parameter, each a little off."""
    theta = jnp.stack([system.para.alpha, system.para.beta])
    h = np.finfo(theta.dtype).eps ** (1 / 3) * jnp.abs(theta)
    shifted = jnp.concatenate([theta + jnp.diag(h), theta - jnp.diag(h)])
    x, iterations = jax.vmap(lambda theta: auto(Reference(Parameters(*theta))))(shifted)
    return jnp.mean(x, axis=0), ((x[:2] - x[2:]) / (2 * h[:, None])).T, jnp.sum(iterations)


def measure(run: Callable[..., Any], *args: Any) -> Result:
    """Compiles, runs once, then takes the median time of `REPEATS` more runs."""
    start = time.perf_counter()
    compiled = jax.jit(run).lower(*args).compile()
    compile_seconds = time.perf_counter() - start
    x, derivative, iterations = jax.block_until_ready(compiled(*args))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    analysis = compiled.memory_analysis()
    memory = None if analysis is None else analysis.temp_size_in_bytes
    return Result(
        np.asarray(x), np.asarray(derivative), int(iterations), compile_seconds, statistics.median(times), memory
    )


def demonstrate(console: Console, plot: Path, steps: tuple[int, ...]) -> None:
    """Computes everything, prints each table when it is ready, saves the figure."""
    start = time.perf_counter()
    with jax.enable_x64(True):
        system, other = reference(), sister()
        device = jax.devices()[0].device_kind
        _say(console, f"implicitax {version('implicitax')}, JAX {jax.__version__}, device {device}, float64\n")
        with console.status("The reference system ..."):
            console.print(_comparison(system))
        with console.status("More and more iterations ..."):
            console.print(_growth(system, steps))
        with console.status("The sister system ..."):
            console.print(_roots(other))
        with console.status("The figure ..."):
            _plot.save_panels((_reference_panel(system), _sister_panel(other)), plot)
    _say(console, f"Figure: {plot}")
    _say(console, f"All of it computed in this run, in {time.perf_counter() - start:.0f} s.")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _comparison(system: Reference) -> Table:
    """One column for each way to differentiate the solution of the reference system."""
    answer = reference_answer(system)
    columns = {
        f"unrolled\n{UNROLLED} times": measure(differentiated(lambda system: unrolled(system, UNROLLED)), system),
        "implicit\nforward": measure(differentiated(auto, jax.jacfwd), system),
        "implicit\nreverse": measure(differentiated(auto, jax.jacrev), system),
        "finite\ndifferences": measure(by_differences, system),
    }
    results = list(columns.values())
    implicit = results[2]
    table = _table(
        "Reference system: x₀ = √(α − x₀x₁), x₁ = √((57 − x₁)/(β x₀)) at α = 10, β = 3",
        "Differences are the largest of the four derivatives. Time: solution and all four derivatives, compiled,\n"
        f"median of {REPEATS} runs. Memory: temporaries of the compiled program, counted by the compiler.",
        "",
        "closed\nform",
        *columns,
    )
    _values(table, [answer, *results])
    table.add_section()
    table.add_row("from closed form", "", *(_small(_gap(result, answer)) for result in results))
    table.add_row("from reverse", _small(_gap(answer, implicit)), *(_small(_gap(r, implicit)) for r in results))
    table.add_row("iterations", "", *(str(result.iterations) for result in results))
    table.add_row("compile time", "", *(_duration(result.compile_seconds) for result in results))
    table.add_row("time", "", *(_duration(result.seconds) for result in results))
    table.add_row("memory", "", *(_bytes(result.memory) for result in results))
    return table


def _growth(system: Reference, steps: tuple[int, ...]) -> Table:
    """Time and memory of the reverse derivative as the number of iterations grows."""
    answer = reference_answer(system)
    table = _table(
        "The same as the number of iterations N grows, reverse mode",
        "unrolled: N iterations, each differentiated. same loop: those N iterations with the implicit derivative\n"
        "(custom_fixed_point). Picard, Auto: fixed_point with max_steps=N, which stops when it has converged.\n"
        "refused: N iterations did not converge, so no derivative is given (NaN, or an error with throw=True).",
        "N",
        "",
        "iterations",
        "error of x",
        "of ∂x/∂α, ∂x/∂β",
        "time",
        "memory",
    )
    ways = {"unrolled": unrolled, "same loop": same_loop, "Picard": picard, "Auto": auto}
    for n in steps:
        for name, solve in ways.items():
            result = measure(differentiated(lambda system, solve=solve, n=n: solve(system, n)), system)
            gap = _gap(result, answer)
            table.add_row(
                str(n) if name == "unrolled" else "",
                name,
                str(result.iterations),
                _small(np.max(np.abs(result.x - answer.x))),
                "refused" if np.isnan(gap) else _small(gap),
                _duration(result.seconds),
                _bytes(result.memory),
            )
        table.add_section()
    return table


def _roots(system: Sister) -> Table:
    """The two roots of the sister system."""

    def solve(system: Sister, guess: Array) -> Any:
        sol = ix.root(system, guess, throw=False)
        return sol.x, sol.nit

    results = [measure(differentiated(solve), system, guess) for guess in SISTER_GUESSES.values()]
    answers = [sister_answer(system, sign) for sign in SISTER_GUESSES]
    table = _table(
        "Sister system: x₀² + x₁² = α, β x₀³ = x₁ at α = 4, β = 1, by root",
        "Closed form: x₀² is the real root s of β² s³ + s = α.",
        "",
        *(f"from {_point(guess)}" for guess in SISTER_GUESSES.values()),
    )
    _values(table, results)
    table.add_section()
    pairs = list(zip(results, answers))
    table.add_row("x vs closed form", *(_small(np.max(np.abs(r.x - a.x))) for r, a in pairs))
    table.add_row("∂x vs closed form", *(_small(_gap(r, a)) for r, a in pairs))
    table.add_row("iterations", *(str(result.iterations) for result in results))
    table.add_row("compile time", *(_duration(result.compile_seconds) for result in results))
    table.add_row("time", *(_duration(result.seconds) for result in results))
    table.add_row("memory", *(_bytes(result.memory) for result in results))
    return table


def _table(title: str, caption: str, *headings: str) -> Table:
    table = Table(
        title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold", caption_justify="left"
    )
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    return table


def _values(table: Table, results: list[Any]) -> None:
    """The solution and its four derivatives, a row each."""
    for i, name in enumerate(("x₀", "x₁")):
        table.add_row(name, *(f"{result.x[i]:.8f}" for result in results))
    for k, name in enumerate(DERIVATIVES):
        table.add_row(name, *(f"{result.derivative[k % 2, k // 2]:.8f}" for result in results))


def _gap(one: Result | Answer, other: Result | Answer) -> float:
    return float(np.max(np.abs(one.derivative - other.derivative)))


def _small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.0f} µs"


def _bytes(count: int | None) -> str:
    if count is None:
        return "unknown"
    for unit, size in (("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _path(solve: Callable[..., ix.Solution], F: Callable[[Array], Array], guess: np.ndarray) -> Any:
    """The solution, and every point at which the solver evaluates F, the guess first."""
    points: list[np.ndarray] = []

    def watched(x: Array) -> Array:
        jax.debug.callback(lambda x: points.append(np.array(x)), x)
        return F(x)

    sol = solve(watched, guess)
    jax.effects_barrier()
    return sol, np.stack(points)


def _reference_panel(system: Reference) -> _plot.Panel:
    paths = []
    for solver, offset in ((ix.Picard(), 0), (ix.Auto(), 1)):
        sol, points = _path(lambda F, x0, solver=solver: ix.fixed_point(F, x0, solver=solver), system, GUESS)
        paths.append(_plot.Trail(_legend(sol), points, offset))
    notes = (
        _plot.Note(_point(sol.x), np.asarray(sol.x), (14, 7), ring=True),
        _plot.Note(f"guess\n{_point(GUESS)}", GUESS, (10, 8)),
    )
    return _plot.Panel(
        "Reference system: fixed point $x = F(x)$",
        reference_curves(system),
        tuple(paths),
        notes,
        ((1.3, 2.5), (2.5, 3.7)),
        inset=((1.97, 2.03), (2.97, 3.03)),
    )


def _sister_panel(system: Sister) -> _plot.Panel:
    trails, notes = [], []
    for style, (sign, guess) in zip((1, 2), SISTER_GUESSES.items()):
        sol, points = _path(ix.root, system, guess)
        trails.append(_plot.Trail(f"{_legend(sol)} from {_point(guess)}", points, style))
        notes.append(_plot.Note(_point(sol.x), np.asarray(sol.x), (-sign * 14, -sign * 4), ring=True))
        notes.append(_plot.Note(f"guess {_point(guess)}", guess, (-sign * 10, 0)))
    limits = ((-2.8, 2.8), (-2.8, 2.8))
    title = "Sister system: two roots, $R(x) = 0$"
    return _plot.Panel(title, sister_curves(system), tuple(trails), tuple(notes), limits)


def _legend(sol: ix.Solution) -> str:
    return f"{sol.solver.split('(')[0]}, {int(sol.nit)} iterations"


def _point(x: Any) -> str:
    return f"({x[0]:.4g}, {x[1]:.4g})".replace("-", "−")
