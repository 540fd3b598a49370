"""How far x, and a gradient, are from the truth: `python benchmarks/errors.py [--out docs/images/errors.png]`.

On random contractions, solved by plain iteration to a tolerance that is varied: the true error of x against its
estimate `Solution.error`, and the error of the gradient of every adjoint against the error of x. It draws the figure,
prints its numbers as Markdown tables, and keeps the raw ones in `benchmarks/results/errors.json`. It takes three
minutes, most of them to compile `Unrolled(k)` for every k.

Of each map the fixed point x* and ∂F/∂x there, J, are prescribed, so that x* and the gradient are known in closed form.
Nonlinear maps are layers of a deep equilibrium network, `F(x, p) = tanh(W x + U p + b)`. The slowest eigenvalue of J is
real and positive: along that direction the error is 1/(1 − ρ) times the residual. The guess is on the side where tanh
is flatter than at x*, or slow maps would leave for another fixed point; there the estimate of the error is too small.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import implicitax as ix

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from problems.maps import similar  # noqa: E402

SIZES, RADII, SEEDS = (2, 10, 100), (0.5, 0.9, 0.99), 5  # of the maps for the estimate,
SIZE, RADIUS, GRADIENTS = 20, 0.9, 30  # and of those for the gradients
PARAMETERS = 3
AWAY = 0.3  # of the guess from the solution
TOLERANCES = 10.0 ** -np.arange(0.5, 14.5, 0.5)  # each second one for the estimate
LARGEST, SMALLEST = 1e-1, 1e-12  # errors of x that are looked at
MARGIN = 1.1  # times its estimate the true error may be
READ = (1e-2, 1e-4, 1e-6, 1e-8)  # errors of x at which the table has the error of the gradient
PICARD = ix.Picard()
ADJOINTS: dict[str, ix.Implicit | ix.Neumann] = {
    "OneStep()": ix.OneStep(),
    "Neumann(5)": ix.Neumann(5),
    "Implicit()": ix.Implicit(),
    "Implicit(polish=True)": ix.Implicit(polish=True),
}
UNROLLED = "Unrolled(k)"


class Layer(eqx.Module):
    """`F(x, p) = g(W x + U p + b)`, g = tanh, or the identity."""

    W: Float[Array, "n n"]
    U: Float[Array, "n p"]
    b: Float[Array, " n"]
    linear: bool = eqx.field(static=True)

    def __call__(self, x: Any, p: Any) -> Any:
        y = self.W @ x + self.U @ p + self.b
        return y if self.linear else jnp.tanh(y)


class Problem(NamedTuple):
    """A map, its fixed point, and the gradient of a random `cotangent · x*(p)`. Arrays have the problems in front."""

    F: Layer
    x0: Any
    p: Any
    x: Any
    cotangent: Any
    gradient: Any


def spectrum(rng: np.random.Generator, n: int, radius: float) -> np.ndarray:
    """One eigenvalue ρ, the others anywhere in that circle: real ones and conjugate pairs by turns."""
    found: list[complex] = [radius, rng.uniform(-radius, radius)]
    while len(found) < n:
        pair = radius * rng.uniform(0, 1) * np.exp(1j * rng.uniform(0, np.pi))
        found += [pair, pair.conjugate()] if len(found) % 4 else list(rng.uniform(-radius, radius, 2))
    return np.array(found[:n])


def problem(n: int, radius: float, linear: bool, seed: int) -> Problem:
    """A map drawn at random; drawn again if plain iteration from its guess ends at another fixed point."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = _draw(rng, n, radius, linear)
        W, x = np.asarray(drawn.F.W), drawn.x0
        shift = np.asarray(drawn.F.U @ drawn.p + drawn.F.b)
        for _ in range(5000):
            x = W @ x + shift
            x = x if linear else np.tanh(x)
        if np.max(np.abs(x - drawn.x)) < SMALLEST:
            return drawn


