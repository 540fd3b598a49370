"""The page of the results."""

import collections
import datetime
import importlib.metadata
from typing import Any

from .families import FAMILIES

INTRODUCTION = """# Right or loud

A solver that fails and says so costs an afternoon; one that fails and says "solved" costs a paper. So here are {total}
problems drawn at random, of {kinds} kinds (`benchmarks/silent/families.py`), in each of which a solver has been caught
at that; half of them in float64 and half in float32.{missing}

Every solver has its default method, the tolerance eps^(2/3) of the dtype that is our default, and up to {steps} steps
(implicitax and SciPy: their default). *Right* is an answer that the solver calls converged, and whose error, found in
extended precision by NumPy, is at most 1000 times tolerance times condition; *wrong* is one that it calls converged,
and is not; *loud* is the rest. Raising where there is an answer is a failure too, but one that is seen. Where A is
singular no root is *the* root, and a condition above 10⁷ leaves none of the digits of float32: there any point with a
small R counts as right. SciPy solves one problem after the other, and so the first {few} of each group only.

```bash
pip install . jaxopt
{command}
```

Measured on {date} with {versions}.
"""


def page(counts: collections.Counter, options: Any, few: int, steps: int) -> str:
    problems = {key[:3]: 0 for key in counts}
    for key, count in counts.items():
        problems[key[:3]] += count
    ours = sum(n for (_, what, peer), n in problems.items() if (what, peer) == ("value", "implicitax"))
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "optimistix", "jaxopt", "scipy")
    )
    measured = {family for family, _, _ in problems}
    missing = [family.name for family in FAMILIES if family.name not in measured]
    text = INTRODUCTION.format(
        total=f"{ours:,}",
        kinds=len(measured),
        missing=f" Not measured yet: {'; '.join(missing)}." if missing else "",
        steps=steps,
        few=few,
        command=f"python -m benchmarks.silent --each {options.each} --seed {options.seed}",
        date=datetime.date.today().isoformat(),
        versions=versions,
    )
    parts = [text, "## Values\n", "Right / wrong / loud:\n"]
    for kind, title in (("root", "Roots"), ("fixed_point", "Fixed points")):
        names = [family.name for family in FAMILIES if family.kind == kind]
        parts += [f"### {title}\n", _table(counts, problems, names, "value")]
    parts += [
        "## Derivatives\n",
        "Of the values that are right, in a random direction. Loud is NaN. Singular problems and conserved totals have "
        "no derivative: the answer depends on the guess (`constraint` says on what).\n",
    ]
    for mode in ("forward", "reverse"):
        parts += [f"### {mode.capitalize()} mode\n", _table(counts, problems, [f.name for f in FAMILIES], mode)]
    return "\n".join(parts)


def _table(
    counts: collections.Counter, problems: dict[tuple[str, str, str], int], families: list[str], what: str
) -> str:
    peers = {peer for family, asked, peer in problems if asked == what and family in families}
    peers = sorted(peers, key=lambda peer: (peer != "implicitax", peer))
    if not peers:
        return ""
    lines = ["| | " + " | ".join(peers) + " |", "|---|" + "---|" * len(peers)]
    totals = collections.Counter()

    def cells(family: str) -> str:
        each = []
        for peer in peers:
            found = [counts[family, what, peer, outcome] for outcome in ("right", "wrong", "loud")]
            for outcome, count in zip(("right", "wrong", "loud"), found):
                totals[peer, outcome] += count
            each.append(" / ".join(f"{count:,}" for count in found) if any(found) else "")
        return " | ".join(each)

    lines += [
        f"| {family} | {cells(family)} |" for family in families if any((family, what, p) in problems for p in peers)
    ]
    sums = (" / ".join(f"{totals[peer, outcome]:,}" for outcome in ("right", "wrong", "loud")) for peer in peers)
    return "\n".join([*lines, "| **all** | " + " | ".join(sums) + " |", ""])
