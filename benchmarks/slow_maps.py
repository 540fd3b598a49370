"""Slow maps: `python benchmarks/slow_maps.py [--seeds 3] [--out docs/slow-maps.md]`.

The families are those of `tests/problems/slow.py` and `piecewise.py`. Whoever returns x, it counts as solved if
`max|F(x) − x| ≤ 2e-10·max|x|`, evaluated here. Every solver is given what says the same in its own terms: implicitax
`rtol=1e-10`, to which atol adds as much; the others the number itself, with max|x| of the answer from elsewhere.
"""

import argparse
import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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

from problems import piecewise, slow  # noqa: E402
from problems.slow import Case  # noqa: E402

RTOL, STEPS, STEPS_OF_SCIPY = 1e-10, 20_000, 2000
FAMILIES = {**slow.FAMILIES, **piecewise.FAMILIES}

Solve = Callable[[Case, float], tuple[Any, Any]]  # and the residual allowed -> x, evaluations of F


class Entry(NamedTuple):
    solved: bool
    evaluations: float


def compiled(solve: Callable[..., tuple[Any, Any]]) -> Solve:
    """One program a family: `solve(F, x0, theta, allowed)`."""
    program = functools.cache(lambda F: jax.jit(functools.partial(solve, F)))
    return lambda case, allowed: program(case.F)(case.x0, case.theta, allowed)


def ours(solver: Any) -> Solve:
    def solve(F: Any, x0: Any, theta: Any, allowed: Any) -> tuple[Any, Any]:
        sol = ix.fixed_point(F, x0, theta, solver=solver, rtol=RTOL, max_steps=STEPS, throw=False)
        return sol.x, sol.nfev

    return compiled(solve)


def optimistix(F: Any, x0: Any, theta: Any, allowed: Any) -> tuple[Any, Any]:
    solver = optx.FixedPointIteration(rtol=0.0, atol=allowed)
    sol = optx.fixed_point(F, solver, x0, theta, max_steps=STEPS, throw=False)
    return sol.value, sol.stats["num_steps"]


def jaxopt_anderson(F: Any, x0: Any, theta: Any, allowed: Any) -> tuple[Any, Any]:
    solver = jaxopt.AndersonAcceleration(F, maxiter=STEPS, tol=allowed, implicit_diff=False)
    x, state = solver.run(x0, theta)
    return x, state.iter_num


def counted(find: Callable[[Callable[[Any], Any], Any, float], Any]) -> Solve:
    """A solver of SciPy's, with F compiled."""
    program = functools.cache(jax.jit)

    def solve(case: Case, allowed: float) -> tuple[Any, Any]:
        calls, shape = 0, case.x0.shape

        def F(x: Any) -> np.ndarray:
            nonlocal calls
            calls += 1
            return np.asarray(program(case.F)(x.reshape(shape), case.theta)).ravel()

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                x = find(F, case.x0.ravel(), allowed)
            except (RuntimeError, ValueError, np.linalg.LinAlgError):
                x = np.full(case.x0.size, np.nan)
        return np.reshape(x, shape), calls

    return solve


def scipy_anderson(F: Any, x0: Any, allowed: float) -> Any:
    options = {"fatol": allowed, "maxiter": STEPS_OF_SCIPY}
    return scipy.optimize.root(lambda x: F(x) - x, x0, method="anderson", options=options).x


def scipy_fixed_point(F: Any, x0: Any, allowed: float) -> Any:
    return scipy.optimize.fixed_point(F, x0, xtol=RTOL, maxiter=STEPS_OF_SCIPY)


SOLVERS: dict[str, Solve] = {
    "`Auto`": ours(None),
    "`Picard`": ours(ix.Picard()),
    "`Squarem`": ours(ix.Squarem()),
    "`Anderson`": ours(ix.Anderson()),
    "Optimistix FixedPointIteration": compiled(optimistix),
    "jaxopt AndersonAcceleration": compiled(jaxopt_anderson),
    "SciPy anderson": counted(scipy_anderson),
    "SciPy fixed_point": counted(scipy_fixed_point),
}


def entry(case: Case, solve: Solve) -> Entry:
    allowed = 2 * RTOL * float(np.max(np.abs(case.solution(case.theta))))
    x, evaluations = solve(case, allowed)
    x = np.asarray(x)
    residual = np.max(np.abs(np.asarray(case.F(jnp.asarray(x), case.theta)) - x))
    return Entry(bool(residual <= 2 * RTOL * np.max(np.abs(x))), float(evaluations))


def shown(entries: list[Entry]) -> str:
    """The median number of evaluations; how many are solved where it is not all."""
    solved = [e.evaluations for e in entries if e.solved]
    if not solved:
        return "✗"
    few = f" ({len(solved)} of {len(entries)})" if len(solved) < len(entries) else ""
    return f"{np.median(solved):,.0f}{few}"


def table(seeds: int) -> str:
    lines = [f"| family | n | {' | '.join(SOLVERS)} |", "|---|---:|" + "---:|" * len(SOLVERS)]
    solved = dict.fromkeys(SOLVERS, 0)
    for name, draw in FAMILIES.items():
        cases = [draw(100 + seed) for seed in range(seeds)]
        cells = []
        for solver, solve in SOLVERS.items():
            entries = [entry(case, solve) for case in cases]
            solved[solver] += sum(e.solved for e in entries)
            cells.append(shown(entries))
        lines.append(f"| {name} | {cases[0].x0.size} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines.append(f"| **solved** of {seeds * len(FAMILIES)} | | {' | '.join(map(str, solved.values()))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="draws of each family")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    text = table(options.seeds)
    print(text)
    if options.out is not None:
        before, _, rest = options.out.read_text().partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        options.out.write_text(f"{before}<!-- table -->\n{text}\n<!-- end -->\n{after}")


if __name__ == "__main__":
    main()
