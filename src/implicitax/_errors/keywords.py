"""What can be wrong with the keywords of a solve: `solver`, `adjoint`, `max_steps`, `batch_axis`, and what is watched.

What is said of a solver or an adjoint (its kinds, whether it works row by row) is told, not asked: this is below both.
"""

import importlib.util
from typing import Any

import numpy as np

from . import words
from .raising import mistake
from .trees import named


def check_names(caller: str, given: Any, known: tuple[str, ...]) -> None:
    """Whether each keyword is one of those that there are."""
    unknown = [name for name in given if name not in known]
    if unknown:
        word = words.counterpart(caller, unknown[0], known)
        raise TypeError(
            mistake(
                f"{caller}({unknown[0]}=...)",
                f"one of the keywords {', '.join(known)}",
                f"the keyword {unknown[0]}",
                *word,
            )
        )


def check_kind(caller: str, kind: Any) -> None:
    if kind not in ("fixed_point", "root"):
        raise ValueError(
            mistake(
                f"{caller}(kind=...)",
                '"fixed_point" or "root"',
                repr(kind),
                "It says whether x = F(x, *args) or F(x, *args) = 0 is to be solved.",
                "Leave it out for a fixed point.",
            )
        )


def check_solver(caller: str, kind: str, solver: Any, kinds: tuple[str, ...] | None) -> None:
    """Whether it is a solver, and one of this kind of problem; `kinds` is None if it is none."""
    if kinds is None:
        raise TypeError(
            mistake(
                f"{caller}(solver=...)",
                "a solver such as `ix.Auto()`, `ix.Picard()`, `ix.Anderson()`, `ix.Newton()`, or one of Optimistix",
                named(solver),
                "Perhaps the class was given in place of an instance, a linear solver, or a name.",
                words.solver_meant(solver)
                or "Write for instance `solver=ix.Newton()`. Your own solver goes into `ix.custom_root`.",
            )
        )
    if kind not in kinds:
        raise ValueError(
            mistake(
                f"{caller}(solver=...)",
                f"a solver for a {kind.replace('_', ' ')}",
                named(solver),
                "It iterates x ← F(x); a root R(x) = 0 is not of that form.",
                "Use `ix.Auto()` or `ix.Newton()`, or write the problem as a fixed point.",
            )
        )


def check_adjoint(caller: str, kind: str, adjoint: Any, kinds: tuple[str, ...] | None) -> None:
    """Whether it is an adjoint, and one of this kind of problem; `kinds` is None if it is none."""
    if kinds is None:
        raise TypeError(
            mistake(
                f"{caller}(adjoint=...)",
                "one of `ix.Implicit()`, `ix.OneStep()`, `ix.Neumann(terms)`, `ix.Unrolled(steps)`",
                named(adjoint),
                "Perhaps the class was given in place of an instance, or a linear solver.",
                words.adjoint_meant(adjoint) or "A linear solver goes into `ix.Implicit(linear_solver=...)`.",
            )
        )
    if kind not in kinds:
        raise ValueError(
            mistake(
                f"{caller}(adjoint=...)",
                "`ix.Implicit()` or `ix.Unrolled(steps)`",
                named(adjoint),
                "One step, and the Neumann series, are those of a fixed point x = F(x); a root R(x) = 0 has none.",
                "Use `ix.Implicit()`, or write the problem as a fixed point.",
            )
        )


def check_unrolled(caller: str, solver: Any, smooth: bool) -> None:
    """Whether a fixed number of the solver's steps has a derivative worth taking."""
    if not smooth:
        raise ValueError(
            mistake(
                f"{caller}(solver=..., adjoint=ix.Unrolled(...))",
                "`ix.Picard()` or `ix.Newton()`",
                named(solver),
                "Other methods are not smooth functions of the parameters once they have converged.",
                "Leave out `solver`, or use `ix.Implicit()`.",
            )
        )


def check_never_unrolled(caller: str, adjoint: Any, unrolled: bool) -> None:
    """Of somebody's own solver, which is not differentiated."""
    if unrolled:
        raise ValueError(
            mistake(
                f"{caller}(adjoint=...)",
                "`ix.Implicit()`, `ix.OneStep()` or `ix.Neumann(terms)`",
                repr(adjoint),
                "The body of your own solver is never differentiated.",
                "Leave out `adjoint`.",
            )
        )


def check_max_steps(caller: str, max_steps: Any) -> int:
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 0:
        raise ValueError(
            mistake(
                f"{caller}(max_steps=...)",
                "an integer of at least 0",
                f"{max_steps!r}",
                "It bounds the number of iterations and is fixed when the solve is compiled.",
                "Leave it out, or pass a Python integer.",
            )
        )
    return int(max_steps)


