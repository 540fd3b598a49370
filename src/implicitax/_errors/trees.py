"""Pytrees in words: what one is made of, and where two of them are not alike."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import dtype_of, is_array, is_unknown, path_names

_LEAVES = 5  # that are named
_LONG = 100  # letters


def describe(leaf: Any) -> str:
    """`float64[3,2]` for an array, the type's name for anything else."""
    if is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
        return f"{jnp.dtype(dtype_of(leaf)).name}[{','.join(map(str, leaf.shape))}]"
    if leaf is None:
        return "None"
    if isinstance(leaf, type):
        return f"the class {leaf.__name__}"
    return f"a Python {type(leaf).__name__}"


def named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)


def in_words(tree: Any, root: str = "x") -> str:
    """By the kinds of containers and the names of their leaves, as many as one can read."""
    if isinstance(tree, dict | list | tuple) and not hasattr(tree, "_fields"):
        children = tree.values() if isinstance(tree, dict) else tree
        if all(jax.tree_util.all_leaves([child]) for child in children if child is not None):
            shown = dict.fromkeys(tree, "*") if isinstance(tree, dict) else type(tree)("*" for _ in children)
            text = str(shown).replace("'*'", "*")
            return text if len(text) < _LONG else f"a {type(tree).__name__} of {len(tree)}"
    if tree is None:
        return "None"
    paths = path_names(tree, root)
    if paths == [root]:
        return "one number or array" if is_unknown(tree) or hasattr(tree, "shape") else describe(tree)
    return f"a {type(tree).__name__} with {_few(paths) or 'no leaves'}"


def difference(a: Any, b: Any, name_a: str, name_b: str, root: str = "x") -> str:
    """Which leaves only one of two pytrees has; or where they are other containers, or have other static fields."""
    leaves_a, leaves_b = (dict(zip(path_names(tree, root), jax.tree.leaves(tree))) for tree in (a, b))
    only = [
        f"only in {name}: {_few([f'{path}, {describe(mine[path])}' for path in mine if path not in other], '; ')}"
        for name, mine, other in ((name_a, leaves_a, leaves_b), (name_b, leaves_b, leaves_a))
        if mine.keys() - other.keys()
    ]
    return "; ".join(only) or _unlike(a, b, (name_a, name_b), root) or "they are compared as different"


def prefix_difference(prefix: Any, tree: Any, name: str, root: str) -> str:
    """Where the one does not begin like the other; "" where there is no such place."""
    if jax.tree_util.all_leaves([prefix]):
        return ""
    below, whole = _children(prefix), _children(tree)
    if type(prefix) is not type(tree) or jax.tree_util.all_leaves([tree]):
        return f"{name} is {_kind(prefix)}, {root} {_kind(tree)}"
    lacking = [root + key for key in below if key not in whole] + [name + key for key in whole if key not in below]
    if lacking:
        return f"there is no {_few(lacking)}"
    found = (prefix_difference(child, whole[key], name + key, root + key) for key, child in below.items())
    return next(filter(None, found), "") or _unlike_static(prefix, tree, (name, root))


def _unlike(a: Any, b: Any, names: tuple[str, str], path: str) -> str:
    """The first place where two pytrees that have leaves at the same paths are not alike; "" where there is none."""
    if type(a) is not type(b) and not jax.tree_util.all_leaves([a, b]):
        return f"{path} is {_kind(a)} in {names[0]}, {_kind(b)} in {names[1]}"
    mine, other = _children(a), _children(b)
    if list(mine) != list(other):
        return f"{path} has {', '.join(mine) or 'nothing'} in {names[0]}, {', '.join(other) or 'nothing'} in {names[1]}"
    found = (_unlike(child, other[key], names, path + key) for key, child in mine.items() if child is not a)
    return next(filter(None, found), "") or _unlike_static(a, b, names, path)


def _unlike_static(a: Any, b: Any, names: tuple[str, str], path: str = "") -> str:
    """The first field that is no part of the pytree in which they differ."""
    fields = dataclasses.fields(a) if dataclasses.is_dataclass(a) else ()
    for field in (field.name for field in fields if f".{field.name}" not in _children(a)):
        pair = [getattr(one, field, None) for one in (a, b)]
        if not _are_equal(*pair):
            shown = [text if len(text) < _LONG else "another value" for text in map(repr, pair)]
            where = f"{path}.{field}" if path else f"`{field}`"
            return f"{where}, which is static, is {shown[0]} in {names[0]}, {shown[1]} in {names[1]}"
    return ""


def _are_equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # of whatever the user has put there
        return a is b


def _children(tree: Any) -> dict[str, Any]:
    """What is in a container, by the last part of its path; of a leaf the leaf."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    return {jax.tree_util.keystr(path): child for path, child in found}


def _kind(tree: Any) -> str:
    return describe(tree) if tree is None or jax.tree_util.all_leaves([tree]) else f"a {type(tree).__name__}"


def _few(names: list[str], between: str = ", ") -> str:
    return between.join(sorted(names)[:_LEAVES]) + (f"{between}..." if len(names) > _LEAVES else "")
