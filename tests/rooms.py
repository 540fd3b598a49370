"""Draws the rooms of the package, `docs/images/rooms.png`: `make rooms`, or `python tests/rooms.py`.

A room is a file or a folder of `src/implicitax`, with the number of its lines. An arrow goes from a room to one that
it imports, which is always further down. An arrow that a longer way of arrows replaces is left out.
"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from test_house import MODULES, ROOMS, ROOT, imports

INK, FILL, LINE = "#1a1a1a", "#dfe7f2", "#1f4e8c"
SAYS = {
    "_xla": "work-arounds",
    "_tree": "pytrees, leaves",
    "_errors": "checks, texts",
    "_solution": "Solution, Status",
    "_problem": "F traced",
    "_linear": "A y = b",
    "_methods": "one a file",
    "_loop": "loop, verdict",
    "_rule": "the derivative",
    "_plan": "keywords, Auto",
    "_solve": "fixed_point, root",
    "_layers": "Equinox modules",
    "_custom": "your own solver",
    "_sweep": "many problems",
    "_diagnose": "is it right?",
    "__init__": "public names",
    "_app": "demo, bench",
    "cli": "command line",
}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def arrows() -> dict[str, set[str]]:
    """Which rooms each room imports; of two ways to the same room the longer one."""
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in MODULES.items():
        used[room_of(module)] |= {room_of(name) for name in imports(module, path)} - {room_of(module)}
    below: dict[str, set[str]] = {}
    for room in ROOMS:  # in the order of imports
        below[room] = used[room].union(*(below[other] for other in used[room]))
    return {room: {o for o in used[room] if not any(o in below[other] for other in used[room])} for room in ROOMS}


def floors(used: dict[str, set[str]]) -> dict[str, int]:
    """Each room as high as it can be: one below the lowest of those that import it."""
    found: dict[str, int] = {}
    for room in reversed(ROOMS):
        found[room] = min((found[other] for other in used if room in used[other]), default=0) - 1
    lowest = min(found.values())
    return {room: level - lowest for room, level in found.items()}


def draw(path: Path) -> None:
    used = arrows()
    floor = floors(used)
    lines = dict.fromkeys(ROOMS, 0)
    for module, source in MODULES.items():
        lines[room_of(module)] += len(source.read_text().splitlines())
    figure = Figure(figsize=(7.4, 9.4))
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    at, half = {}, {}
    for level in sorted(set(floor.values())):
        rooms = [room for room in ROOMS if floor[room] == level]
        for i, room in enumerate(rooms):
            at[room] = (3.4 * (i - (len(rooms) - 1) / 2), 1.7 * level)
            half[room] = (1.05 + 0.014 * lines[room] ** 0.5, 0.42 + 0.004 * lines[room] ** 0.5)
    for room, others in used.items():
        for other in others:
            (x0, y0), (x1, y1) = at[room], at[other]
            ends = {"xy": (x1, y1 + half[other][1]), "xytext": (x0, y0 - half[room][1])}
            style = {"arrowstyle": "-|>", "color": LINE, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", **ends, arrowprops=style)
    for room, (x, y) in at.items():
        width, height = half[room]
        box = Rectangle((x - width, y - height), 2 * width, 2 * height, facecolor=FILL, edgecolor=INK, zorder=3)
        ax.add_patch(box)
        ax.text(x, y + 0.16, room, ha="center", va="center", fontsize=10, color=INK, zorder=4)
        ax.text(x, y - 0.2, f"{SAYS[room]} ({lines[room]})", ha="center", va="center", fontsize=7, color=INK, zorder=4)
    ax.autoscale_view()
    ax.margins(0.02)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(ROOT / "docs" / "images" / "rooms.png")