def check_batch_axis(caller: str, batch_axis: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """The axis counted from the front, if every leaf of x0 has the same number of rows along it."""
    argument = f"{caller}(batch_axis=...)"
    if isinstance(batch_axis, bool) or not isinstance(batch_axis, int | np.integer):
        raise TypeError(
            mistake(
                argument,
                "an integer, the axis along which every leaf of x0 has the rows",
                named(batch_axis),
                "It says that F is written for a batch, and is fixed when the solve is compiled.",
                "Use 0, or leave it out if F is written for one problem.",
            )
        )
    shortest = min(len(shape) for shape in shapes.values())
    counts = {shape[batch_axis] if -len(shape) <= batch_axis < len(shape) else None for shape in shapes.values()}
    if len(counts) != 1 or None in counts or (batch_axis < 0 and len(set(map(len, shapes.values()))) > 1):
        raise ValueError(
            mistake(
                argument,
                "leaves of x0 that all have the same number of rows along that axis",
                ", ".join(f"{path} of shape {shape}" for path, shape in shapes.items()) + f" with axis {batch_axis}",
                "With `batch_axis` every leaf of the state has the rows of the batch, whatever else it has.",
                "Broadcast the leaves that have none, or pass them to F as arguments.",
            )
        )
    return int(batch_axis) % shortest if batch_axis < 0 else int(batch_axis)


def check_row_by_row(caller: str, culprit: Any, by_row: bool) -> None:
    """Whether the solver works row by row, and the adjoint; if not, which of them does not."""
    if not by_row:
        raise ValueError(
            mistake(
                f"{caller}(batch_axis=..., solver=..., adjoint=...)",
                "a solver that works row by row: `ix.Auto()`, `ix.Anderson()`, `ix.Squarem()`, `ix.Broyden()`, "
                "`ix.Picard()`, or, with a dense matrix for each row, `ix.Newton()`, `ix.Ladder()`, "
                "`ix.PseudoTransient()`",
                named(culprit),
                "Each row has coefficients, stopping and a status of its own.",
                "Leave out `solver` and `adjoint`, or `batch_axis`.",
            )
        )


def check_not_constrained(caller: str, batch_axis: int | None, constrained: bool) -> None:
    """Whether a batch is without a constraint, which would tie its rows together."""
    if batch_axis is not None and constrained:
        raise ValueError(
            mistake(
                f"{caller}(batch_axis=..., constraint=...)",
                "one of the two",
                "both",
                "Every row of a batch is solved by itself, and a constraint is one on all of x.",
                "Use `jax.vmap` for rows that are independent, or leave out `batch_axis`.",
            )
        )


def check_determined(caller: str, keyword: str, value: Any, unknowns: int, excess: int | None) -> None:
    """Whether a keyword is left out that is none for more equations than unknowns."""
    if excess is not None and value is not None:
        raise ValueError(
            mistake(
                f"{caller}({keyword}=...)",
                "none where R has more equations than unknowns",
                f"{value!r}, and {excess} equations for {unknowns} unknowns",
                "As many combinations of the equations are solved as there are unknowns; then all are looked at.",
                "Use `jax.vmap` for independent rows." if keyword == "batch_axis" else f"Leave `{keyword}` out.",
            )
        )


def check_options(caller: str, options: Any, ours: bool) -> None:
    """Whether there is something to give options to, and they are named."""
    argument = f"{caller}(options=...)"
    if ours:
        raise ValueError(
            mistake(
                argument,
                "none with a solver of implicitax",
                repr(options),
                "They are those of a solver of Optimistix, as `lower` and `upper` of `optx.Bisection`.",
                "Our solvers have arguments of their own; where x may be is `bounds=(lower, upper)`.",
            )
        )
    if not isinstance(options, dict):
        raise TypeError(
            mistake(
                argument, "a dict", repr(options), "Each has a name.", "Write `options=dict(lower=0.0, upper=1.0)`."
            )
        )


def lacks_option(caller: str, solver: Any, name: str, options: dict[str, Any]) -> ValueError:
    both = "lower=..., upper=..." if name in ("lower", "upper") else f"{name}=..."
    return ValueError(
        mistake(
            f"{caller}(solver={type(solver).__name__}(...))",
            f"its option {name!r}",
            f"the options {', '.join(options)}" if options else "no options",
            "That solver of Optimistix asks for it.",
            f"Give `options=dict({both})`.",
        )
    )


def check_watch(caller: str, asked: tuple[Any, Any, Any], ours: bool) -> None:
    """Whether the iterations can be looked at, by `history`, `progress`, `callback`; `ours` if they run in our loop."""
    progress, callback = asked[1:]
    if callback is not None and not callable(callback):
        raise TypeError(
            mistake(
                f"{caller}(callback=...)",
                "a function of one record, which has `x`, `nfev`, `residual` and `error`",
                named(callback),
                "It is called with each evaluation of F.",
                "Write for instance `callback=print`.",
            )
        )
    for name, value in zip(("history", "progress", "callback"), asked):
        if name != "callback" and not isinstance(value, bool | np.bool_):
            raise TypeError(
                mistake(
                    f"{caller}({name}=...)",
                    "True or False",
                    repr(value),
                    "It is fixed when the solve is compiled.",
                    "Pass a Python bool.",
                )
            )
        if value and not ours:
            raise ValueError(
                mistake(
                    f"{caller}({name}=...)",
                    f"{'none' if name == 'callback' else False} with this `solver` or `adjoint`",
                    named(value),
                    "Its iterations run in a loop of its own, in which implicitax sees nothing.",
                    "Leave it out, or use a solver of implicitax and `ix.Implicit()`.",
                )
            )
    if progress and importlib.util.find_spec("rich") is None:
        raise needs_rich(caller)


def needs_rich(caller: str) -> ImportError:
    return ImportError(
        mistake(
            f"{caller}(progress=...)",
            "the package rich, which draws the bar",
            "none",
            "It is not among what implicitax itself needs.",
            "Install it with `pip install 'implicitax[cli]'`, or leave out `progress`.",
        )
    )
