"""`implicitax demo`: two small systems, solved and differentiated in several ways, side by side."""

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

from . import panels
from .measure import Cost, duration, measure, size
from .systems import (
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
SISTER_GUESSES = {1: np.array([0.5, 1.0]), -1: np.array([-0.5, -1.0])}  # by the sign of the root they lead to
UNROLLED = 100  # who unrolls has to choose the number of iterations beforehand


class Result(NamedTuple):
    """A solution, its derivatives by (α, β) in the columns, and what they cost."""

    x: Float[np.ndarray, "2"]
    derivative: Float[np.ndarray, "2 2"]
    iterations: int
    cost: Cost


def demonstrate(console: Console, plot: Path, steps: tuple[int, ...]) -> None:
    """Computes everything, prints each table when it is ready, saves the figure."""
    start = time.perf_counter()
    with jax.enable_x64(True):
        system, other = reference(), sister()
        device = jax.devices()[0].device_kind
        _say(console, f"implicitax {version('implicitax')}, JAX {jax.__version__}, device {device}, float64\n")
        with console.status("The reference system ..."):
            _compare(console, system)
        with console.status("More and more iterations ..."):
            _grow(console, system, steps)
        with console.status("The sister system ..."):
            _find_roots(console, other)
        with console.status("The figure ..."):
            panels.save_panels((_reference_panel(system), _sister_panel(other)), plot)
    _say(console, f"Figure: {plot}")
    _say(console, f"All of it was computed in this run, in {time.perf_counter() - start:.0f} s.")


# The ways to solve the reference system, each by at most n iterations: x and the number of iterations.


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
    """`system -> (x, derivative, iterations)` from `solve(system) -> (x, iterations)`, by JAX's `jacobian`."""

    def with_aux(system: Any, *rest: Any) -> Any:
        x, iterations = solve(system, *rest)
        return x, (x, iterations)

    def run(system: Any, *rest: Any) -> Any:
        J, (x, iterations) = jacobian(with_aux, has_aux=True)(system, *rest)
        return x, jnp.stack([J.para.alpha, J.para.beta], axis=1), iterations

    return run


def by_differences(system: Reference) -> Any:
    """The same by central differences: two solves for each parameter, each a little to one side."""
    theta = jnp.stack([system.para.alpha, system.para.beta])
    h = np.finfo(theta.dtype).eps ** (1 / 3) * jnp.abs(theta)
    shifted = jnp.concatenate([theta + jnp.diag(h), theta - jnp.diag(h)])
    x, iterations = jax.vmap(lambda theta: auto(Reference(Parameters(*theta))))(shifted)
    return jnp.mean(x, axis=0), ((x[:2] - x[2:]) / (2 * h[:, None])).T, jnp.sum(iterations)


def _result(run: Callable[..., Any], *args: Any) -> Result:
    (x, derivative, iterations), cost = measure(run, *args)
    return Result(np.asarray(x), np.asarray(derivative), int(iterations), cost)


def _compare(console: Console, system: Reference) -> None:
    """One column for each way to differentiate the solution of the reference system."""
    answer = reference_answer()
    columns = {
        f"unrolled\n{UNROLLED} times": _result(differentiated(lambda system: unrolled(system, UNROLLED)), system),
        "implicit\nforward": _result(differentiated(auto, jax.jacfwd), system),
        "implicit\nreverse": _result(differentiated(auto), system),
        "finite\ndifferences": _result(by_differences, system),
    }
    results = list(columns.values())
    reverse = columns["implicit\nreverse"]
    table = _table("", "closed\nform", *columns)
    _add_values(table, [answer, *results])
    table.add_row("vs closed form", "", *(_small(_gap(result, answer)) for result in results))
    table.add_row("vs reverse", _small(_gap(answer, reverse)), *(_small(_gap(result, reverse)) for result in results))
    _add_costs(table, results, "")
    _show(
        console,
        f"Reference system: x₀ = √(α − x₀x₁), x₁ = √((57 − x₁)/(β x₀)), {_parameters(system)}",
        table,
        "vs: the largest difference of the four derivatives. Time: the solution and all four derivatives, compiled, "
        "median of many runs. Memory: the temporaries of the compiled program, as the compiler has laid them out.",
    )


def _grow(console: Console, system: Reference, steps: tuple[int, ...]) -> None:
    """Time and memory of the derivative as the number of iterations grows."""
    answer = reference_answer()
    table = _table("N", "", "iterations", "error of x", "of ∂x", "time", "memory")
    for n in steps:
        for name, solve in {"unrolled": unrolled, "same loop": same_loop, "Picard": picard, "Auto": auto}.items():
            result = _result(differentiated(lambda system, solve=solve, n=n: solve(system, n)), system)
            table.add_row(
                str(n) if solve is unrolled else "",
                name,
                str(result.iterations),
                _small(_error(result, answer)),
                "refused" if np.isnan(result.derivative).any() else _small(_gap(result, answer)),
                duration(result.cost.running),
                size(result.cost.memory),
            )
        table.add_section()
    _show(
        console,
        "The same in reverse mode as the number of iterations N grows",
        table,
        "unrolled: N iterations, each differentiated. same loop: the same N iterations, with the implicit derivative. "
        "Picard, Auto: fixed_point with max_steps=N, which stops when it has converged. refused: N iterations were not "
        "enough, so there is no derivative (NaN here, an error by default).",
    )


def _find_roots(console: Console, system: Sister) -> None:
    """The two roots of the sister system."""

    def solve(system: Sister, guess: Array) -> Any:
        sol = ix.root(system, guess, throw=False)
        return sol.x, sol.nit

    results = [_result(differentiated(solve), system, guess) for guess in SISTER_GUESSES.values()]
    pairs = [(result, sister_answer(system, sign)) for result, sign in zip(results, SISTER_GUESSES)]
    table = _table("", *(f"from {_point(guess)}" for guess in SISTER_GUESSES.values()))
    _add_values(table, results)
    table.add_row("x vs closed form", *(_small(_error(*pair)) for pair in pairs))
    table.add_row("∂x vs closed form", *(_small(_gap(*pair)) for pair in pairs))
    _add_costs(table, results)
    _show(
        console,
        f"Sister system: x₀² + x₁² = α, β x₀³ = x₁, {_parameters(system)}, in reverse mode",
        table,
        "Closed form: x₀² is the real root s of β² s³ + s = α.",
    )


def _say(console: Console, text: str, **style: Any) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False, **style)


