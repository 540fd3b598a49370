"""A `Solution` as it shows itself, as text and in a notebook."""

import html
import textwrap
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from .._tree import is_array, path_names
from .status import Status
from .summary import Ending, Summary, indices

_WIDTH = 100
_SHOWN = 8  # leaves of a pytree
_ENTRIES, _EDGE = 20, 3  # of an array: up to so many all of them, else so many at each end
_COPIED = 10**6  # entries up to which an array is looked into: it may have to come from another device


class Parts(NamedTuple):
    """What is shown of a `Solution`."""

    x: Any
    aux: Any
    ending: Ending
    nfev: Any
    error: Any
    history: Any
    summary: Summary


def as_text(parts: Parts) -> str:
    """A line or more for each part, as SciPy shows an `OptimizeResult`."""
    if not _are_numbers(parts):
        return _in_short(parts)
    rows = _rows(parts)
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        textwrap.indent(text, " " * (width + 2)).replace(" " * (width + 2), f"{name:>{width}}: ", 1)
        for name, text in rows
    )


def as_html(parts: Parts) -> str:
    """The same as a table."""
    if not _are_numbers(parts):
        return f"<pre>{html.escape(_in_short(parts))}</pre>"
    cells = "".join(
        f'<tr><th style="text-align:right;vertical-align:top">{html.escape(name)}</th>'
        f'<td style="text-align:left"><pre style="margin:0">{html.escape(text)}</pre></td></tr>'
        for name, text in _rows(parts)
    )
    return f"<table>{cells}</table>"


def _are_numbers(parts: Parts) -> bool:
    """Whether how it ended is known: not inside `jit`, nor of what a function of pytrees has put in its place."""
    numbers = (*parts.ending, parts.nfev)
    if not all(map(_is_known, numbers)) or len({number.shape for number in numbers}) > 1:
        return False
    return set(np.unique(parts.ending.status)) <= set(Status)


def _is_known(leaf: Any) -> bool:
    if isinstance(leaf, Tracer) or not is_array(leaf):
        return False
    return not isinstance(leaf, jax.Array) or (leaf.is_fully_addressable and not leaf.is_deleted())


def _in_short(parts: Parts) -> str:
    x = jax.tree.leaves(parts.x)
    named = [f"{name}={_kind(leaf)}" for name, leaf in zip(path_names(parts.x, "x"), x)]
    more = ["..."] if len(named) > _SHOWN else []
    traced = isinstance(parts.ending.status, Tracer)
    return f"Solution({', '.join([*named[:_SHOWN], *more, f'solver={parts.summary.solver}'])})" + (
        ", traced: its numbers are known outside" if traced else ""
    )


def _rows(parts: Parts) -> list[tuple[str, str]]:
    ending, summary = Ending(*map(np.asarray, parts.ending)), parts.summary
    status, nfev = ending.status, np.asarray(parts.nfev)
    rows = [("message", textwrap.fill(_message(ending, summary), _WIDTH))]
    if status.ndim:
        rows += [("success", f"{np.sum(status == Status.CONVERGED)} of {status.size}"), ("status", _counts(status))]
        rows += [("worst", _worst(ending))] if status.size else []
    else:
        rows += [("success", str(bool(status == Status.CONVERGED))), ("status", _name(status))]
    rows.append(("x", _tree(parts.x, "x")))
    rows += [("residual", _range(ending.residual, ".3g"))]
    rows += [("error", _range(np.asarray(parts.error), ".3g"))] if _is_known(parts.error) else []
    rows += [("nit", _range(ending.nit)), ("nfev", _range(nfev))]
    rows += [("aux", _tree(parts.aux, "aux"))] if parts.aux is not None else []
    rows += [("history", "residual, error and step")] if parts.history is not None else []
    return [*rows, ("solver", summary.solver), ("linear_solver", summary.linear_solver)]


def _message(ending: Ending, summary: Summary) -> str:
    """Of success without the numbers, which have lines of their own."""
    if np.all(ending.status == Status.CONVERGED):
        return Status.CONVERGED.text
    return summary.describe(ending)


def _name(status: Any) -> str:
    return Status(int(status)).name


def _counts(status: np.ndarray) -> str:
    """How many lanes, or rows, ended how, the most frequent first."""
    values, counts = np.unique(status, return_counts=True)
    by_count = sorted(zip(-counts, -values))
    return ", ".join(f"{-count} {_name(-value)}" for count, value in by_count) or "none"


def _worst(ending: Ending) -> str:
    """Of those that failed, or else of all, the one with the largest residual."""
    size = np.where(np.isnan(ending.residual), np.inf, ending.residual)
    failed = ending.status != Status.CONVERGED
    chosen = np.zeros(size.shape, bool)
    chosen.flat[np.argmax(np.where(failed | ~failed.any(), size, -1))] = True
    status, nit, residual = (values[chosen][0] for values in ending[:3])
    return f"{indices(chosen)}: {_name(status)}, residual {residual:.3g}, nit {nit}"


def _range(values: np.ndarray, form: str = "") -> str:
    """A number, or from where to where those of the lanes go."""
    if not values.size:
        return "none"
    least, most = np.min(values), np.max(values)
    return f"{most:{form}}" if not values.ndim or least == most else f"{least:{form}} to {most:{form}}"


def _tree(tree: Any, root: str) -> str:
    """The leaves of a pytree, each with its path where it is not all there is."""
    leaves, names = jax.tree.leaves(tree), path_names(tree, root)
    if names == [root]:
        return _values(leaves[0])
    lines = []
    for name, leaf in list(zip(names, leaves))[:_SHOWN]:
        label = f"{name.removeprefix(root)}: "
        lines.append(label + _values(leaf).replace("\n", "\n" + " " * len(label)))
    rest = len(leaves) - len(lines)
    return "\n".join([*lines, f"... and {rest} leaves more"] if rest > 0 else lines) or "no leaves"


def _values(leaf: Any) -> str:
    """The numbers of an array, of a large one those at its ends, and then its dtype and shape."""
    if not is_array(leaf):
        text = repr(leaf)
        return text if len(text) < _WIDTH else f"a {type(leaf).__name__}"
    if not _is_known(leaf) or leaf.size > _COPIED or not isinstance(leaf.dtype, np.dtype):
        return _kind(leaf)
    large = leaf.size > _ENTRIES
    array = np.ravel(leaf) if large and leaf.ndim > 2 else np.asarray(leaf)
    text = np.array2string(array, separator=", ", threshold=_ENTRIES, edgeitems=_EDGE, max_line_width=_WIDTH - 20)
    return f"{text}  {_kind(leaf)}" if large else text


def _kind(leaf: Any) -> str:
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return f"a {type(leaf).__name__}"