def _draw(rng: np.random.Generator, n: int, radius: float, linear: bool) -> Problem:
    J = np.asarray(jax.vmap(similar(spectrum(rng, n, radius), rng), 1, 1)(jnp.eye(n)))
    x, p = rng.uniform(-0.6, 0.6, n), rng.normal(size=PARAMETERS)
    U = rng.normal(size=(n, PARAMETERS)) / np.sqrt(PARAMETERS)
    slope = np.ones(n) if linear else 1 - x**2
    W = J / slope[:, None]
    b = (x if linear else np.arctanh(x)) - W @ x - U @ p
    x0 = x + AWAY * np.sign(x) * rng.uniform(0.5, 1, n)
    cotangent = rng.normal(size=n)
    gradient = (slope[:, None] * U).T @ np.linalg.solve((np.eye(n) - J).T, cotangent)
    return Problem(Layer(*map(jnp.asarray, (W, U, b)), linear), x0, p, x, cotangent, gradient)


def stack(problems: list[Problem]) -> Problem:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)


def each(function: Callable[[Problem, Any], Any], problems: Problem, knob: Any) -> Any:
    """Every problem with every value of the knob, compiled as one: arrays `[problem, knob]`."""
    return jax.jit(jax.vmap(jax.vmap(function, (None, 0)), (0, None)))(problems, knob)


def solve(problem: Problem, p: Any, tolerance: Any, **keywords: Any) -> ix.Solution:
    return ix.fixed_point(problem.F, problem.x0, p, solver=PICARD, rtol=tolerance, atol=tolerance, **keywords)


def max_norm(v: Any) -> Any:
    return jnp.max(jnp.abs(v))


def estimates() -> list[dict[str, Any]]:
    """The true error of x and its estimate: one record for each map and tolerance."""

    def run(problem: Problem, tolerance: Any) -> Any:
        sol = solve(problem, problem.p, tolerance, error_estimate=True)
        return max_norm(sol.x - problem.x), sol.error, sol.residual

    records = []
    for linear in (True, False):
        for n in SIZES:
            kinds = [(radius, seed) for radius in RADII for seed in range(SEEDS)]
            problems = stack([problem(n, radius, linear, seed) for radius, seed in kinds])
            found = each(run, problems, jnp.asarray(TOLERANCES[::2]))
            for i, (radius, seed) in enumerate(kinds):
                for j, tolerance in enumerate(TOLERANCES[::2]):
                    record = {"kind": "linear" if linear else "nonlinear", "n": n, "radius": radius, "seed": seed}
                    numbers = zip(("error", "estimate", "residual"), (rounded(values[i, j]) for values in found))
                    records.append(record | {"tolerance": rounded(tolerance), **dict(numbers)})
    return [record for record in records if SMALLEST <= record["error"] <= LARGEST]


def rounded(value: Any) -> float:
    return float(f"{value:.4g}")


def relative(gradient: Any, problem: Problem) -> Any:
    return jnp.linalg.norm(gradient - problem.gradient) / jnp.linalg.norm(problem.gradient)


def gradients() -> list[dict[str, Any]]:
    """The relative error of the gradient and the error of x: one record for each map, tolerance and adjoint."""

    def forward(problem: Problem, tolerance: Any) -> Any:
        sol = solve(problem, problem.p, tolerance)
        return max_norm(sol.x - problem.x), sol.nit

    def reverse(adjoint: Any) -> Callable[[Problem, Any], Any]:
        def run(problem: Problem, tolerance: Any) -> Any:
            loss = lambda p: problem.cotangent @ solve(problem, p, tolerance, adjoint=adjoint).x
            return relative(jax.grad(loss)(problem.p), problem)

        return run

    def unrolled(problem: Problem, steps: int) -> Any:
        # No stopping, so no verdict on the tolerance either.
        adjoint = ix.Unrolled(steps)
        loss = lambda p: problem.cotangent @ solve(problem, p, 0.0, adjoint=adjoint, throw=False).x
        return relative(jax.grad(loss)(problem.p), problem)

    problems = stack([problem(SIZE, RADIUS, False, seed) for seed in range(GRADIENTS)])
    error, nit = each(forward, problems, jnp.asarray(TOLERANCES))
    found = {name: each(reverse(adjoint), problems, jnp.asarray(TOLERANCES)) for name, adjoint in ADJOINTS.items()}
    nit = np.asarray(nit)
    found[UNROLLED] = np.full(nit.shape, np.nan)
    for steps in np.unique(nit[nit > 0]):
        values = np.asarray(jax.jit(jax.vmap(lambda problem, k=int(steps): unrolled(problem, k)))(problems))
        found[UNROLLED] = np.where(nit == steps, values[:, None], found[UNROLLED])
    return [
        {
            "seed": i,
            "tolerance": rounded(tolerance),
            "k": int(nit[i, j]),
            "error": rounded(error[i, j]),
            **{name: rounded(values[i, j]) for name, values in found.items()},
        }
        for i in range(GRADIENTS)
        for j, tolerance in enumerate(TOLERANCES)
        if nit[i, j] > 0 and SMALLEST <= error[i, j] <= LARGEST
    ]


