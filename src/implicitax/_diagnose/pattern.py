"""`plot_structure`: which entries of A there are, and what they cost, as a figure. Needs matplotlib."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._errors.keywords import check_kind
from .._linear import Structure
from .._plan import LEAST
from .._problem import Call, Kind, Problem, hoist
from .._problem.pattern import Pattern
from .convergence import DARK, GREY, INK, LIGHT, figure
from .shape import described

_POINTS = 20_000  # entries up to which each is a point
_CELLS = 400  # rows and columns of the picture of more
_HUES = (DARK, LIGHT, "#5a9e6f", "#a8456b", "#7a6fb0", GREY)  # of the tangents, again and again


def plot_structure(F: Callable[..., Any], x0: PyTree, *args: Any, kind: Kind = "fixed_point", ax: Any = None) -> Any:
    """Draws which entries of A = ∂R/∂x, or of ∂F/∂x − I, may differ from 0, and says how A is solved with.

    Entries of one colour come from one tangent of R. Where they are too many, the shade says how many there are.
    Nothing is solved: the pattern is read off R, and holds at every x.

    **Arguments:** F or R, x0, `*args` as in `fixed_point` and `root`; `kind` says which of the two, `"fixed_point"` or
    `"root"`. `ax`: the axes of matplotlib to draw in; by default those of a new figure.

    **Returns:** the `matplotlib.figure.Figure`. To keep it: `figure.savefig("structure.png")`.

    **Cost:** of the pattern, milliseconds; for 10⁶ unknowns some seconds.

    **Raises:** `ImportError` without matplotlib; what `root` raises for a bad R.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> R = lambda u, a: jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) + a * jnp.exp(u)
    >>> figure = ix.plot_structure(R, jnp.zeros(300), 1e-5, kind="root")
    >>> print(figure.axes[0].get_title())
    898 of 90,000 entries (0.998%)
    tridiagonal, 3 tangents

    ```
    """
    check_kind("plot_structure", kind)
    problem, theta, *_ = hoist(Call(kind, "plot_structure", F, x0, args))
    created = figure("plot_structure(...)", (5.6, 6.0)) if ax is None else ax.figure
    ax = created.subplots() if ax is None else ax
    pattern, structure = problem.by_pattern(theta, described) or (None, None)
    n = problem.size
    if pattern is None:
        ax.set_title(f"{n:,} unknowns\nno pattern was found: A is dense, or products with it")
    else:
        ax.set_title(
            f"{pattern.entries:,} of {n * n:,} entries ({100 * pattern.entries / n**2:.3g}%)\n{_words(n, structure)}"
        )
        _draw(ax, pattern, structure)
    _name_leaves(ax, problem)
    ax.set_xlabel("unknown")
    ax.set_ylabel("equation")
    return created


def _words(n: int, structure: Structure | None) -> str:
    if structure is None:
        return "in no form that pays: A is dense, or products with it"
    return str(structure) + ("" if n > LEAST else f" if it had more than {LEAST} unknowns; so it is dense")


def _draw(ax: Any, pattern: Pattern, structure: Structure | None) -> None:
    n = pattern.shape[1]
    if pattern.entries <= _POINTS:
        hue = np.zeros(n, int) if structure is None else structure.colouring.colours
        colours = np.array(_HUES)[hue[pattern.cols] % len(_HUES)]
        size = min(6.0, max(260 / n, 1.4)) ** 2
        ax.scatter(pattern.cols, pattern.rows, s=size, c=colours, marker="s", linewidths=0)
    else:
        cells, _, _ = np.histogram2d(pattern.rows, pattern.cols, bins=min(_CELLS, n), range=[[0, n], [0, n]])
        shade = np.where(cells > 0, np.log1p(cells), np.nan)
        ax.imshow(shade, extent=(-0.5, n - 0.5, n - 0.5, -0.5), cmap="viridis_r", interpolation="nearest")
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_aspect("equal")


def _name_leaves(ax: Any, problem: Problem) -> None:
    """Where one leaf of x ends and the next begins."""
    sizes = [int(np.prod(struct.shape)) for struct in problem.x_struct]
    if len(sizes) == 1:
        return
    ends = np.cumsum(sizes)
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color=INK, linewidth=0.6)
        ax.axvline(end - 0.5, color=INK, linewidth=0.6)
    ax.set_xticks(ends - np.array(sizes) / 2, problem.paths)
    ax.set_yticks(ends - np.array(sizes) / 2, problem.paths)
