"""The plots of the page."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from .peers import OURS

mpl.use("agg")

import matplotlib.pyplot as plt


def draw(kept: dict[str, Any], folder: Path) -> dict[str, str]:
    """The file name of the plot of each regime that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, plot in (("million", bars), ("dense", curves)):
        if name in kept:
            found[name] = f"speed-{name}.png"
            figure = plot(kept[name]["records"])
            figure.savefig(folder / found[name], dpi=120, metadata={"Software": None})
            plt.close(figure)
    return found


def bars(records: list[dict[str, Any]]) -> Any:
    """Nanoseconds a system, the fastest at the top."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, what in zip(axes, dict.fromkeys(record["what"] for record in records)):
        rows = [record for record in records if record["what"] == what and "seconds" in record]
        rows.sort(key=lambda record: -record["seconds"])
        colours = ["C1" if record["who"].startswith(OURS) else "0.7" for record in rows]
        drawn = ax.barh([record["who"] for record in rows], [record["seconds"] * 1e9 for record in rows], color=colours)
        ax.bar_label(drawn, fmt="%.3g", padding=2, fontsize=7)
        ax.set(xscale="log", title=what, xlabel="ns a system")
        ax.margins(x=0.15)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def curves(records: list[dict[str, Any]]) -> Any:
    """Time against n; a solver has the same colour in both."""
    names = dict.fromkeys(record["who"].removesuffix(", LU") for record in records if record["who"] != OURS)
    strong, pale = mpl.color_sequences["tab20"][::2], mpl.color_sequences["tab20"][1::2]
    known = dict(zip(names, [*strong[:1], *strong[2:], *pale]))  # without C1, which is ours
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    for ax, what in zip(axes, dict.fromkeys(record["what"] for record in records)):
        for who in dict.fromkeys(record["who"] for record in records if record["what"] == what):
            rows = [r for r in records if (r["who"], r["what"]) == (who, what) and "seconds" in r]
            n = [int(record["case"].removeprefix("n = ")) for record in rows]
            other = {"color": known.get(who.removesuffix(", LU")), "lw": 1}
            style = {"color": "C1", "lw": 2.5, "zorder": 3} if who == OURS else other
            ax.loglog(n, [record["seconds"] * 1e3 for record in rows], "o-", ms=3, label=who, **style)
        ax.set(title=what, xlabel="unknowns")
        ax.legend(fontsize=7, frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("ms")
    return figure