def _show(console: Console, title: str, table: Table, note: str) -> None:
    _say(console, title, style="bold")
    console.print(table)
    console.print(f"{note}\n", highlight=False, markup=False, style="dim")


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    return table


def _add_values(table: Table, results: list[Any]) -> None:
    for i, name in enumerate(("x₀", "x₁")):
        table.add_row(name, *(f"{result.x[i]:.8f}" for result in results))
    for k, parameter in enumerate("αβ"):
        for i, name in enumerate(("x₀", "x₁")):
            table.add_row(f"∂{name}/∂{parameter}", *(f"{result.derivative[i, k]:.8f}" for result in results))
    table.add_section()


def _add_costs(table: Table, results: list[Result], *blank: str) -> None:
    table.add_row("iterations", *blank, *(str(result.iterations) for result in results))
    table.add_row("compile time", *blank, *(duration(result.cost.compiling) for result in results))
    table.add_row("time", *blank, *(duration(result.cost.running) for result in results))
    table.add_row("memory", *blank, *(size(result.cost.memory) for result in results))


def _error(one: Result, other: Answer) -> float:
    return float(np.max(np.abs(one.x - other.x)))


def _gap(one: Result | Answer, other: Result | Answer) -> float:
    return float(np.max(np.abs(one.derivative - other.derivative)))


def _parameters(system: Reference | Sister) -> str:
    return f"α = {float(system.para.alpha):g}, β = {float(system.para.beta):g}"


def _small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _point(x: Any) -> str:
    return f"({x[0]:.4g}, {x[1]:.4g})".replace("-", "−")


def _watch(
    solve: Callable[..., ix.Solution], F: Callable[[Array], Array], guess: np.ndarray
) -> tuple[ix.Solution, Float[np.ndarray, "k 2"]]:
    """The solution, and every point at which the solver evaluates F, the guess first."""
    points: list[np.ndarray] = []

    def watched(x: Array) -> Array:
        jax.debug.callback(lambda x: points.append(np.array(x)), x)
        return F(x)

    sol = solve(watched, guess)
    jax.effects_barrier()
    return sol, np.stack(points)


def _reference_panel(system: Reference) -> panels.Panel:
    trails, x = [], GUESS
    for style, solver in enumerate((ix.Picard(), ix.Auto())):
        sol, points = _watch(lambda F, x0, solver=solver: ix.fixed_point(F, x0, solver=solver), system, GUESS)
        x = np.asarray(sol.x)
        trails.append(panels.Trail(f"{type(solver).__name__}, {int(sol.nit)} iterations", points, style))
    notes = (panels.Note(_point(x), x, (14, 7), ring=True), panels.Note(f"guess\n{_point(GUESS)}", GUESS, (10, 8)))
    title, limits = "Reference system: fixed point $x = F(x)$", ((1.3, 2.5), (2.5, 3.7))
    around = ((1.97, 2.03), (2.97, 3.03))
    return panels.Panel(title, reference_curves(system), tuple(trails), notes, limits, around)


def _sister_panel(system: Sister) -> panels.Panel:
    trails, notes = [], []
    for style, (sign, guess) in enumerate(SISTER_GUESSES.items(), start=1):
        sol, points = _watch(ix.root, system, guess)
        trails.append(panels.Trail(f"Auto, {int(sol.nit)} iterations from {_point(guess)}", points, style))
        notes.append(panels.Note(_point(sol.x), np.asarray(sol.x), (-sign * 14, -sign * 4), ring=True))
        notes.append(panels.Note(f"guess {_point(guess)}", guess, (-sign * 10, 0)))
    title, limits = "Sister system: two roots, $R(x) = 0$", ((-2.8, 2.8), (-2.8, 2.8))
    return panels.Panel(title, sister_curves(system), tuple(trails), tuple(notes), limits)
