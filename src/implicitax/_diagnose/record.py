"""What `diagnose` returns: plain records of numbers and texts."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in words, with what to do about it."""

    severity: Severity
    code: str  # a short name, for programs
    text: str


@dataclass(frozen=True)
class PlainIteration:
    """Plain iteration x ← F(x) from x0."""

    residual: np.ndarray  # max |F(x) − x| of each iteration; in a batch of each iteration and row
    converged: bool
    rate: float | None  # by which factor the residual changes with an iteration, in the end
    needed: int | None  # iterations until the residual meets the tolerance; None if it never does
    period: int | None  # of the cycle that it ends in
    bad: str | None  # where the first value that is not finite arises,
    grown: bool = False  # and whether the residual has grown without bounds before


@dataclass(frozen=True)
class Attempt:
    """One solver on this problem."""

    name: str
    success: bool
    message: str
    nit: int  # the most of all rows
    nfev: int
    residual: float  # the largest of all rows
    worst: str  # the component of x that has it
    failed_rows: tuple[int, ...]
    history: np.ndarray | None  # max |R| of each evaluation; in a batch of each row and evaluation
    seconds: float | None  # of one solve, compiled

    @property
    def call(self) -> str:
        """What is to be typed after `ix.`"""
        return self.name if self.name.endswith(")") else f"{self.name}()"

    def with_history(self, history: np.ndarray | None) -> "Attempt":
        return dataclasses.replace(self, history=history)


@dataclass(frozen=True)
class Local:
    """F near the solution."""

    eigenvalues: np.ndarray  # of ∂F/∂x (of ∂R/∂x for a root), the largest first
    complete: bool  # whether these are all
    radius: float  # the spectral radius
    condition: float | None  # of I − ∂F/∂x (of ∂R/∂x); None if there is no room for the matrix
    condition_scaled: float | None  # with rows and columns in units of x
    ignored: tuple[str, ...]  # parts of x that F does not look at,
    passed: tuple[str, ...]  # that it returns as they are,
    unreached: tuple[str, ...]  # and that no parameter changes
    nonzeros: int | None  # of ∂F/∂x
    blocks: int | None  # independent systems that it falls into
    total: tuple[str, ...] = ()  # unknowns whose sum F keeps
    off: float | None = None  # Newton's correction at x, relative to the largest x


@dataclass(frozen=True)
class Parameter:
    """The derivative of c·x along a random direction of one parameter leaf, by several ways. c is random, too."""

    name: str
    shape: tuple[int, ...]
    forward: float
    reverse: float
    differences: float  # of the solve; NaN where it fails at a parameter that is moved
    uncertainty: float  # of the differences
    unrolled: float | None

    @property
    def error(self) -> float:
        """Of the implicit derivative, relative to the differences."""
        scale = max(abs(self.differences), abs(self.reverse))
        return abs(self.reverse - self.differences) / scale if scale > 0 else 0.0


@dataclass(frozen=True)
class Pattern:
    """Which entries of ∂R/∂x there may be, read off F."""

    entries: int
    form: str  # "tridiagonal"; empty where no form serves
    tangents: int  # of F that fill the matrix
    used: bool  # whether the default uses it: so many unknowns, and not a batch
    picture: np.ndarray  # how many entries are in each part of the matrix


@dataclass(frozen=True)
class Report:
    """All of it; what could not be had is None or empty."""

    verdict: str  # one line
    findings: tuple[Finding, ...]  # the gravest first
    recommended: str  # a line of code
    kind: str
    size: int  # real unknowns
    picard: PlainIteration | None = None
    attempts: tuple[Attempt, ...] = ()  # the first is the solver asked for
    local: Local | None = None
    pattern: Pattern | None = None
    parameters: tuple[Parameter, ...] = ()
    step: float = 0.0  # of the central differences, relative to the parameter

    @property
    def healthy(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)
