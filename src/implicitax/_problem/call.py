"""What is asked, and what it was taken apart to."""

from typing import Any, NamedTuple

from .._errors.call import Function
from .._tree import Layout, Leaves
from .equations import Kind, Problem, Theta


class Call(NamedTuple):
    """What the user has called: a function of the library, with a problem."""

    kind: Kind
    caller: str  # for messages
    F: Any
    x0: Any
    args: tuple[Any, ...]
    has_aux: bool = False
    constraint: Any = None  # a function c(x, *args), 0 at the fixed point that is meant
    again: bool = True  # whether it may come again: then the numbers in F become arguments of what is compiled

    @property
    def function(self) -> Function:
        return Function.of(self.caller, self.kind)


class Hoisted(NamedTuple):
    """The problem, all that F depends on, the guess as real leaves, and how x and aux are put together."""

    problem: Problem
    theta: Theta
    x0: Leaves
    state: Layout
    aux: Layout | None
