"""What a type checker is told of the doors: `Solution.x` has the type of x0, `Solution.aux` that of F's aux.

Numbers become arrays, those in a dict or a list too; what else x0 may be keeps its type.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from typing_extensions import Unpack

from .._problem import Kind
from .._solution import Solution
from .keywords import Keywords, KeywordsButAux, SharedKeywords

Number: TypeAlias = complex | np.ndarray | np.generic | Array
Function: TypeAlias = Callable[..., Any]

X = TypeVar("X")
Aux = TypeVar("Aux")
K = TypeVar("K")
N = TypeVar("N", bound=Number)

WithAux: TypeAlias = Callable[..., tuple[Any, Aux]]
Yes: TypeAlias = Literal[True]
No: TypeAlias = Literal[False]


class Solves(Protocol):
    """`fixed_point` and `root`: (F, x0, *args), and keywords."""

    @overload
    def __call__(
        self, F: WithAux[Aux], /, x0: Number, *args: Any, has_aux: Yes, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[Array, Aux]: ...
    @overload
    def __call__(
        self, F: WithAux[Aux], /, x0: dict[K, N], *args: Any, has_aux: Yes, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[dict[K, Array], Aux]: ...
    @overload
    def __call__(
        self, F: WithAux[Aux], /, x0: list[N], *args: Any, has_aux: Yes, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[list[Array], Aux]: ...
    @overload
    def __call__(
        self, F: WithAux[Aux], /, x0: X, *args: Any, has_aux: Yes, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[X, Aux]: ...
    @overload
    def __call__(
        self, F: Function, /, x0: Number, *args: Any, has_aux: No = False, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[Array, None]: ...
    @overload
    def __call__(
        self, F: Function, /, x0: dict[K, N], *args: Any, has_aux: No = False, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[dict[K, Array], None]: ...
    @overload
    def __call__(
        self, F: Function, /, x0: list[N], *args: Any, has_aux: No = False, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[list[Array], None]: ...
    @overload
    def __call__(
        self, F: Function, /, x0: X, *args: Any, has_aux: No = False, **keywords: Unpack[KeywordsButAux]
    ) -> Solution[X, None]: ...
    @overload
    def __call__(self, F: Function, /, x0: X, *args: Any, **keywords: Unpack[Keywords]) -> Solution[X, Any]: ...


class Sweeps(Protocol):
    """`sweep`: the same with `in_axes` and what else is its own."""

    @overload
    def __call__(
        self,
        F: Function,
        /,
        x0: Number,
        *args: Any,
        in_axes: Any = None,
        kind: Kind = "fixed_point",
        batch_size: int | None = None,
        mesh: Mesh | None = None,
        progress: bool = False,
        **keywords: Unpack[SharedKeywords],
    ) -> Solution[Array, Any]: ...
    @overload
    def __call__(
        self,
        F: Function,
        /,
        x0: dict[K, N],
        *args: Any,
        in_axes: Any = None,
        kind: Kind = "fixed_point",
        batch_size: int | None = None,
        mesh: Mesh | None = None,
        progress: bool = False,
        **keywords: Unpack[SharedKeywords],
    ) -> Solution[dict[K, Array], Any]: ...
    @overload
    def __call__(
        self,
        F: Function,
        /,
        x0: X,
        *args: Any,
        in_axes: Any = None,
        kind: Kind = "fixed_point",
        batch_size: int | None = None,
        mesh: Mesh | None = None,
        progress: bool = False,
        **keywords: Unpack[SharedKeywords],
    ) -> Solution[X, Any]: ...


def solves(function: Callable[..., Solution]) -> Solves:
    return cast(Solves, function)


def sweeps(function: Callable[..., Solution]) -> Sweeps:
    return cast(Sweeps, function)
