"""Equinox modules that solve inside themselves."""

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar, overload

import equinox as eqx
import jax
from jaxtyping import Array, PyTree
from typing_extensions import Unpack

from ._errors import mistake
from ._errors.call import Function, check_callable
from ._errors.keywords import check_names
from ._plan import Keywords, Number, declares, names_of
from ._problem import Call, Kind
from ._problem.pattern import read
from ._solution import Solution
from ._solve import solve

X = TypeVar("X")  # the type of the guess
Map: TypeAlias = Callable[..., Any]


class _Static:
    """Keywords of a solve as a static field: compared by value, also where they hold dicts, arrays or a pattern."""

    def __init__(self, name: str, values: Any) -> None:
        self.values = values
        if "sparsity" in values:
            self.values = {**values, "sparsity": read(name, values["sparsity"])}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and bool(eqx.tree_equal(self.values, other.values))

    def __hash__(self) -> int:
        return hash(jax.tree.structure(self.values))

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.values.items())


class _Layer(eqx.Module, Generic[X]):
    init: Any
    init_fn: Callable[..., PyTree] | None
    keywords: _Static = eqx.field(static=True)

    def _solve(self, kind: Kind, function: Callable[..., Any], args: tuple[Any, ...], x0: Any) -> Solution:
        if x0 is None and self.init_fn is not None:
            x0 = self.init_fn(function, *args)
        elif x0 is None:
            x0 = self.init
        if x0 is None:
            raise ValueError(
                mistake(
                    f"{type(self).__name__}(x0=...)",
                    "an initial guess",
                    "none",
                    "The layer was made without `init` and without `init_fn`, and was called without x0.",
                    "Give one of the three, x0 by its name: `layer(*args, x0=x0)`.",
                )
            )
        return solve(Call(kind, type(self).__name__, function, x0, args), self.keywords.values)


def _check(name: str, F: Any, init: PyTree, init_fn: Any, keywords: Any) -> None:
    """Whether a layer can be made: what can be told before it is called."""
    check_names(name, keywords, names_of(Keywords))
    check_callable(Function.of(name, "root" if name == "RootLayer" else "fixed_point"), F)
    if init is not None and init_fn is not None:
        raise ValueError(
            mistake(
                f"{name}(init=..., init_fn=...)",
                "at most one of the two",
                "both",
                "`init` is a constant guess, `init_fn(F, *args)` computes one.",
                "Leave out one of them.",
            )
        )


class FixedPointLayer(_Layer[X]):
    """A layer whose output is the fixed point `x = F(x, *args)`.

    `layer(*args, x0=None)` returns x, `layer.solve(*args, x0=None)` the whole `Solution`. The layer is an Equinox
    module: F's leaves are its leaves, and its derivative with respect to `init` is 0.

    **Arguments:**

    - `F`: as in `fixed_point`.
    - `init`: a constant initial guess, or
    - `init_fn`: a function `init_fn(F, *args)` that computes it.
    - the keywords of `fixed_point`.

    **Raises, costs, fails:** as `fixed_point`.

    ```python
    >>> import jax.numpy as jnp, implicitax as ix
    >>> layer = ix.FixedPointLayer(lambda x, a: jnp.cos(a * x), init=1.0)
    >>> print(round(float(layer(1.0)), 3))
    0.739

    ```
    """

    F: Callable[..., Any]

    @overload
    def __init__(
        self: "FixedPointLayer[Array]", F: Map, init: Number, init_fn: None = None, **keywords: Unpack[Keywords]
    ) -> None: ...
    @overload
    def __init__(self, F: Map, init: X, init_fn: None = None, **keywords: Unpack[Keywords]) -> None: ...
    @overload
    def __init__(
        self, F: Map, init: None = None, *, init_fn: Callable[..., X], **keywords: Unpack[Keywords]
    ) -> None: ...
    @overload
    def __init__(
        self: "FixedPointLayer[Any]", F: Map, init: None = None, init_fn: None = None, **keywords: Unpack[Keywords]
    ) -> None: ...
    @declares(Keywords)
    def __init__(self, F: Map, init: Any = None, init_fn: Any = None, **keywords: Unpack[Keywords]) -> None:
        _check("FixedPointLayer", F, init, init_fn, keywords)
        self.F, self.init, self.init_fn, self.keywords = F, init, init_fn, _Static(type(self).__name__, keywords)

    def solve(self, *args: Any, x0: Any = None) -> Solution[X, Any]:
        return self._solve("fixed_point", self.F, args, x0)

    def __call__(self, *args: Any, x0: Any = None) -> X:
        return self.solve(*args, x0=x0).x


class RootLayer(_Layer[X]):
    """A layer whose output is the root `R(x, *args) = 0`. In all else like `FixedPointLayer`.

    ```python
    >>> import implicitax as ix
    >>> layer = ix.RootLayer(lambda x, a: x**3 - a, init_fn=lambda R, a: a / 3)
    >>> print(round(float(layer(8.0)), 3))
    2.0

    ```
    """

    R: Callable[..., Any]

    @overload
    def __init__(
        self: "RootLayer[Array]", R: Map, init: Number, init_fn: None = None, **keywords: Unpack[Keywords]
    ) -> None: ...
    @overload
    def __init__(self, R: Map, init: X, init_fn: None = None, **keywords: Unpack[Keywords]) -> None: ...
    @overload
    def __init__(
        self, R: Map, init: None = None, *, init_fn: Callable[..., X], **keywords: Unpack[Keywords]
    ) -> None: ...
    @overload
    def __init__(
        self: "RootLayer[Any]", R: Map, init: None = None, init_fn: None = None, **keywords: Unpack[Keywords]
    ) -> None: ...
    @declares(Keywords)
    def __init__(self, R: Map, init: Any = None, init_fn: Any = None, **keywords: Unpack[Keywords]) -> None:
        _check("RootLayer", R, init, init_fn, keywords)
        self.R, self.init, self.init_fn, self.keywords = R, init, init_fn, _Static(type(self).__name__, keywords)

    def solve(self, *args: Any, x0: Any = None) -> Solution[X, Any]:
        return self._solve("root", self.R, args, x0)

    def __call__(self, *args: Any, x0: Any = None) -> X:
        return self.solve(*args, x0=x0).x
