"""Figures. Each is built as a matplotlib `Figure` of its own: pyplot and the user's backend are left alone."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .._diagnose.convergence import DARK, GREY, INK, LIGHT
from .systems import Curve

# Each with its own line or marker too.
_CURVES: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": "-", "solid_capstyle": "butt"},
    {"color": GREY, "linestyle": (0, (6, 2.5))},
)
_TRAILS: tuple[dict[str, Any], ...] = (
    {"color": LIGHT, "marker": "o", "markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.3},
    {"color": DARK, "marker": "s", "markersize": 4.5},
    {"color": DARK, "marker": "D", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.3},
)
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11.5,
    "axes.labelsize": 12,
    "axes.titlepad": 10,
    "mathtext.fontset": "dejavusans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}

Range = tuple[float, float]


class Trail(NamedTuple):
    """The points at which one solve evaluated its system, the guess first."""

    label: str
    points: Float[np.ndarray, "k 2"]
    style: int  # which of `_TRAILS`


class Note(NamedTuple):
    """A text beside a point, `offset` printer's points away; a crossing has a ring around it."""

    text: str
    x: Float[np.ndarray, "2"]
    offset: tuple[float, float]
    ring: bool = False


class Panel(NamedTuple):
    """What one system's panel shows."""

    title: str
    curves: tuple[Curve, Curve]
    trails: tuple[Trail, ...]
    notes: tuple[Note, ...]
    limits: tuple[Range, Range]
    inset: tuple[Range, Range] | None = None  # a part to enlarge


def formats() -> tuple[str, ...]:
    """The file name endings that a figure can be saved under."""
    return tuple(sorted(f".{name}" for name in FigureCanvasAgg.get_supported_filetypes()))


def save_panels(panels: tuple[Panel, ...], path: Path) -> None:
    """Draws the panels side by side and saves them at 200 dpi."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.9 * len(panels), 5.4), layout="tight")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, panel in zip(axes, panels):
            _draw(ax, panel)
        figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.15)


def _draw(ax: Axes, panel: Panel) -> None:
    _lines(ax, panel, panel.limits)
    for note in panel.notes:
        _write(ax, note)
    ax.set_title(panel.title)
    ax.set_xlabel("$x_0$")
    ax.set_ylabel("$x_1$")
    ax.set_box_aspect(1)
    if panel.inset is not None:
        part = ax.inset_axes((0.14, 0.09, 0.36, 0.36))
        _lines(part, panel, panel.inset)
        part.tick_params(labelsize=8)
        part.locator_params(nbins=3)
        part.spines[:].set_visible(True)
        ax.indicate_inset_zoom(part, edgecolor=INK, linewidth=0.7)
    # Below the axes, where it can hide nothing.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)


def _lines(ax: Axes, panel: Panel, limits: tuple[Range, Range]) -> None:
    for curve, style in zip(panel.curves, _CURVES):
        ax.plot(curve.x0, curve.x1, label=curve.label, linewidth=1.5, **style)
    for trail in panel.trails:
        ax.plot(*trail.points.T, label=trail.label, linewidth=0.9, zorder=3, **_TRAILS[trail.style])
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])


def _write(ax: Axes, note: Note) -> None:
    if note.ring:
        ax.plot(*note.x, marker="o", color=INK, markersize=13, markerfacecolor="none", markeredgewidth=1.2, zorder=4)
    ax.annotate(
        note.text,
        (note.x[0], note.x[1]),
        textcoords="offset points",
        xytext=note.offset,
        ha="left" if note.offset[0] > 0 else "right",
        va="center",
    )
