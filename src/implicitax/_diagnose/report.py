"""A `Diagnosis` as text, as a table of rich, and in a notebook: the same sections each time."""

import html
import textwrap
from typing import Any, NamedTuple

import numpy as np

from .record import Report
from .shape import line

_WIDTH = 100
_EIGENVALUES = 6


class _Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def _tables(report: Report) -> list[_Table]:
    return [table for table in (_solvers(report), _plain(report), _near(report), _gradient(report)) if table.rows]


def _solvers(report: Report) -> _Table:
    rows = [
        (
            attempt.name,
            "yes" if attempt.success else f"{len(attempt.failed_rows)} rows not" if attempt.failed_rows else "no",
            str(attempt.nfev),
            _number(attempt.residual),
            attempt.worst,
            "" if attempt.seconds is None else f"{attempt.seconds * 1e3:.3g}",
        )
        for attempt in report.attempts
    ]
    F = "F" if report.kind == "fixed_point" else "R"
    columns = "solver", "solved", f"evaluations of {F}", "max|residual|", "largest at", "ms"
    return _Table("Solvers, the one asked for first", columns, rows)


def _plain(report: Report) -> _Table:
    plain = report.picard
    if plain is None:
        return _Table("", (), [])
    sizes = plain.residual if plain.residual.ndim == 1 else np.max(plain.residual, axis=1)
    end = 499 if plain.needed is None else plain.needed
    counts = [count for count in (0, 1, 5, 15, 50, 150, 499) if count < sizes.size and count <= end]
    rows = [
        ("max|F(x) − x| after iteration", ", ".join(f"{count}: {_number(sizes[count])}" for count in counts)),
        ("factor of an iteration, in the end", "" if plain.rate is None else f"{plain.rate:.4g}"),
        ("iterations to the tolerance", "never" if plain.needed is None else str(plain.needed)),
    ]
    if plain.period:
        rows.append(("cycle", f"period {plain.period}"))
    if plain.bad:
        rows.append(("first value that is not finite", plain.bad))
    return _Table("Plain iteration, x ← F(x)", ("", ""), [row for row in rows if row[1]])


def _near(report: Report) -> _Table:
    near = report.local
    if near is None:
        return _Table("", (), [])
    fixed = report.kind == "fixed_point"
    J, A = ("∂F/∂x", "I − ∂F/∂x") if fixed else ("∂R/∂x", "∂R/∂x")
    values = ", ".join(map(_complex, near.eigenvalues[:_EIGENVALUES]))
    more = ", …" if near.eigenvalues.size > _EIGENVALUES or not near.complete else ""
    rows = [
        (f"eigenvalues of {J}", values + more),
        ("spectral radius", f"{near.radius:.4g}"),
        (f"condition of {A}", "" if near.condition is None else f"{near.condition:.3g}"),
        ("the same in units of x", "" if near.condition_scaled is None else f"{near.condition_scaled:.3g}"),
        (f"entries of {J} that are not 0", "" if near.nonzeros is None else f"{near.nonzeros} of {report.size**2}"),
        ("structure", "" if report.pattern is None else line(report.pattern, report.size)),
        ("independent systems", "" if near.blocks is None else str(near.blocks)),
        ("F does not look at", ", ".join(near.ignored)),
        ("F returns as they are" if fixed else "R does not depend on", ", ".join(near.passed)),
        ("no parameter changes", ", ".join(near.unreached)),
    ]
    return _Table("At the solution", ("", ""), [row for row in rows if row[1]])


def _gradient(report: Report) -> _Table:
    columns = "parameter", "shape", "forward", "reverse", "differences", "±", "unrolled", "relative error"
    rows = [
        (
            p.name,
            str(p.shape),
            _number(p.forward, 6),
            _number(p.reverse, 6),
            _number(p.differences, 6),
            _number(p.uncertainty, 1),
            "" if p.unrolled is None else _number(p.unrolled, 6),
            _number(p.error, 1),
        )
        for p in report.parameters
    ]
    title = (
        f"The derivative of a random c·x along a random direction; differences with a relative step of {report.step:g}"
    )
    return _Table(title, columns, rows)


def _number(value: Any, digits: int = 3) -> str:
    return f"{float(value):.{digits}g}"


def _complex(value: Any) -> str:
    value = complex(value)
    if abs(value.imag) <= 1e-12 * abs(value):
        return f"{value.real:.4g}"
    return f"{value.real:.4g}{value.imag:+.4g}i"


def as_text(report: Report) -> str:
    lines = textwrap.wrap(report.verdict, _WIDTH)
    for finding in report.findings:
        lines += ["", *textwrap.wrap(f"{finding.severity.upper()} {finding.code}: {finding.text}", _WIDTH)]
    for table in _tables(report):
        cells = [row for row in (table.columns, *table.rows) if any(row)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
        lines += ["", table.title]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    if report.recommended:
        lines += ["", "Recommended:", f"  {report.recommended}"]
    return "\n".join(lines)


def as_rich(report: Report) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    colours = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
    parts: list[Any] = [Text(report.verdict, style="bold green" if report.healthy else "bold red")]
    for finding in report.findings:
        parts += ["", Text.assemble((f"{finding.severity} {finding.code}: ", colours[finding.severity]), finding.text)]
    for table in _tables(report):
        drawn = Table(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        drawn.show_header = any(table.columns)
        for column in table.columns:
            drawn.add_column(column, overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(Text, row))
        parts += ["", drawn]
    if report.recommended:
        parts += ["", Text.assemble(("Recommended: ", "bold"), report.recommended)]
    return Group(*parts)


def as_html(report: Report) -> str:
    colours = {"error": "#b3261e", "warning": "#8a6d00", "note": "#1f4e8c"}
    verdict = "#1b6e3c" if report.healthy else colours["error"]
    parts = [f'<p style="color:{verdict}"><b>{html.escape(report.verdict)}</b></p>']
    for finding in report.findings:
        label = f'<b style="color:{colours[finding.severity]}">{finding.severity} {finding.code}:</b>'
        parts.append(f"<p>{label} {html.escape(finding.text)}</p>")
    for table in _tables(report):
        rows = [("th", table.columns)] if any(table.columns) else []
        cells = "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in [*rows, *(("td", row) for row in table.rows)]
        )
        parts.append(f"<p><b>{html.escape(table.title)}</b></p><table>{cells}</table>")
    if report.recommended:
        parts.append(f"<p><b>Recommended:</b> <code>{html.escape(report.recommended)}</code></p>")
    return "".join(parts)
