"""Which solver solves which problem: `python benchmarks/robustness.py [--only NAME] [--out docs/robustness.md]`.

The problems are those of `tests/problems`. Whether one is solved is not what a solver says, but the residual at the
point it returns, recomputed here. With `--only`, the solvers or problems of that name are run and printed, and nothing
is written. It needs jaxopt, which implicitax does not: `pip install jaxopt`.
"""

import argparse
import importlib.metadata
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.optimize
from jax.flatten_util import ravel_pytree

import implicitax as ix

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained, and says so
    import jaxopt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from problems.maps import LARGE, MAPS  # noqa: E402
from problems.systems import SYSTEMS  # noqa: E402

TOLERANCE = 1e-10  # asked of every solver
SOLVED = 1e-8  # asked of the result
# The limits: steps of plain iteration, of methods with a memory, of Newton's kind; calls of R by SciPy.
PLAIN, MEMORY, NEWTON, CALLS = 100_000, 10_000, 1000, 20_000

DENSE = "needs a dense Jacobian"

Kind = Literal["root", "fixed point"]
BOTH: tuple[Kind, ...] = ("root", "fixed point")


class Problem(NamedTuple):
    """`F(x) = 0` or `F(x) = x`, from x0; `residual` and `jacobian` are those of R on vectors, compiled."""

    name: str
    family: str
    kind: Kind
    F: Callable[[Any], Any]
    x0: Any
    units: np.ndarray
    residual: Callable[[Any], Any]
    jacobian: Callable[[Any], Any]
    start: float = 1.0
    solvable: bool = True

    @property
    def atol(self) -> float:
        return TOLERANCE * float(self.units.min())


class Peer(NamedTuple):
    """`solve(problem)` returns x and how often it evaluated R, or, with a star to its name, its iterations."""

    name: str
    kinds: tuple[Kind, ...]
    solve: Callable[[Problem], tuple[Any, int]]
    dense: bool = False


def problem(name: str, family: str, kind: Kind, F: Callable[[Any], Any], x0: Any, units: Any = None) -> Problem:
    flat, unravel = ravel_pytree(x0)

    def residual(x: Any) -> Any:
        value = ravel_pytree(F(unravel(x)))[0]
        return value if kind == "root" else value - x

    units = np.ones(flat.size) if units is None else np.asarray(ravel_pytree(units)[0])
    x0 = jax.tree.map(jnp.asarray, x0)
    return Problem(name, family, kind, F, x0, units, jax.jit(residual), jax.jit(jax.jacfwd(residual)))


def problems() -> list[Problem]:
    found = []
    for system in SYSTEMS:
        first = problem(system.name, "systems", "root", lambda x, s=system: s.R(x, s.p), system.x0)
        first = first._replace(solvable=system.solvable)
        found += [first._replace(x0=jnp.asarray(system.start(factor)), start=factor) for factor in system.factors]
    for family, maps in ((None, MAPS), ("large", LARGE)):
        found += [
            problem(m.name, family or m.family, "fixed point", lambda x, m=m: m.F(x, m.p), m.x0, m.units) for m in maps
        ]
    return found


# The solvers.


def ours(solver: Any, steps: int) -> Callable[[Problem], tuple[Any, int]]:
    def solve(p: Problem) -> tuple[Any, int]:
        run = ix.root if p.kind == "root" else ix.fixed_point
        sol = run(p.F, p.x0, solver=solver, rtol=TOLERANCE, atol=p.atol, max_steps=steps, throw=False)
        return sol.x, int(sol.nfev)

    return solve


@eqx.filter_jit
def _optimistix(kind: Kind, F: Callable[[Any], Any], solver: Any, x0: Any, steps: int) -> tuple[Any, Any]:
    run = optx.root_find if kind == "root" else optx.fixed_point
    sol = run(lambda x, _: F(x), solver, x0, max_steps=steps, throw=False)
    return sol.value, sol.stats["num_steps"]


def optimistix(solver: Callable[..., Any], steps: int) -> Callable[[Problem], tuple[Any, int]]:
    def solve(p: Problem) -> tuple[Any, int]:
        x, nit = _optimistix(p.kind, p.F, solver(rtol=TOLERANCE, atol=p.atol), p.x0, steps)
        return x, int(nit)

    return solve


def of_jaxopt(solver: Callable[..., Any], steps: int) -> Callable[[Problem], tuple[Any, int]]:
    def solve(p: Problem) -> tuple[Any, int]:
        F = p.F
        if p.kind == "fixed point" and solver is jaxopt.Broyden:
            F = lambda x: jax.tree.map(jnp.subtract, p.F(x), x)
        # Broyden keeps every step: as many for the large ones would fill the memory.
        maxiter = min(steps, NEWTON) if p.family == "large" and solver is jaxopt.Broyden else steps
        x, state = solver(F, maxiter=maxiter, tol=p.atol, implicit_diff=False).run(p.x0)
        return x, int(state.iter_num)

    return solve


