"""Batches that are not normal, kinked and coupled: `python benchmarks/batches.py [--seeds 20] [--out docs/batches.md]`.

The families are those of `tests/problems/batches.py`. A row counts as solvable if plain iteration with one of three
dampings solves it in 3,000 evaluations; "lost" are those of these that a solver does not solve. The figure varies how
much a residual may grow (`_GROWTH` in `_methods/anderson.py`), the memory and the damping.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib
import numpy as np

import implicitax as ix
from implicitax._methods import anderson

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from problems.batches import FAMILIES, step  # noqa: E402

RTOL, PLAIN, STEPS = 1e-9, (0.1, 0.3, 1.0), 3000
FIXED = [(5, 1.0), (5, 0.5), (10, 1.0)]
GROWTHS = (3, 10, 30, 100, 1000)
SHOWN = ("not normal", "kinks, not normal", "few unknowns", "far")


class Rows(NamedTuple):
    """Of all rows of all seeds."""

    success: np.ndarray
    nfev: np.ndarray

    @classmethod
    def of(cls, solver: Any, names: Iterable[str], seeds: list[int], max_steps: int | None = None) -> "list[Rows]":
        solve = jax.jit(
            lambda p: ix.fixed_point(
                step, p.x0, p, batch_axis=0, rtol=RTOL, solver=solver, max_steps=max_steps, throw=False
            )
        )
        found = [[solve(FAMILIES[name].draw(seed)) for seed in seeds] for name in names]
        return [cls(*(np.concatenate([getattr(sol, of) for sol in sols]) for of in cls._fields)) for sols in found]

    def over(self, solvable: np.ndarray) -> str:
        lost = int(np.sum(solvable & ~self.success))
        if not self.success.any():
            return f"{lost} | | "
        return f"{lost} | {np.median(self.nfev[self.success]):.0f} | {self.nfev[self.success].max()}"


def table(seeds: list[int]) -> str:
    plain = [Rows.of(ix.Picard(damping), FAMILIES, seeds, STEPS) for damping in PLAIN]
    auto = Rows.of(None, FAMILIES, seeds)
    fixed = [Rows.of(ix.Anderson(memory, damping), FAMILIES, seeds, STEPS) for memory, damping in FIXED]
    lines = [
        "| family | rows | solvable | `Auto`: lost | median | largest | best fixed one | lost | median | largest |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for i, name in enumerate(FAMILIES):
        solvable = np.any([rows[i].success for rows in plain], axis=0)

        def rank(rows: Rows) -> tuple[int, float]:
            return int(np.sum(~rows.success)), float(np.median(rows.nfev))

        best = min(range(len(FIXED)), key=lambda k: rank(fixed[k][i]))
        lines.append(
            f"| {name} | {solvable.size} | {solvable.sum()} | {auto[i].over(solvable)} | "
            f"`Anderson{FIXED[best]}` | {fixed[best][i].over(solvable)} |"
        )
    return "\n".join(lines)


def figure(seeds: list[int], path: Path) -> None:
    """Rows that are not solved, and the evaluations of those that are, against the limit."""
    _, axes = plt.subplots(2, len(SHOWN), figsize=(12, 5), sharex=True, layout="constrained")
    before = anderson._GROWTH
    for memory, damping in ((5, 1.0), (10, 1.0), (5, 0.5)):
        each: list[list[Rows]] = []
        for growth in GROWTHS:
            anderson._GROWTH = float(growth)
            jax.clear_caches()  # a compiled program knows the constant that it was traced with
            each.append(Rows.of(ix.Anderson(memory, damping), SHOWN, seeds, STEPS))
        for k in range(len(SHOWN)):
            failed = [100 * np.mean(~rows[k].success) for rows in each]
            slow = [np.percentile(rows[k].nfev[rows[k].success], 95) for rows in each]
            for axis, values in zip(axes[:, k], (failed, slow)):
                axis.plot(GROWTHS, values, "o-", label=f"memory {memory}, damping {damping:g}")
    anderson._GROWTH = before
    jax.clear_caches()
    for k, name in enumerate(SHOWN):
        axes[0, k].set(title=name, xscale="log", ylim=(0, None))
        axes[1, k].set(xlabel="growth of the residual allowed", yscale="log")
    axes[0, 0].set_ylabel("rows not solved, %")
    axes[1, 0].set_ylabel("evaluations, 95% of rows")
    axes[0, 0].legend(fontsize=8)
    plt.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", action="store_true", help="also draws docs/images/batches.png")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    text = table(options.seeds)
    print(text)
    if options.out is not None:
        if options.figure:
            figure(options.seeds, options.out.parent / "images" / "batches.png")
        before, _, rest = options.out.read_text().partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end -->\n")
        options.out.write_text(f"{before}<!-- table -->\n{text}\n<!-- end -->\n{after}")


if __name__ == "__main__":
    main()
