"""Systems drawn at random: `python -m benchmarks.random_roots [--seed 1] [--sizes 3] [--each 7]`.

Which solver finds a root of how many of the systems of `tests/problems/random_roots.py`, from three distances. No
solver was tuned on them. Whether one is solved is judged by the residual at the point returned, in the units of R,
recomputed here. Writes `docs/random-systems.md`. It needs jaxopt, which implicitax does not: `pip install jaxopt`.
"""

import argparse
import collections
import importlib.metadata
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.optimize

import implicitax as ix

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained, and says so
    import jaxopt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from problems.random_roots import DISTANCES, RandomRoot, draw  # noqa: E402

TOLERANCE, SOLVED, STEPS = 1e-10, 1e-8, 1200  # in the units of R

# A solver of JAX is given R, x0 and p, all systems of a group in one `vmap`; it returns x.
Solve = Callable[[Any, Any, Any], Any]


def ours(solver: Any) -> Solve:
    return lambda R, x0, p: ix.root(lambda x: R(x, p), x0, solver=solver, max_steps=STEPS, throw=False).x


def optimistix(solver: Callable[..., Any]) -> Solve:
    def solve(R: Any, x0: Any, p: Any) -> Any:
        method = solver(rtol=TOLERANCE, atol=TOLERANCE)
        return optx.root_find(R, method, x0, p, max_steps=STEPS, throw=False).value

    return solve


def of_jaxopt(R: Any, x0: Any, p: Any) -> Any:
    return jaxopt.Broyden(R, maxiter=STEPS, tol=TOLERANCE, implicit_diff=False).run(x0, p).params


JAX_SOLVERS: dict[str, Solve] = {
    "ix.Auto": ours(ix.Auto()),
    "ix.Newton": ours(ix.Newton()),
    "Optimistix Newton": optimistix(optx.Newton),
    "Optimistix Dogleg": optimistix(optx.Dogleg),
    "Optimistix LevenbergMarquardt": optimistix(optx.LevenbergMarquardt),
    "jaxopt Broyden": of_jaxopt,
}
SCIPY = {"SciPy hybr": ("hybr", {"maxfev": 20_000}), "SciPy lm": ("lm", {"maxiter": 20_000})}


def is_root(system: RandomRoot, x: Any) -> bool:
    with np.errstate(all="ignore"):
        residual = np.abs(system.R(np.asarray(x, float), system.p)) / system.units
    return bool(np.all(residual <= SOLVED))


def by_scipy(method: str, options: dict[str, int], systems: list[RandomRoot]) -> list[list[Any]]:
    jacobian = jax.jit(jax.jacfwd(systems[0].R))

    def solve(system: RandomRoot, x0: np.ndarray) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jac = lambda x: np.asarray(jacobian(x, system.p))
            return scipy.optimize.root(lambda x: system.R(x, system.p), x0, method=method, jac=jac, options=options).x

    return [[solve(system, x0) for x0 in system.starts] for system in systems]


def by_jax(solve: Solve, systems: list[RandomRoot]) -> np.ndarray:
    R = systems[0].R
    each_start = jax.vmap(lambda x0, p: solve(R, x0, p), in_axes=(0, None))
    p = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(system.p for system in systems))
    return np.asarray(jax.jit(jax.vmap(each_start))(jnp.stack([system.starts for system in systems]), p))


def run(systems: list[RandomRoot]) -> tuple[collections.Counter, collections.Counter]:
    """How many runs each solver has solved, by family and distance; and how many runs there are."""
    solved, runs = collections.Counter(), collections.Counter()
    for (family, n), group in itertools.groupby(systems, key=lambda system: (system.family, system.x_star.size)):
        group = list(group)
        found = {name: by_jax(solve, group) for name, solve in JAX_SOLVERS.items()}
        found |= {name: by_scipy(*method, group) for name, method in SCIPY.items()}
        for i, system in enumerate(group):
            for j in range(len(DISTANCES)):
                right = {name for name, x in found.items() if is_root(system, x[i][j])}
                runs[family, j] += 1
                solved.update((name, family, j) for name in right)
                solved["any other", family, j] += bool(right - {"ix.Auto", "ix.Newton"})
                solved["another, Auto not", family, j] += (
                    bool(right - {"ix.Auto", "ix.Newton"}) and "ix.Auto" not in right
                )
        print(f"{family} {n}: {len(group)} systems", flush=True)
        jax.clear_caches()
    return solved, runs


def page(solved: collections.Counter, runs: collections.Counter, command: str) -> str:
    families = list(dict.fromkeys(family for family, _ in runs))
    names = [*JAX_SOLVERS, *SCIPY, "any other", "another, Auto not"]
    total = lambda counts, *keys: sum(value for key, value in counts.items() if set(keys) <= set(key))
    rows = [("**all runs**", ())]
    rows += [(f"from {d:g} × the size of x*", (j,)) for j, d in enumerate(DISTANCES)]
    rows += [(family, (family,)) for family in families]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "optimistix", "jaxopt", "scipy")
    )
    lines = [
        "# Systems drawn at random",
        "",
        "The systems of [Robustness](robustness.md) are known, and a method can be fitted to them. So here are others:",
        "nine families of equations with random coefficients, of 2 to 12 unknowns, and two of these families once more",
        "in units of R and x that span six orders of magnitude (`tests/problems/random_roots.py`). Each system has a",
        "known root x*, and is solved from three distances to it. No method was fitted to them, but for the order of",
        "the last starts of `ix.Ladder`, for which another seed was used. A run is solved where the residual of the",
        f"point returned, recomputed in float64, is at most {SOLVED:g} in the units of R. Every solver has its default",
        f"method, up to {STEPS} steps (SciPy 20,000 evaluations), and the exact Jacobian.",
        "",
        "```bash",
        "pip install . jaxopt",
        command,
        "```",
        "",
        f"Measured on {time.strftime('%Y-%m-%d')} with {versions}. Runs solved:",
        "",
        "| | runs | " + " | ".join(names) + " |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for title, keys in rows:
        counts = [total(solved, name, *keys) for name in names]
        lines.append(f"| {title} | {total(runs, *keys)} | " + " | ".join(map(str, counts)) + " |")
    lines += [
        "",
        '"Any other": at least one of the six solvers that are not ours. The last column is what the default misses',
        "although there is a root that another solver finds from the same start.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sizes", type=int, default=3, help="numbers of unknowns drawn for each family")
    parser.add_argument("--each", type=int, default=7, help="systems of each size")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "random-systems.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    command = f"python -m benchmarks.random_roots --seed {options.seed} --sizes {options.sizes} --each {options.each}"
    options.out.write_text(page(*run(draw(options.seed, options.sizes, options.each)), command))


if __name__ == "__main__":
    main()
