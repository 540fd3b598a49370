"""Pytrees in words: what one is made of, and where two of them are not alike."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import dtype_of, is_array, path_names

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
        return "one number or array"
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
    """Where the one does not begin like the other; `root`: the name of the other."""
    if jax.tree_util.all_leaves([prefix]):
        return ""
    below, whole = _children(prefix), _children(tree)
    if type(prefix) is not type(tree) or jax.tree_util.all_leaves([tree]):
        return f"{name} is {_kind(prefix)}, {root} {_kind(tree)}"
    if below.keys() != whole.keys():
        extra, lacking = ([key for key in one if key not in other] for one, other in ((below, whole), (whole, below)))
        said = [f"{root} has no {_few([root + key for key in extra])}"] if extra else []
        return "; ".join([*said, *([f"{name} has no {_few([name + key for key in lacking])}"] if lacking else [])])
    found = (prefix_difference(child, whole[key], name + key, root + key) for key, child in below.items())
    return next(filter(None, found), "")


def _unlike(a: Any, b: Any, names: tuple[str, str], path: str) -> str:
    """The first place where two pytrees that have leaves at the same paths are not alike; "" where there is none."""
    if type(a) is not type(b) and not jax.tree_util.all_leaves([a, b]):
        return f"{path} is {_kind(a)} in {names[0]}, {_kind(b)} in {names[1]}"
    mine, other = _children(a), _children(b)
    if list(mine) != list(other):
        return f"{path} has {_few(list(mine))} in {names[0]}, {_few(list(other))} in {names[1]}"
    if dataclasses.is_dataclass(a) and (field := _static_field(a, b)):
        values = (repr(getattr(one, field)) for one in (a, b))
        shown = (value if len(value) < _LONG else "another value" for value in values)
        return f"{path}.{field}, which is static, is " + ", ".join(f"{v} in {name}" for v, name in zip(shown, names))
    found = (_unlike(child, other[key], names, path + key) for key, child in mine.items() if child is not a)
    return next(filter(None, found), "")


def _static_field(a: Any, b: Any) -> str:
    for field in dataclasses.fields(a):
        pair = [getattr(one, field.name, None) for one in (a, b)]
        children = any(map(is_array, jax.tree.leaves(pair)))
        if (field.metadata.get("static") or not children) and not _are_equal(*pair):
            return field.name
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