def of_scipy(method: str, options: Callable[[Problem], dict[str, Any]]) -> Callable[[Problem], tuple[Any, int]]:
    def solve(p: Problem) -> tuple[Any, int]:
        calls = 0

        def counted(x: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            return np.asarray(p.residual(x))

        x0, unravel = ravel_pytree(p.x0)
        jac = (lambda x: np.asarray(p.jacobian(x))) if method in ("hybr", "lm") else None
        found = scipy.optimize.root(counted, np.asarray(x0), method=method, jac=jac, options=options(p))
        return unravel(jnp.asarray(found.x)), calls

    return solve


def _ours() -> list[Peer]:
    """Those that there are: a name of the list may be that of a method to come."""
    methods: list[tuple[str, tuple[Kind, ...], int, bool]] = [
        ("Auto", BOTH, MEMORY, False),
        ("Newton", BOTH, NEWTON, True),
        ("NewtonKrylov", BOTH, NEWTON, False),
        ("Broyden", BOTH, MEMORY, False),
        ("PseudoTransient", ("fixed point",), NEWTON, True),
        ("Anderson", ("fixed point",), MEMORY, False),
        ("Picard", ("fixed point",), PLAIN, False),
    ]
    return [
        Peer(f"ix.{name}", kinds, ours(getattr(ix, name)(), steps), dense)
        for name, kinds, steps, dense in methods
        if hasattr(ix, name)
    ]


PEERS = [
    *_ours(),
    Peer("Optimistix Newton*", BOTH, optimistix(optx.Newton, NEWTON), dense=True),
    Peer("Optimistix Dogleg*", BOTH, optimistix(optx.Dogleg, NEWTON), dense=True),
    Peer("Optimistix LevenbergMarquardt*", BOTH, optimistix(optx.LevenbergMarquardt, NEWTON), dense=True),
    Peer("Optimistix FixedPointIteration*", ("fixed point",), optimistix(optx.FixedPointIteration, PLAIN)),
    Peer("jaxopt Broyden*", BOTH, of_jaxopt(jaxopt.Broyden, MEMORY // 2)),
    Peer("jaxopt AndersonAcceleration*", ("fixed point",), of_jaxopt(jaxopt.AndersonAcceleration, MEMORY)),
    Peer("jaxopt FixedPointIteration*", ("fixed point",), of_jaxopt(jaxopt.FixedPointIteration, PLAIN)),
    Peer("SciPy hybr", BOTH, of_scipy("hybr", lambda p: {"xtol": TOLERANCE, "maxfev": CALLS}), dense=True),
    Peer(
        "SciPy lm", BOTH, of_scipy("lm", lambda p: {"ftol": TOLERANCE, "xtol": TOLERANCE, "maxiter": CALLS}), dense=True
    ),
    Peer("SciPy krylov", BOTH, of_scipy("krylov", lambda p: {"fatol": p.atol, "maxiter": CALLS // 100})),
    Peer("SciPy anderson", BOTH, of_scipy("anderson", lambda p: {"fatol": p.atol, "maxiter": CALLS // 4})),
    Peer("SciPy df-sane", BOTH, of_scipy("df-sane", lambda p: {"fatol": p.atol, "ftol": 0.0, "maxfev": CALLS})),
]


# What is made of them.


def judge(p: Problem, x: Any) -> tuple[bool, float]:
    """Whether x is a solution, and the largest residual; for a fixed point both in the units of x."""
    x = np.asarray(ravel_pytree(x)[0], float)
    residual = np.abs(np.asarray(p.residual(x)))
    if p.kind == "root":
        return bool(np.max(residual) <= SOLVED), float(np.max(residual))
    residual = np.max(residual / p.units)
    return bool(residual <= SOLVED * (1 + np.max(np.abs(x) / p.units))), float(residual)


def attempt(peer: Peer, p: Problem) -> dict[str, Any]:
    """One solver on one problem; one that raises has not solved it."""
    record = {"solver": peer.name, "problem": p.name, "family": p.family, "kind": p.kind, "start": p.start}
    record |= {"n": p.units.size, "solvable": p.solvable, "solved": False, "residual": None, "evaluations": None}
    if peer.dense and p.family == "large":
        return record | {"note": DENSE}
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            x, evaluations = peer.solve(p)
        solved, residual = judge(p, x)
        residual = residual if np.isfinite(residual) else None
        record |= {"solved": solved, "residual": residual, "evaluations": evaluations, "note": ""}
    except Exception as error:
        record |= {"note": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"}
    return record | {"seconds": round(time.perf_counter() - begin, 3)}


def run(only: str) -> list[dict[str, Any]]:
    results = []
    previous = None
    for p in problems():
        if previous != p.name:
            jax.clear_caches()  # nothing compiled serves another problem
            previous = p.name
        for peer in PEERS:
            if p.kind in peer.kinds and only.lower() in f"{peer.name} {p.name} {p.family}".lower():
                results.append(attempt(peer, p))
                print(
                    "{solver:32s} {problem} ×{start:g}: {solved} {evaluations} {note}".format(**results[-1]), flush=True
                )
    return results


# The page.

HEAD = """# Robustness

Which solver solves which problem. The problems are systems of the literature and fixed points drawn from a seed,
defined and tested in the folder `tests/problems`. Among them are the 55 runs of MINPACK's own test (Moré, Garbow and
Hillstrom 1981, [doi:10.1145/355934.355936](https://doi.org/10.1145/355934.355936)), in which a system is solved from 10
and 100 times its standard start too.

```bash
pip install . jaxopt
python benchmarks/robustness.py
```

Measured on {date} with {versions}.

- Every solver is asked for a tolerance of {tolerance:g} (in the smallest unit of x, where the units differ) and has a
  generous limit of steps; else it has its own defaults. All have the same function; `hybr`, `lm` and the solvers of JAX
  have its exact Jacobian.
- "Solved" is not what a solver says. The residual at the x it returns is computed again in float64: max|R| ≤ {solved:g}
  for a root, max|F(x) − x| ≤ {solved:g} (1 + max|x|) for a fixed point, with x in its units. A solver that raises has
  not solved the problem. To end at another root than the one that is known is no failure.
- For a fixed point, a root finder solves F(x) − x = 0. The large ones have 10,000 unknowns; a solver that needs a dense
  Jacobian is not run on them, which counts as not solved. jaxopt's Broyden, which keeps all its steps, has 1000 there.
- Chebyquad with 8 nodes has no root, and counts in no sum.
"""


def _sums(results: list[dict[str, Any]], column: str, kind: Kind) -> list[str]:
    """A table of the problems solved, a solver a row, and a column for each value of `column`."""
    rows = [r for r in results if r["kind"] == kind and r["solvable"]]
    values = list(dict.fromkeys(r[column] for r in rows))
    runs = {value: len({(r["problem"], r["start"]) for r in rows if r[column] == value}) for value in values}
    heads = [f"start × {value:g}" if column == "start" else str(value) for value in values]
    lines = [f"| solver | {' | '.join(heads)} | all |", f"|---|{'---:|' * (len(values) + 1)}"]
    lines.append(f"| *problems* | {' | '.join(f'*{runs[v]}*' for v in values)} | *{sum(runs.values())}* |")
    for solver in dict.fromkeys(r["solver"] for r in rows):
        counts = [sum(r["solved"] for r in rows if r["solver"] == solver and r[column] == v) for v in values]
        lines.append(f"| {solver.strip('*')} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    return [*lines, ""]


def _cell(r: dict[str, Any]) -> str:
    return str(r["evaluations"]) if r["solved"] else "–" if r["note"] == DENSE else "✗"


def _details(results: list[dict[str, Any]], kind: Kind) -> list[str]:
    """Every run, in HTML: Markdown is not read inside `<details>`."""
    rows = [r for r in results if r["kind"] == kind]
    solvers = list(dict.fromkeys(r["solver"] for r in rows))
    cells = {(r["problem"], r["start"], r["solver"]): r for r in rows}
    lines = [f"<details><summary>Every {kind}</summary>", "<table>"]
    lines.append(f"<tr><th>problem</th><th>n</th>{''.join(f'<th>{s}</th>' for s in solvers)}</tr>")
    for name, start in dict.fromkeys((r["problem"], r["start"]) for r in rows):
        line = [cells[name, start, solver] for solver in solvers]
        label = name if start == 1 else f"{name}, start × {start:g}"
        lines.append(f"<tr><td>{label}</td><td>{line[0]['n']}</td>{''.join(f'<td>{_cell(r)}</td>' for r in line)}</tr>")
    return [*lines, "</table></details>", ""]


def page(results: list[dict[str, Any]], versions: dict[str, str]) -> str:
    head = HEAD.format(
        date=time.strftime("%Y-%m-%d"),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        tolerance=TOLERANCE,
        solved=SOLVED,
    )
    lines = [head, "## Roots", "", *_sums(results, "start", "root")]
    lines += ["## Fixed points, by family", "", *_sums(results, "family", "fixed point")]
    lines += [
        "## Every run",
        "",
        "Evaluations of R (of F, for a fixed point) where it is solved, ✗ where not; a Jacobian",
    ]
    lines += ["counts for nobody. With a star: iterations, since this solver does not report its evaluations.", ""]
    return "\n".join([*lines, *_details(results, "root"), *_details(results, "fixed point")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a part of the name of a solver, problem or family")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "robustness.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = run(options.only)
    if not options.only:
        packages = ("implicitax", "jax", "optimistix", "jaxopt", "scipy", "numpy")
        versions = {name: importlib.metadata.version(name) for name in packages}
        raw = ROOT / "benchmarks" / "results" / "robustness.json"
        raw.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in results)
        raw.write_text(
            f'{{"date": "{time.strftime("%Y-%m-%d")}", "versions": {json.dumps(versions)}, "results": [\n{lines}\n]}}\n'
        )
        options.out.write_text(page(results, versions))


if __name__ == "__main__":
    main()
