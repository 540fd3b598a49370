"""All that was found out about a problem, before anything is said of it."""

from collections.abc import Iterable
from typing import NamedTuple

from .elsewhere import Another, Unstable
from .jump import Jump
from .moved import Moved
from .nans import Nans
from .problem import Case
from .record import Attempt, Finding, Local, Parameter, Pattern, PlainIteration

_LISTED = 5  # names in a list, before "and 12 more"


class Evidence(NamedTuple):
    """Measurements; None or empty where they could not be had."""

    case: Case
    attempts: tuple[Attempt, ...]
    picard: PlainIteration | None = None
    local: Local | None = None
    parameters: tuple[Parameter, ...] = ()
    moved: tuple[Moved, ...] = ()
    nans: Nans | None = None
    unstable: Unstable | None = None
    another: Another | None = None
    jump: Jump | None = None
    pattern: Pattern | None = None
    lacks: tuple[str, ...] = ()  # the primitives because of which F has no derivative in reverse mode
    suspicions: tuple[Finding, ...] = ()  # of mistaken kinds and units, and of what is not traced


def listed(names: Iterable[object]) -> str:
    texts = list(map(str, names))
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")
