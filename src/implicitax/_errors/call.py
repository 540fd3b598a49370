"""What can be wrong with a call before F is traced: F itself, x0, a constraint."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import is_array, is_unknown, path_names
from .raising import mistake
from .trees import describe, difference, in_words, named


class Function(NamedTuple):
    """How messages speak of F: its letter, and what is solved."""

    caller: str
    letter: str
    formula: str

    @classmethod
    def of(cls, caller: str, kind: str) -> "Function":
        return cls(caller, *(("F", "x = F(x)") if kind == "fixed_point" else ("R", "R(x) = 0")))

    @property
    def argument(self) -> str:
        return f"{self.caller}({self.letter}=...)"

    @property
    def call(self) -> str:
        """How what solves it is called with the arguments of F."""
        if self.caller.endswith("Layer"):
            return "layer(*args, x0=x0)"
        return "solve(x0, *args)" if self.caller.startswith("custom") else f"{self.caller}({self.letter}, x0, *args)"


def check_callable(called: Function, F: Any) -> None:
    if not callable(F):
        caller, function = called.caller, called.letter
        raise TypeError(
            mistake(
                called.argument,
                f"a function {function}(x, *args)",
                describe(F),
                "The function comes first, then the initial guess.",
                f"Call `{caller}({function}, {'init=x0)(*args' if caller.endswith('Layer') else 'x0, *args'})`.",
            )
        )


def check_decorated(called: Function, F: Any) -> None:
    """Whether `custom_…` was given the function of which the decorated one is a solver."""
    if not callable(F):
        function = called.letter
        cause = f"It is {called.formula} that is differentiated; the solver comes second, as what is decorated."
        remedy = f"Write `@ix.{called.caller}({function})` above `def solve(x0, *args)`."
        raise TypeError(mistake(called.argument, f"a function {function}(x, *args)", describe(F), cause, remedy))


def check_own_solver(called: Function, given: tuple[Any, ...]) -> None:
    """Whether what is decorated is one function."""
    if len(given) != 1 or not callable(given[0]):
        function = called.letter
        got = ", ".join(map(describe, given)) or "nothing"
        cause = f"Perhaps `@ix.{called.caller}` stands above the solver without the {function} that it solves."
        remedy = f"Write `@ix.{called.caller}({function})`, or `ix.{called.caller}({function})(solve)(x0, *args)`."
        raise TypeError(mistake(f"{called.caller}({function})(solve)", "one solver(x0, *args)", got, cause, remedy))


def note_returned(called: Function, error: Exception, x: Any, x0: Any) -> None:
    """Added to an error of F at what somebody's own solver has returned, if that is not like its x0."""
    if jax.tree.structure(x) != jax.tree.structure(x0):
        unlike = f"not like x0, {in_words(x0)}: {difference(x0, x, 'x0', 'what it returned')}"
        error.add_note(
            f"`{called.caller}`: {called.letter} was called with what your solver returned, {in_words(x)}, which is "
            f"{unlike}. It has to return x alone."
        )


def check_guess(called: Function, F: Any, x0: Any) -> None:
    """Whether F can be called, and x0 is a pytree of floating-point numbers."""
    check_callable(called, F)
    caller, function = called.caller, called.letter
    leaves = jax.tree.leaves(x0)
    if not (leaves and leaves[0] is x0) or isinstance(x0, type):
        _check_order(called, x0)
    if not any(np.size(leaf) for leaf in leaves if is_unknown(leaf)):
        raise ValueError(
            mistake(
                f"{caller}(x0=...)",
                "at least one number to solve for",
                f"{in_words(x0)} and no numbers in it",
                "An empty state is often a filter that removed every array, or a size computed as 0.",
                "Pass the initial guess as an array or a pytree of arrays.",
            )
        )
    integers = [i for i, leaf in enumerate(leaves) if is_array(leaf) and not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if integers:
        raise TypeError(
            mistake(
                f"{caller}(x0=...)",
                "floating-point or complex numbers",
                f"{describe(leaves[integers[0]])} at {path_names(x0)[integers[0]]}",
                "The unknowns of an equation vary continuously; integers were probably meant as floats.",
                f"Convert with `.astype(float)`, or move what is not unknown from x0 to `*args` or {function}.",
            )
        )


def _check_order(called: Function, x0: Any) -> None:
    """Whether x0 is no solver, of ours or of Optimistix, nor a class of them: what the two have in common tells."""
    if callable(getattr(x0, "init", None)) and callable(getattr(x0, "step", None)):
        raise TypeError(
            mistake(
                f"{called.caller}(x0=...)",
                "the guess as the second argument",
                f"a solver, {named(x0)}",
                f"That is the order of Optimistix, `{called.caller}(fn, solver, y0, args)`.",
                f"Call `{called.caller}({called.letter}, x0, *args, solver=solver)`.",
            )
        )


def cannot_call(called: Function, F: Any, error: TypeError, x0: Any, args: tuple[Any, ...]) -> TypeError:
    """Of a call of F that has failed: the error, if F does not take so many arguments; or that with a note."""
    caller, function = called.caller, called.letter
    packed = len(args) == 1 and isinstance(args[0], tuple | list)
    one = f"One argument is given besides x, {describe(args[0]) if packed else ''}, which {function} gets as it is."
    star = f"Call `{called.call}`, with the star, or one by one."
    try:
        signature = inspect.signature(F)
    except (TypeError, ValueError):
        return error
    try:
        signature.bind(x0, *args)
    except TypeError:
        cause = f"{function} is called with x, and then with the arguments given besides x0, one by one."
        remedy = f"Call `{called.call}` with as many as {function} takes besides x."
        expected, got = f"a function of x and {len(args)} more", f"one of {signature}"
        return TypeError(mistake(called.argument, expected, got, *((one, star) if packed else (cause, remedy))))
    if packed:
        error.add_note(f"`{caller}`: {one} {star}")
    if isinstance(x0, list | tuple) and type(x0).__name__ in str(error):
        error.add_note(f"`{caller}`: x is {describe(x0)}, as x0 is. For one array give `jnp.array(x0)`.")
    return error


def check_constraint(called: Function, constraint: Any) -> None:
    """Whether a constraint is a function, and one on a fixed point."""
    if constraint is None:
        return
    argument = f"{called.caller}(constraint=...)"
    if called.letter == "R":
        raise ValueError(
            mistake(
                argument,
                "none for a root",
                describe(constraint),
                "It says which of many fixed points is meant, where F keeps a total; those of a root are yours.",
                "Put what it says in the place of one of the equations of R.",
            )
        )
    if not callable(constraint):
        raise TypeError(
            mistake(
                argument,
                "a function c(x, *args)",
                describe(constraint),
                "It is called with what F is called with, and its values are 0 at the fixed point that is meant.",
                "Write for instance `constraint=lambda x, *args: x.sum() - 1`.",
            )
        )
