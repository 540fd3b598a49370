"""Whether the solution is the one that was meant: other solutions, by other guesses."""

from collections.abc import Iterator

from .evidence import Evidence
from .record import Finding


def findings(seen: Evidence) -> Iterator[Finding]:
    start, other, fixed = seen.unstable, seen.another, seen.case.problem.kind == "fixed_point"
    if start is not None:
        away = "does not settle" if start.there is None else f"ends where that is {start.there:.4g}"
        value = start.eigenvalue
        number = f"{value.real:.3g}" if abs(value.imag) < 1e-12 * abs(value) else f"{value:.3g}"
        yield Finding(
            "warning",
            "unstable-start",
            f"x0 is itself a fixed point, and an unstable one: ∂F/∂x has the eigenvalue {number} there. So x is x0. "
            f"Plain iteration from next to it, where {start.place} is {start.here:.4g}, {away}. If that is the one you "
            "want, start there.",
        )
    if other is not None:
        what = "fixed point" if fixed else "root"
        yield Finding(
            "warning" if other.near else "note",
            "second-solution",
            f"There {'is' if other.sure else 'may be'} another {what}: "
            f"from a guess {other.from_x0:.2g} of its size away from x0 the same solver finds "
            f"{other.place} = {other.there:.5g}, not {other.here:.5g}. The derivative is that of the one found; look "
            "which one you want, and start close to it.",
        )
