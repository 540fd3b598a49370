"""Silent wrong answers: `python -m benchmarks.silent [--each 1600] [--seed 0] [--families name ...]`.

Problems drawn at random, in float64 and float32, of kinds in which a solver has been caught at saying "solved" of what
is not: what each solver says of them, by default settings, and, judged in extended precision by NumPy, whether it is
so. A value is wrong if the solver says that it has converged and the error is above 1000 times tolerance times
condition; a derivative if it is finite, that of a right value, and above that. Writes `docs/silent.md`. It needs
jaxopt, which implicitax does not: `pip install jaxopt`.
"""

import argparse
import collections
import json
import os
from pathlib import Path
from typing import Any

# Compiling takes most of the time, and how fast the programs are does not matter here.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import numpy as np

from . import peers
from .families import FAMILIES, Family, draw
from .judge import derivative, derivative_is_right, right
from .page import page

ROOT = Path(__file__).parents[2]
DOCS, RESULTS = ROOT / "docs" / "silent.md", ROOT / "benchmarks" / "results" / "silent"  # a file a family
BY_SCIPY = 100  # problems a group: one after the other
DERIVATIVES = 50  # unknowns up to which they are compared
DTYPES = (np.float64, np.float32)

Counts = collections.Counter


def count_values(counts: Counts, key: tuple[str, ...], success: np.ndarray, good: np.ndarray) -> None:
    counts[(*key, "right")] += int((success & good).sum())
    counts[(*key, "wrong")] += int((success & ~good).sum())
    counts[(*key, "loud")] += int((~success).sum())


def run(family: Family, n: int, dtype: Any, count: int, seed: int, counts: Counts) -> None:
    x0, p = draw(family, n, dtype, count, seed)
    tolerance = float(np.finfo(dtype).eps) ** (2 / 3)
    rng = np.random.default_rng(seed)
    direction = {name: (np.abs(v) * rng.normal(size=v.shape)).astype(dtype) for name, v in p.items()}
    with jax.enable_x64(dtype == np.float64), np.errstate(all="ignore"):
        for peer in peers.PEERS:
            if family.kind not in peer.kinds:
                continue
            x, success = peers.values(peer, family, tolerance, x0, p)
            good = right(family, x, x0, p, tolerance)
            count_values(counts, (family.name, "value", peer.name), success, good)
            if peer.differentiable and n <= DERIVATIVES:
                want = derivative(family, x, p, direction, tolerance)
                for mode, got in zip(
                    ("forward", "reverse"), peers.derivatives(peer, family, tolerance, x0, p, direction)
                ):
                    told = success & good & np.isfinite(got).all(-1)
                    known = family.singular | np.isfinite(want.value).all(-1)
                    fits = derivative_is_right(family, got, want, x0, p, tolerance)
                    key = (family.name, mode, peer.name)
                    count_values(counts, key, told[success & good & known], fits[success & good & known])
        some = slice(0, BY_SCIPY)
        few = {name: value[some].astype(float) for name, value in p.items()}
        x, success = peers.by_scipy(family, tolerance, x0[some].astype(float), few)
        count_values(counts, (family.name, "value", "SciPy hybr"), success, right(family, x, x0[some], few, tolerance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=1600, help="problems of each family, size and precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="*", help="parts of the names of those to run; the others stay as they are")
    options = parser.parse_args()
    for family in FAMILIES:
        if options.families is None or any(part in family.name for part in options.families):
            counts = Counts()
            for n in family.sizes:
                count = options.each if n <= 10 else max(2 * options.each // n, 4)
                for dtype in DTYPES:
                    run(family, n, dtype, count, options.seed, counts)
                jax.clear_caches()
            RESULTS.mkdir(parents=True, exist_ok=True)
            record = {"/".join(key[1:]): value for key, value in sorted(counts.items())}
            (RESULTS / f"{slug(family)}.json").write_text(json.dumps(record, indent=1) + "\n")
            wrong = {what: value for what, value in record.items() if "implicitax" in what}
            print(f"{family.name}: {wrong}", flush=True)
    counts = Counts()
    for family in FAMILIES:
        path = RESULTS / f"{slug(family)}.json"
        if path.exists():
            counts.update({(family.name, *key.split("/")): n for key, n in json.loads(path.read_text()).items()})
    DOCS.write_text(page(counts, options, BY_SCIPY, peers.STEPS))


def slug(family: Family) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in family.name)


if __name__ == "__main__":
    main()
