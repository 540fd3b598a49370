"""Taking a pytree apart into real arrays, and putting it together again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_number(leaf: Any) -> bool:
    """A Python float or complex: it may vary from call to call, so it is traced like an array."""
    return isinstance(leaf, float | complex) and not is_array(leaf)


def is_dynamic(leaf: Any) -> bool:
    return is_array(leaf) or is_number(leaf)


def dtype_of(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def is_unknown(leaf: Any) -> bool:
    """A leaf of x0 to be solved for: in a guess a Python int is a number too."""
    return is_dynamic(leaf) or (isinstance(leaf, int) and not isinstance(leaf, bool))


def shape_of(leaf: Any) -> Any:
    """Shape and dtype of anything that is an array or a number; any other leaf as it is."""
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype_of(leaf)) if is_unknown(leaf) else leaf


def is_differentiable(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def is_complex(leaf: Any) -> bool:
    if is_number(leaf):
        return isinstance(leaf, complex)
    return jnp.issubdtype(dtype_of(leaf), jnp.complexfloating)


def to_real(arrays: Sequence[Any]) -> tuple[Any, ...]:
    """Each complex array as two, its real and its imaginary part; the others as they are."""
    real: list[Any] = []
    for array in arrays:
        real.extend((jnp.real(array), jnp.imag(array)) if is_complex(array) else (array,))
    return tuple(real)


def from_real(leaves: Sequence[Any], complex_: Sequence[bool]) -> list[Any]:
    """The inverse of `to_real`, where `complex_` says which of the arrays were complex."""
    pieces = iter(leaves)
    return [jax.lax.complex(next(pieces), next(pieces)) if pair else next(pieces) for pair in complex_]


@dataclass(frozen=True)
class Layout:
    """How a pytree is made of arrays and of leaves that are not: `take` takes it apart, `put` puts it together."""

    treedef: Any
    static: tuple[Any, ...]  # one entry a leaf; `Layout.ARRAY` where the leaf is an array
    complex_: tuple[bool, ...]  # one entry an array

    ARRAY = "<array>"  # stands for an array in `static`; compared by identity

    @classmethod
    def take(cls, tree: Any, dynamic: Callable[[Any], bool] = is_dynamic) -> tuple["Layout", tuple[Any, ...]]:
        """The layout of `tree`, and its arrays as real leaves."""
        leaves, treedef = jax.tree.flatten(tree)
        arrays = [leaf for leaf in leaves if dynamic(leaf)]
        static = tuple(cls.ARRAY if dynamic(leaf) else leaf for leaf in leaves)
        return cls(treedef, static, tuple(is_complex(array) for array in arrays)), to_real(arrays)

    def put(self, leaves: Sequence[Any]) -> Any:
        """The pytree with these real leaves."""
        arrays = iter(from_real(leaves, self.complex_))
        return jax.tree.unflatten(self.treedef, [next(arrays) if leaf is self.ARRAY else leaf for leaf in self.static])

    def repeat(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Of one value a leaf of the pytree, one a real leaf."""
        pairs, repeated = iter(self.complex_), []
        for value, leaf in zip(values, self.static):
            if leaf is self.ARRAY:
                repeated.extend([value] * (2 if next(pairs) else 1))
        return tuple(repeated)

    def paths(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of the names of the leaves, one a real leaf."""
        found: list[str] = []
        pairs = iter(self.complex_)
        for name, leaf in zip(names, self.static):
            if leaf is self.ARRAY:
                found += [f"real({name})", f"imag({name})"] if next(pairs) else [name]
        return tuple(found)

    @property
    def bare(self) -> "Layout":
        """The same without the leaves that are not arrays: equal for pytrees of one structure."""
        return Layout(self.treedef, tuple(leaf is self.ARRAY and leaf for leaf in self.static), self.complex_)


def path_names(tree: Any, root: str = "x0") -> list[str]:
    """A name such as `x0['leaf'].temperature` for every leaf of `tree`."""
    return [root + jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
