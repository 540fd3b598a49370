"""The keywords of a solve, declared once for `fixed_point`, `root`, layers, `custom_…`, `sweep` and `diagnose`."""

import collections
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, get_type_hints

from jaxtyping import PyTree

from .._errors.keywords import check_names
from .._methods.foreign import Solver
from .._problem.pattern import read
from .._rule import AbstractAdjoint

P = ParamSpec("P")
T = TypeVar("T")


class _Tolerances(TypedDict, total=False):
    rtol: PyTree
    atol: PyTree
    residual_atol: PyTree


class _Method(TypedDict, total=False):
    solver: Solver | None
    max_steps: int | None


class _Batch(TypedDict, total=False):
    batch_axis: int | None


class _Family(TypedDict, total=False):
    constraint: Callable[..., Any] | None


class _Structure(TypedDict, total=False):
    sparsity: Any


class DiagnosedKeywords(_Tolerances, _Method, _Batch, _Family, _Structure, total=False):
    """Those of `diagnose`."""


class JudgedKeywords(_Tolerances, _Family, _Structure, total=False):
    """Those of a solver that is somebody else's: `custom_fixed_point` and `custom_root`."""

    adjoint: AbstractAdjoint | None
    throw: bool


class _SharedButAux(JudgedKeywords, _Method, total=False):
    options: dict[str, Any] | None
    bounds: Any
    error_estimate: bool


class SharedKeywords(_SharedButAux, total=False):
    """Those that mean the same for one problem and for many: `sweep`."""

    has_aux: bool


class KeywordsButAux(_SharedButAux, _Batch, total=False):
    """All but the one on which the type of the result depends."""

    history: bool
    progress: bool
    callback: Callable[[Any], Any] | None


class Keywords(SharedKeywords, KeywordsButAux, total=False):
    """All: `fixed_point`, `root`, and the layers."""


_DEFAULTS: dict[str, Any] = {  # in the order in which they are shown
    "solver": None,
    "adjoint": None,
    "rtol": None,
    "atol": None,
    "residual_atol": None,
    "max_steps": None,
    "options": None,
    "batch_axis": None,
    "bounds": None,
    "constraint": None,
    "sparsity": None,
    "has_aux": False,
    "error_estimate": False,
    "history": False,
    "progress": False,
    "callback": None,
    "throw": True,
}

# The record that is handed on: every keyword, with its default where it was not given.
Wanted = collections.namedtuple("Wanted", list(_DEFAULTS), defaults=list(_DEFAULTS.values()))


def complete(caller: str, keywords: Any, declared: Any = Keywords) -> Wanted:
    """The record of the keywords given, each of which has to be one of those declared; `sparsity` can be looked up."""
    check_names(caller, keywords, names_of(declared))
    wanted = Wanted(**keywords)
    return wanted._replace(sparsity=read(caller, wanted.sparsity))


@functools.cache
def names_of(declared: Any) -> tuple[str, ...]:
    """In the order in which they are shown."""
    return tuple(name for name in _DEFAULTS if name in get_type_hints(declared))


def declares(declared: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The same function, with a signature that shows its keywords and their defaults in place of `**keywords`."""
    hints = get_type_hints(declared)
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=hints[name])
        for name in names_of(declared)
    ]

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *shown])
        # Who writes `fun=` has left out F: that is told by our checks of the keywords, not by Python before them.
        required = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
        function.__defaults__ = tuple(None if p.default is p.empty else p.default for p in required)
        return function

    return decorate
