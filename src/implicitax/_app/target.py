"""The problem that a command line names: a function by module or file, and arrays written as JSON."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp


class TargetError(ValueError):
    """Something on the command line that cannot be used. The text says what, and what to write instead."""


def load(target: str) -> Callable[..., Any]:
    """The function that `package.module:name` or `path/to/file.py:name` means."""
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise TargetError(f"expected package.module:function or file.py:function, got {target}.")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise TargetError(
                f"expected a function of {place}, got {name}, which it does not have. It has {_some(known)}."
            )
        found = getattr(found, part)
    if not callable(found):
        raise TargetError(f"expected a function, got {name} of {place}, which is a {type(found).__name__}.")
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise TargetError(f"expected a file that exists, got {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    # As if it were run from its folder, so that it finds its neighbours.
    sys.path.insert(0, str(path.parent.resolve()))
    _run(lambda: loader.exec_module(module), str(path))
    return module


def _from_path(dotted: str) -> Any:
    sys.path.insert(0, "")
    try:
        if importlib.util.find_spec(dotted) is None:
            raise ModuleNotFoundError(dotted)
    except (ModuleNotFoundError, ValueError) as error:
        raise TargetError(
            f"expected a module that can be imported from here, got {dotted}. Install its package, go to the folder "
            "that contains it, or name the file: path/to/file.py:function."
        ) from error
    return _run(lambda: importlib.import_module(dotted), dotted)


def _run(load: Callable[[], Any], place: str) -> Any:
    try:
        return load()
    except Exception as error:
        raise TargetError(f"{place} fails when it is imported: {type(error).__name__}: {error}") from error


def problem(function: Callable[..., Any], x0: str | None, args: str | None) -> tuple[Any, Any, tuple[Any, ...]]:
    """F, x0, args. Without x0 the function is one that returns the three."""
    if x0 is not None:
        given = [] if args is None else _json("--args", args)
        if not isinstance(given, list):
            raise TargetError(
                f"--args: expected a list such as [10.0, [1, 2]], with an entry for each argument, got {args}."
            )
        return function, arrays(_json("--x0", x0)), tuple(map(arrays, given))
    try:
        made = function()
    except TypeError as error:
        raise TargetError(
            f"expected --x0, or a function without arguments that returns (F, x0, args), got {function.__name__}, "
            f"which cannot be called so: {error}."
        ) from error
    if not isinstance(made, tuple) or len(made) != 3 or not isinstance(made[2], tuple | list):
        raise TargetError(
            f"expected {function.__name__}() to return (F, x0, args) with a tuple of arguments, got "
            f"{type(made).__name__}. If it is F itself, give --x0."
        )
    return made[0], made[1], tuple(made[2])


def arrays(value: Any) -> Any:
    """Lists of numbers as arrays of floating-point numbers, in dicts of any depth."""
    if isinstance(value, dict):
        return {key: arrays(item) for key, item in value.items()}
    try:
        return jnp.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise TargetError(f"expected numbers, lists of them, or objects of these, got {json.dumps(value)}.") from error


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TargetError(
            f'{option}: expected JSON such as 1.5, [1.5, 3.5] or {{"T": [300, 301]}}, got {text} ({error.msg} at '
            f"character {error.pos})."
        ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
