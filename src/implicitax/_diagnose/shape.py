"""The sparsity pattern of a problem, and what it saves."""

import numpy as np

from .._linear import Structure
from .._plan import LEAST
from .._problem import Kind
from .._problem.pattern import Pattern as Entries
from .problem import Case
from .record import Finding, Pattern

_CELLS = 60  # rows and columns of the picture


def look(case: Case) -> Pattern | None:
    """None where no pattern was found, as without a derivative."""
    found = case.problem.by_pattern(case.theta, described)
    if found is None:
        return None
    entries, structure = found
    n = case.problem.size
    cells = min(_CELLS, n)
    counts, _, _ = np.histogram2d(entries.rows, entries.cols, bins=cells, range=[[0, n], [0, n]])
    return Pattern(
        entries=int(entries.entries),
        form="" if structure is None else structure.form.describe(),
        tangents=n if structure is None else structure.colouring.cost,
        used=n > LEAST and structure is not None and case.batch_axis is None,
        picture=counts.astype(int),
    )


def described(entries: Entries, kind: Kind) -> tuple[Entries, Structure | None]:
    return entries, Structure.of(entries, kind)


def line(pattern: Pattern, n: int) -> str:
    """One line; empty where there is none."""
    if not pattern.form:
        return ""
    return f"{pattern.form}, {pattern.tangents} tangents in place of {n}"


def finding(pattern: Pattern, n: int) -> Finding:
    share = 100 * pattern.entries / n**2
    use = (
        "The default uses it, in its steps and in the derivative."
        if pattern.used
        else f"The default uses it above {LEAST} unknowns, and not in a batch; `sparsity=` makes it do so here."
    )
    return Finding(
        "note",
        "structure",
        f"∂R/∂x is {line(pattern, n)}: {pattern.entries:,} of {n * n:,} entries ({share:.2g}%), so A takes "
        f"{n / pattern.tangents:.3g} times fewer tangents, and is eliminated as what it is. {use} "
        "`ix.plot_structure` draws it.",
    )