class Curve(NamedTuple):
    """Median, least and largest relative error of the gradient, in bins of half a decade of the error of x."""

    error: np.ndarray
    median: np.ndarray
    least: np.ndarray
    largest: np.ndarray

    def at(self, error: float) -> float:
        """The median at an error of x, between the bins on a straight line in logarithms."""
        return float(10 ** np.interp(np.log10(error), np.log10(self.error), np.log10(self.median)))


def curve(records: list[dict[str, Any]], name: str) -> Curve:
    error, values = (np.array([record[key] for record in records]) for key in ("error", name))
    bins = np.floor(2 * np.log10(error)).astype(int)
    groups = [(error[bins == i], np.maximum(values[bins == i], 1e-17)) for i in np.unique(bins)]
    groups = [(e, v) for e, v in groups if v.size >= 10]
    rows = [(np.exp(np.mean(np.log(e))), np.median(v), v.min(), v.max()) for e, v in groups]
    return Curve(*np.array(rows).T)


# The tables.


def tables(estimated: list[dict[str, Any]], differentiated: list[dict[str, Any]]) -> str:
    lines = [
        f"| maps | points | true error ≤ {MARGIN} × estimate | the same of errors below 10⁻³ | largest ratio there |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in ("linear", "nonlinear"):
        points = [r for r in estimated if r["kind"] == kind]
        small = [r for r in points if r["error"] < 1e-3]
        shares = [np.mean([r["error"] <= MARGIN * r["estimate"] for r in group]) for group in (points, small)]
        largest = max(r["error"] / r["estimate"] for r in small)
        lines.append(f"| {kind} | {len(points)} | {shares[0]:.1%} | {shares[1]:.1%} | {largest:.2f} |")
    lines += ["", f"| `adjoint=` | {' | '.join(f'error of x {power(e)}' for e in READ)} |", "|---|---:|---:|---:|---:|"]
    for name in (UNROLLED, *ADJOINTS):
        found = curve(differentiated, name)
        lines.append(f"| `{name}` | {' | '.join(f'{found.at(e):.2g}' for e in READ)} |")
    return "\n".join(lines)


def power(value: float) -> str:
    digits = str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"


# The figure.

# The colours of Okabe and Ito, and a marker each, so that neither colour-blindness nor a grey print loses a curve.
INK = "#222222"
LOOKS: dict[str, tuple[str, str]] = {
    UNROLLED: ("#6f6f6f", "v"),
    "OneStep()": ("#b35900", "s"),
    "Neumann(5)": ("#009e73", "^"),
    "Implicit()": ("#0072b2", "o"),
    "Implicit(polish=True)": ("#a3347f", "D"),
}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.labelsize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def draw(estimated: list[dict[str, Any]], differentiated: list[dict[str, Any]], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.4, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        draw_estimates(left, estimated)
        draw_gradients(right, differentiated)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    # A palette makes the file a third as large.
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def draw_estimates(axes: Axes, records: list[dict[str, Any]]) -> None:
    axes.set(xscale="log", yscale="log", xlim=(3e-15, 1), ylim=(3e-13, 1))
    axes.set_title(f"Is x good enough? Maps of {SIZES[0]} to {SIZES[-1]} unknowns", loc="left")
    axes.set_xlabel("what the solve says of it: estimate, or residual (units of x)")
    axes.set_ylabel("true error, max|x − x*| (units of x)")
    axes.plot([3e-15, 1], [3e-15, 1], color=INK, linewidth=1)
    axes.plot([r["residual"] for r in records], [r["error"] for r in records], ".", color="#c4c4c4", markersize=4.5)
    axes.text(2e-13, 3e-5, "sol.residual:\nup to 100 times\ntoo small", color="#6a6a6a", va="center")
    looks = {
        "linear": ({"marker": "s", "markersize": 7, "markerfacecolor": "none"}, "#b35900", 1e-10),
        "nonlinear": ({"marker": "o", "markersize": 3.5}, "#0072b2", 7e-12),
    }
    for kind, (marker, color, height) in looks.items():
        points = [r for r in records if r["kind"] == kind]
        estimate, error = ([r[key] for r in points] for key in ("estimate", "error"))
        axes.plot(estimate, error, linestyle="none", color=color, **marker)
        share = np.mean(np.array(error) <= MARGIN * np.array(estimate))
        axes.plot([4e-9], [height], linestyle="none", color=color, **marker)
        text = f"sol.error, {kind} maps: true error\n≤ {MARGIN} × estimate in {share:.1%} of {len(points)}"
        axes.text(1e-8, height, text, color=color, va="center")
    axes.annotate(
        "true error = estimate",
        (3e-6, 3e-6),
        (6e-6, 1e-7),
        color=INK,
        va="center",
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )


def draw_gradients(axes: Axes, records: list[dict[str, Any]]) -> None:
    axes.set(xscale="log", yscale="log", xlim=(5e-13, 2e-1), ylim=(2e-17, 50))
    axes.set_title(f"Is its gradient? Median and range of {GRADIENTS} maps", loc="left")
    axes.set_xlabel("true error of x, max|x − x*| (units of x)")
    axes.set_ylabel("relative error of the gradient")
    for name, (color, marker) in LOOKS.items():
        found = curve(records, name)
        axes.fill_between(found.error, found.least, found.largest, color=color, alpha=0.15, linewidth=0)
        axes.plot(found.error, found.median, color=color, marker=marker, markersize=4.5, linewidth=1.6)
    # Where there is room: x, y, and what follows the name.
    places = {
        "OneStep()": (1e-12, 7.0, ""),
        "Neumann(5)": (1e-12, 0.05, ""),
        UNROLLED: (1e-12, 1e-6, ", slope 1"),
        "Implicit()": (6e-11, 1.5e-12, ", slope 1"),
        "Implicit(polish=True)": (6e-8, 7e-17, ", slope 2"),
    }
    for name, (x, y, note) in places.items():
        axes.text(x, y, name + note, color=LOOKS[name][0], va="center", fontweight="bold")
    axes.text(1e-12, 1e-13, "rounding errors", color=LOOKS["Implicit(polish=True)"][0], va="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "errors.png")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    estimated, differentiated = estimates(), gradients()
    versions = {name: importlib.metadata.version(name) for name in ("implicitax", "jax", "lineax", "numpy")}
    parts = {
        name: "[\n" + ",\n".join(map(json.dumps, records)) + "\n]"
        for name, records in (("estimates", estimated), ("gradients", differentiated))
    }
    raw = ROOT / "benchmarks" / "results" / "errors.json"
    raw.parent.mkdir(exist_ok=True)
    head = f'"date": "{time.strftime("%Y-%m-%d")}", "versions": {json.dumps(versions)}'
    raw.write_text(f'{{{head}, "estimates": {parts["estimates"]}, "gradients": {parts["gradients"]}}}\n')
    draw(estimated, differentiated, options.out)
    print(tables(estimated, differentiated))


if __name__ == "__main__":
    main()
