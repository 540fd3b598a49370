"""The report as an object that shows itself."""

import dataclasses
from typing import Any

import numpy as np

from . import plot, report
from .record import Report


class Diagnosis(Report):
    """The report of `diagnose`. Print it, or look at its parts.

    - `verdict`: one line.
    - `findings`: what was found, the gravest first; each with `severity`, `code` and `text`.
    - `healthy`: whether none of them is an error.
    - `recommended`: a line of code to paste.
    - `picard`, `attempts`, `local`, `pattern`, `parameters`: the numbers; None or empty where they could not be had.

    `print(report)` shows it as text, rich and notebooks show it as tables, `report.plot()` is a matplotlib `Figure`,
    and `report.to_dict()` has everything for JSON.
    """

    def to_dict(self) -> dict[str, Any]:
        """Everything as Python's lists and numbers, for JSON; what is not finite as text."""
        return {"healthy": self.healthy} | _plain(dataclasses.asdict(self))

    def __str__(self) -> str:
        return report.as_text(self)

    def _repr_html_(self) -> str:
        return report.as_html(self)

    def __rich__(self) -> Any:
        return report.as_rich(self)

    def plot(self) -> Any:
        """A matplotlib `Figure`: convergence, eigenvalues, errors of the gradient. Needs the extra `cli`."""
        return plot.draw(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, complex):
        return {"real": _plain(value.real), "imag": _plain(value.imag)}
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
