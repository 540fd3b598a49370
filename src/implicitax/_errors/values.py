"""What can be wrong with the numbers of a solve: tolerances and bounds; and with the arguments of methods."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from .._tree import is_dynamic, path_names
from . import words
from .raising import mistake
from .trees import difference, in_words, named, prefix_difference


def check_tolerance(caller: str, name: str, value: Any) -> None:
    """Whether `rtol` or `atol` holds numbers of at least 0."""
    for path, leaf in zip(path_names(value, name), jax.tree.leaves(value)):
        if not isinstance(leaf, Tracer) and not (_is_real(leaf) and np.all(np.asarray(leaf) >= 0)):
            raise ValueError(
                mistake(
                    f"{caller}({name}=...)",
                    "a number of at least 0",
                    f"{leaf!r} at {path}",
                    "The solve stops where every |residual| ≤ atol + rtol·|x|.",
                    f"Use for instance {name}=1e-8, or leave it out: eps^(2/3) of the dtype of x.",
                )
            )


def check_box(caller: str, bounds: Any, culprit: Any, real: bool) -> None:
    """Whether there can be bounds, and they are a pair; `culprit` is what would not keep to them, or None."""
    argument = f"{caller}(bounds=...)"
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(
            mistake(
                argument,
                "a pair (lower, upper)",
                repr(bounds),
                "Each of the two is None, a number, or a pytree prefix of x0.",
                "Write for instance bounds=(0.0, None) for x > 0.",
            )
        )
    if culprit is not None:
        raise ValueError(
            mistake(
                argument,
                "a solver that keeps to them, any of implicitax",
                repr(culprit),
                "Solvers of Optimistix and a fixed number of iterations take their steps without looking at bounds.",
                "Leave out `bounds`, or `solver` and `adjoint`; what Optimistix knows of bounds is in `options`.",
            )
        )
    if not real:
        raise ValueError(
            mistake(
                argument,
                "a real x0",
                "complex leaves",
                "Complex numbers have no order.",
                "Solve for the real and the imaginary part, or for modulus and phase, as two leaves.",
            )
        )


def check_bound(caller: str, name: str, side: Any) -> None:
    """Whether a lower or upper bound holds numbers."""
    for path, leaf in zip(path_names(side, name), jax.tree.leaves(side)):
        if not isinstance(leaf, Tracer) and not (_is_real(leaf) and not np.any(np.isnan(np.asarray(leaf)))):
            raise ValueError(
                mistake(
                    f"{caller}(bounds=...)",
                    "numbers, or None where there is no bound",
                    f"{leaf!r} at {path}",
                    "Every component of x is kept strictly between its bounds.",
                    "Write for instance bounds=(0.0, None) for x > 0.",
                )
            )


def check_room(caller: str, paths: Sequence[str], lower: Sequence[Any], upper: Sequence[Any]) -> None:
    """Whether there is room between the bounds."""
    for path, low, up in zip(paths, lower, upper):
        concrete = not isinstance(low, Tracer) and not isinstance(up, Tracer)
        if concrete and not np.all(np.asarray(low) < np.asarray(up)):
            raise ValueError(
                mistake(
                    f"{caller}(bounds=...)",
                    "lower < upper",
                    f"{low} and {up} for {path}",
                    "There is no room between them.",
                    "Perhaps they were given as (upper, lower).",
                )
            )


def wrong_prefix(argument: str, noun: str, x0: Any, value: Any) -> ValueError:
    """Of tolerances or bounds that do not have the structure of x0."""
    name = argument.partition("(")[2].partition("=")[0]
    where = prefix_difference(value, x0, name, "x0")
    return ValueError(
        mistake(
            argument,
            f"one number, or a pytree prefix of x0, which is {in_words(x0, 'x0')}",
            in_words(value, name) + (f" ({where})" if where else ""),
            f"Each leaf of the {noun} stands for everything below the same place of x0.",
            "Give one number, or one for each entry of x0.",
        )
    )


def check_broadcast(argument: str, noun: str, path: str, leaf: Any, struct: Any) -> None:
    """Whether a tolerance or a bound has the shape of its leaf of x0."""
    try:
        fits = np.broadcast_shapes(np.shape(leaf), struct.shape) == struct.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            mistake(
                argument,
                f"a {noun} that broadcasts to the shape {struct.shape} of {path}",
                f"the shape {np.shape(leaf)}",
                "One number for a leaf, or an array with one for each component.",
                "Give a number, or an array of the shape of the leaf.",
            )
        )


def _is_real(leaf: Any) -> bool:
    return (is_dynamic(leaf) or isinstance(leaf, int)) and not np.iscomplexobj(leaf)


# Of methods and adjoints --------------------------------------------------------------------------------------------


def check_arguments(cls: Any, given: dict[str, Any]) -> None:
    """Whether a method, or an adjoint, has arguments of these names."""
    if given.keys() <= cls.__dataclass_fields__.keys():
        return
    parameters = inspect.signature(cls.__init__).parameters.values()
    owner, known = cls.__name__, tuple(p.name for p in parameters if p.name != "self")
    free = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in given:
        if name not in known and not free:
            raise TypeError(
                mistake(
                    f"{owner}({name}=...)",
                    f"one of the arguments {', '.join(known)}" if known else "no argument",
                    f"the argument {name}",
                    *words.argument(owner, name, known),
                )
            )


def check_damping(owner: str, damping: Any, cause: str) -> None:
    """Whether a factor that is no array is in (0, 1]."""
    if not isinstance(damping, jax.Array) and not 0 < damping <= 1:
        remedy = "Use 1, or 0.5 against oscillations."
        raise ValueError(mistake(f"{owner}(damping=...)", "a factor in (0, 1]", f"{damping}", cause, remedy))


def check_count(argument: str, value: Any, least: int, cause: str, remedy: str) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(mistake(argument, f"an integer of at least {least}", repr(value), cause, remedy))


def check_choice(argument: str, value: Any, known: tuple[str, ...], cause: str) -> None:
    if value not in known:
        names = " or ".join(repr(name) for name in known)
        raise ValueError(
            mistake(argument, names, repr(value), cause, f"Use one of these; {known[0]!r} is the default.")
        )


def check_memory(owner: str, memory: Any, most: int) -> None:
    if not 1 <= memory <= most:
        raise ValueError(
            mistake(
                f"{owner}(memory=...)",
                f"1 to {most}",
                f"{memory}",
                "A longer memory makes the least-squares problem ill-conditioned before it helps.",
                "Use 5 to 10.",
            )
        )


def check_factorises(owner: str, linear_solver: Any, is_dense: bool, cause: str, other: str) -> None:
    """Whether the linear solver takes a matrix; `other` is what to use for a large state."""
    if not is_dense:
        raise ValueError(
            mistake(
                f"{owner}(linear_solver=...)",
                "a solver that factorises a matrix",
                type(linear_solver).__name__,
                cause,
                f"Use `SmallLU()`, `lineax.LU()` or `lineax.QR()`, or for a large state `{other}`.",
            )
        )


def check_linear_solver(owner: str, linear_solver: Any, is_one: bool) -> None:
    if not is_one:
        raise TypeError(
            mistake(
                f"{owner}(linear_solver=...)",
                "a Lineax linear solver",
                named(linear_solver) if isinstance(linear_solver, type | str) else f"a {type(linear_solver).__name__}",
                "Perhaps the class was given, or the solver of the equation itself.",
                f"Write for instance `ix.{owner}(linear_solver=lineax.LU())`.",
            )
        )


def check_preconditioned(returned: Any, v: Any) -> None:
    """Whether a preconditioner has returned numbers for all of v."""
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (v, returned)]
    if shapes[0] != shapes[1]:
        alike = jax.tree.structure(v) == jax.tree.structure(returned)
        paths = zip(path_names(v, "v"), *shapes)
        different = [f"{path} is {want}, of what is returned {got}" for path, want, got in paths if want != got]
        raise ValueError(
            mistake(
                "NewtonKrylov(preconditioner=...)",
                f"a function of x and v that returns a pytree like v, {in_words(v, 'v')}",
                f"{in_words(returned, 'v')} ("
                + (f"the shape of {different[0]}" if alike else difference(v, returned, "v", "what is returned", "v"))
                + ")",
                "It stands for A⁻¹ v, so it has a number for each of v.",
                "Return as much as it is given.",
            )
        )


def check_general(owner: str, linear_solver: Any, asks: bool) -> None:
    """Whether it is for general matrices; `asks`: to be told of what form A is."""
    if asks:
        raise ValueError(
            mistake(
                f"{owner}(linear_solver=...)",
                "a linear solver for general matrices",
                repr(linear_solver),
                "Steps have to be found wherever x is, of whatever form A is there.",
                "Use `lineax.BiCGStab`; the derivative may have this one: `ix.Implicit(linear_solver, tags=...)`.",
            )
        )


def check_tags(
    owner: str, linear_solver: Any, tags: frozenset[Any], known: tuple[object, ...], asked: tuple[object, ...]
) -> None:
    """Whether they are tags of Lineax, and there is one that this solver asks for."""
    wrong = [tag for tag in tags if tag not in known]
    if wrong:
        raise ValueError(
            mistake(
                f"{owner}(tags=...)",
                f"tags of Lineax, {', '.join(map(repr, known))}",
                named(wrong[0]),
                "They say of what form A is, of a fixed point I − ∂F/∂x.",
                "Write for instance `tags=lineax.positive_semidefinite_tag`.",
            )
        )
    if tags and linear_solver is None:
        raise ValueError(
            mistake(
                f"{owner}(tags=...)",
                "none without a linear solver that asks for them",
                ", ".join(map(repr, tags)),
                "The default is for general matrices, and finds the structure of A by itself.",
                "Give one, as `linear_solver=lineax.CG(rtol=1e-10, atol=1e-10)`, or leave them out.",
            )
        )
    if asked and not tags & set(asked):
        name, tag = type(linear_solver).__name__, repr(asked[0])
        raise ValueError(
            mistake(
                f"{owner}(linear_solver=lineax.{name}(...), tags=...)",
                " or ".join(map(repr, asked)),
                ", ".join(map(repr, tags)) or "none",
                f"`{name}` is for matrices of that form only, and whether A is of it, of a fixed point I − ∂F/∂x, is "
                "yours to say.",
                f"Add `tags=lineax.{tag}`, or leave `linear_solver` out.",
            )
        )


def check_square(owner: str, rows: int, columns: int) -> None:
    if rows != columns:
        raise ValueError(
            mistake(
                owner,
                "a square operator",
                f"one of {rows} rows and {columns} columns",
                "A factorisation into triangles needs as many equations as unknowns.",
                "Use `lineax.QR` for least squares.",
            )
        )
