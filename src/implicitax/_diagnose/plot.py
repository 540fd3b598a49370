"""The figure of a `Diagnosis`: convergence, eigenvalues, derivatives."""

from typing import Any

import numpy as np

from .convergence import DARK, GREY, INK, LIGHT, curve, figure
from .record import Report
from .shape import line

_MOST = 12  # parameters


def draw(report: Report) -> Any:
    structured = report.pattern is not None and report.pattern.form != ""
    count = 4 if structured else 3
    fig = figure("diagnosis.plot()", (4.2 * count, 4.2))
    left, middle, right, *last = fig.subplots(1, count)
    _convergence(left, report)
    _eigenvalues(middle, report)
    _derivatives(right, report)
    for ax in last:
        _structure(ax, report)
    fig.suptitle(report.verdict, fontsize=10, wrap=True)
    return fig


def _convergence(ax: Any, report: Report) -> None:
    if report.picard is not None:
        curve(ax, report.picard.residual.T, "plain iteration", GREY)
    if report.attempts and report.attempts[0].history is not None:
        curve(ax, report.attempts[0].history, report.attempts[0].name, DARK)
        if report.picard is not None:  # which may go on much longer
            ax.set_xlim(-1, 3 * report.attempts[0].history.shape[-1] + 10)
    ax.set_xlabel("evaluation of F" if report.kind == "fixed_point" else "evaluation of R")
    ax.set_ylabel("max |F(x) − x|" if report.kind == "fixed_point" else "max |R(x)|")
    ax.set_yscale("log")
    ax.set_title("Convergence")
    if ax.lines:
        ax.legend(frameon=False)


def _eigenvalues(ax: Any, report: Report) -> None:
    fixed = report.kind == "fixed_point"
    ax.set_title("Eigenvalues of ∂F/∂x" if fixed else "Eigenvalues of ∂R/∂x")
    ax.set_xlabel("real part")
    ax.set_ylabel("imaginary part")
    if fixed:
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(angle), np.sin(angle), color=INK, linewidth=1)
        ax.annotate("plain iteration\nconverges inside", (0, -0.55), ha="center", va="center", color=GREY, fontsize=8)
        ax.set_aspect("equal", adjustable="datalim")
    if report.local is not None:
        values = report.local.eigenvalues
        ax.plot(np.real(values), np.imag(values), "o", color=LIGHT, markeredgecolor=INK, markersize=5)


def _derivatives(ax: Any, report: Report) -> None:
    """How far the implicit derivative is from differences, and those may be off."""
    ax.set_title("Error of the derivative")
    ax.set_xlabel("relative to central differences")
    ax.set_xscale("log")
    ax.set_xlim(1e-13, 30)
    ax.axvspan(1e-3, 30, color=LIGHT, alpha=0.12, linewidth=0)
    shown = report.parameters[:_MOST]
    ax.set_yticks(range(len(shown)), [p.name for p in shown], fontsize=8)
    ax.invert_yaxis()
    for i, p in enumerate(shown):
        if not np.isfinite(p.reverse):
            ax.text(1e-12, i, "undefined", color=LIGHT, va="center", fontsize=9)
            continue
        size = max(abs(p.differences), abs(p.reverse))
        if size == 0:
            ax.text(1e-12, i, "no influence", color=GREY, va="center", fontsize=9)
            continue
        ax.plot([1e-13, max(p.uncertainty / size, 1e-13)], [i, i], color=GREY, linewidth=5, alpha=0.5)
        ax.plot(max(p.error, 2e-13), i, "o", color=LIGHT if p.error > 1e-3 else DARK, markersize=7)


def _structure(ax: Any, report: Report) -> None:
    """The shade says how many entries there are."""
    pattern, n = report.pattern, report.size
    assert pattern is not None
    shade = np.where(pattern.picture > 0, np.log1p(pattern.picture), np.nan)
    ax.imshow(shade, extent=(-0.5, n - 0.5, n - 0.5, -0.5), cmap="viridis_r", interpolation="nearest")
    ax.set_title(line(pattern, n), fontsize=10)
    ax.set_xlabel("unknown")
    ax.set_ylabel("equation")
