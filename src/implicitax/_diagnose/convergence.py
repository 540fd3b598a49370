"""`plot_convergence`: the history of a solve as a figure. Needs matplotlib, of the extra `cli`."""

from typing import Any

import numpy as np

from .._errors import mistake
from .._solution import Solution, Status

# Distinct in lightness as well as in hue, so that a grey print can be read.
INK, GREY, LIGHT, DARK = "#1a1a1a", "#808080", "#e08a1e", "#1f4e8c"
_LINES = 12  # lanes up to which each is drawn by itself


def plot_convergence(sol: Solution, ax: Any = None) -> Any:
    """Draws max |residual| and the step of each evaluation of a solve made with `history=True`; returns the figure.

    Of many lanes or rows the median and the range are drawn, and by themselves the first of those that have failed.

    **Arguments:**

    - `sol`: a `Solution` with a history.
    - `ax`: the axes of matplotlib to draw in; by default those of a new figure.

    **Returns:** the `matplotlib.figure.Figure`. To keep it: `figure.savefig("convergence.png")`.

    **Raises:** `ValueError` if the solve was made without a history; `ImportError` without matplotlib.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> sol = ix.fixed_point(jnp.cos, 1.0, solver=ix.Picard(), history=True)
    >>> figure = ix.plot_convergence(sol)
    >>> figure.axes[0].get_ylabel()
    'max |residual|'

    ```
    """
    if not isinstance(sol, Solution) or sol.history is None:
        raise ValueError(
            mistake(
                "plot_convergence(sol)",
                "a `Solution` with a history",
                "one without" if isinstance(sol, Solution) else type(sol).__name__,
                "A solve keeps no history unless it is asked to.",
                "Solve with `history=True`; if it fails, with `throw=False` too.",
            )
        )
    created = figure("plot_convergence(...)", (6.4, 4.2)) if ax is None else ax.figure
    ax = created.subplots() if ax is None else ax
    entries = sol.history.residual.shape[-1]
    records = (np.asarray(a).reshape(-1, entries) for a in (sol.history.residual, sol.history.step))
    sizes, steps = (np.where(a < 0, np.nan, a) for a in records)
    every = np.broadcast_to(np.asarray(sol.history.every).reshape(-1), (sizes.shape[0],))
    failed = np.broadcast_to(np.asarray(sol.status).reshape(-1) != Status.CONVERGED, (sizes.shape[0],))
    scale = int(every.max())
    # A lane that has ended early may have an entry of more of its evaluations than the longest.
    sizes, steps = (np.stack([_thinned(row, scale // int(e)) for row, e in zip(a, every)]) for a in (sizes, steps))
    curve(ax, steps, "step", GREY, scale)
    curve(ax, sizes, "residual", DARK, scale)
    if failed.any() and sizes.shape[0] > 1:
        curve(ax, sizes[failed][:1], f"residual of lane {int(np.argmax(failed))}, not solved", LIGHT, scale)
    ax.set_yscale("log")
    ax.set_xlabel("evaluation")
    ax.set_ylabel("max |residual|")
    ax.set_title(f"{sol.solver}", fontsize=10)
    ax.legend(frameon=False)
    return created


def figure(argument: str, size: tuple[float, float]) -> Any:
    """A figure of its own: pyplot and the user's backend are left alone."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            mistake(
                argument,
                "the package matplotlib",
                "none",
                "It is not among what implicitax itself needs.",
                "Install it with `pip install 'implicitax[cli]'`.",
            )
        ) from error
    created = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(created)
    return created


def curve(ax: Any, values: np.ndarray, label: str, colour: str, every: int = 1) -> None:
    """One line an entry of the last axis; of many, the median and a band from the smallest to the largest."""
    rows = np.atleast_2d(np.where(np.isfinite(values) & (values > 0), values, np.nan))
    rows = rows[:, np.any(np.isfinite(rows), axis=0)] if rows.shape[0] > 1 else rows
    at = every * np.arange(rows.shape[1])
    if rows.shape[0] <= _LINES:
        for i, row in enumerate(rows):
            ax.plot(at, row, color=colour, linewidth=1.4, label=None if i else label)
        return
    ax.plot(at, np.nanmedian(rows, axis=0), color=colour, linewidth=1.4, label=f"{label}, median of {rows.shape[0]}")
    ax.fill_between(at, np.nanmin(rows, axis=0), np.nanmax(rows, axis=0), color=colour, alpha=0.2, linewidth=0)


def _thinned(row: np.ndarray, stride: int) -> np.ndarray:
    """Every so many entries, filled up to the old length."""
    kept = row[::stride]
    return np.concatenate([kept, np.full(row.size - kept.size, np.nan)])
