"""Every choice that is made for the user, in one place: method, linear solver, first attempt, and how long.

| unknowns n, in a batch of a row | ≤ 4 | ≤ 8 | ≤ 100 | ≤ 1000 | more |
|---|---|---|---|---|---|
| method, fixed point | `PseudoTransient` | `PseudoTransient` | `Anderson` | `Anderson` | `Anderson` |
| before it, root of n = 1 with two bounds | `Bracket` | none | none | none | none |
| method, root | `Ladder` | `Ladder` | `Ladder` | `Ladder` | `NewtonKrylov` |
| before it, root where A has a structure, n > 200 | none | none | none | `Newton` | `Newton` |
| where it stalls, fixed point of n ≤ 300, F simple | none | none | `PseudoTransient` | the same | none |
| first attempt, fixed point | plain, then Newton | plain | plain | plain | plain |
| first attempt, root | Newton | none | none | none | none |
| A in Newton's step | `SmallLU` | `DenseLU` | `DenseLU` | `DenseLU` | `Krylov` |
| A in the derivative, root | `SmallLU` | `DenseLU` | `DenseLU` | `DenseLU` | `Krylov` |
| A in the derivative, fixed point | `SmallLU` | `DenseLU` | `DenseLU` | `Krylov`, then LU | `Krylov`, then GMRES |
| the same where A has a structure, n > 200 | | | | `StructuredLU` | `StructuredLU` |
| A in the derivative of a batch, n of all rows | `SmallLU` | `DenseLU` | `DenseLU` | as above | `RowKrylov` |

A has a structure at any n where the user gives a pattern (`sparsity`) that has a form. Then, and above 200 unknowns,
a `Newton` that is named takes its steps by it, too, and the derivative of any solver.

n ≤ 4 is where an LU decomposition that is written out pays (`SMALL` in `_linear/small_lu.py`; the table that
`benchmarks/small_lu.py` prints). How long a method may go on is its own `default_max_steps` and `patience`.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from .. import _linear
from .._errors import sparsity as check
from .._errors.keywords import check_determined
from .._linear import Krylov, SmallLU, Structure, StructuredLU, factoriser
from .._loop import Attempt
from .._methods import (
    AbstractMethod,
    Anderson,
    Evaluation,
    Ladder,
    Newton,
    NewtonKrylov,
    Picard,
    Proposal,
    PseudoTransient,
    Tolerance,
)
from .._problem import Kind, Problem, Theta
from .._problem.pattern import Given
from .._rule import RowKrylov, Unrolled
from .._rule.rows import LinearSolver
from .._tree import Leaves
from .keywords import Wanted

# Unknowns up to which n tangents of F an iteration cost less than the iterations that they save: `docs/robustness.md`
# has the evaluations of PseudoTransient and of Anderson on the small maps.
FEW = 8
# Unknowns up to which the n tangents that fill a matrix cost less than the products of a Krylov method: of a fixed
# point, where A = ∂F/∂x − I is as a rule close to −I and few products are enough; and of a root. `docs/speed.md`,
# "dense": gradients for n = 10 to 2000. Beyond DENSE a matrix takes 8 MB.
MANY, DENSE = 100, 1000
SOME = 300  # and up to which they cost little beside what has been spent until all but Newton's steps have failed

# Pairs (memory, damping) of Anderson's method that serve where the first setting fails, plain iteration as the last
# resort, and how often it begins anew: `docs/batches.md` has what they solve, and `docs/robustness.md`.
# Where Newton's steps are in reserve, which need tens of evaluations, only plain iteration comes before them:
# `docs/slow-maps.md`, "near".
RETRIES = ((5, 0.5), (10, 0.2), (3, 0.05))
LAST = ((0, 1.0), (0, 0.3), (0, 0.1))
MEMORY, RESTARTS = 10, 3
WARMUP, WARMUP_OF_ROWS = 40, 10  # in a batch all rows wait for the last one
RESTARTS_OF_FEW = 3
STARTS = 4  # of a large root
LEAST = 200  # unknowns above which the structure of A is looked for: below a dense matrix costs little
POINTS = 16  # around a guess at which F is not finite: `benchmarks/domains.py`

# The first attempt. F has so few operations that compiling it three times costs less than what the attempt saves:
# `docs/speed.md`, the regimes "compile" (F of 1,000 operations) and "small".
SIMPLE = 150
LIMIT, PLAIN = 40, 15  # evaluations of the attempt with Newton's steps, and those of plain iteration before them
OURS, ROBUST = 2e4, 2e5  # what an iteration of plain iteration, and of a robust method, cost beside F, in its entries
AS_ROBUST, MOST = 50, 200  # plain iteration may cost what 50 robust iterations do, but not take more than 200

# Krylov methods for a derivative: one digit below the tolerance at which the equation itself is solved.
DIGIT = 1e-1
FEW_PRODUCTS, MANY_PRODUCTS = 100, 500  # before LU takes over, up to DENSE unknowns, and before GMRES does


class Auto(AbstractMethod):
    """The default: the method chosen by kind and by size. With `batch_axis` the size is that of a row.

    | | few unknowns (n ≤ 8) | more | n > 1000 |
    |---|---|---|---|
    | `fixed_point` | `PseudoTransient(restarts=3)` | `Anderson(10, warmup=40, retries=…, restarts=3)` | the same |
    | the same, F simple | | n ≤ 300: `Anderson(10, warmup=40, retries=((0, 1.0),))`, then `PseudoTransient` | |
    | `root` | `Ladder()` | `Ladder()` | `NewtonKrylov(starts=4)` |

    Above 200 unknowns the pattern of ∂R/∂x is found from F, if `sparsity` does not say it. Where that is a band, if
    need be in another order of the unknowns, blocks, or, as of grids and networks, what a sparse LU fills in little, a
    root is sought by Newton's steps first, at the cost of a few tangents and an elimination in that form; so is a fixed
    point where all else has stalled. The derivative is made by it too, and `Solution.linear_solver` says what it is:
    "tridiagonal, 3 tangents".

    In a batch, which waits for its last row, there are no restarts, and no other method after this. Where F has no
    derivative, as a callback has not, a fixed point is `Anderson`'s from n = 1, and of a root ∂R/∂x is by differences:
    two evaluations for each unknown.

    For a fixed point it aims at the one that plain iteration from x0 reaches, in less time, and converges where
    plain iteration oscillates or leaves the domain of F. `Solution.solver` says what was chosen. Where F is not finite
    at x0, 16 points around it are tried: nearer to 0, farther, above, below and scattered.

    If F has few operations, it begins with an attempt that costs next to nothing beside F. Of a fixed point, up to 4
    unknowns, a few steps of plain iteration and then Newton's; of more, plain iteration as long as its rate says that
    it will converge in 50 evaluations, or where one costs little, in 200. Of a root, up to 4 unknowns, Newton's steps
    as long as each is shorter than the one before.

    ```python
    >>> import implicitax as ix
    >>> sol = ix.fixed_point(lambda x: 10 / x**2, 2.0)  # plain iteration diverges: ∂F/∂x = −2
    >>> print(round(float(sol.x), 3), sol.solver)
    2.154 PseudoTransient(linear_solver=SmallLU(), restarts=3)

    ```
    """

    kinds = ("fixed_point", "root")

    def choose(
        self, kind: Kind, size: int, batch: bool = False, differentiable: bool = True, newton: bool = False
    ) -> AbstractMethod:
        """`newton`: whether Newton's steps are in reserve (`later`), to which plain iteration is all that is first."""
        if kind == "root":
            return Ladder() if size <= DENSE else NewtonKrylov(starts=STARTS)
        if size <= FEW and differentiable:
            return PseudoTransient(restarts=0 if batch else RESTARTS_OF_FEW)
        warmup, restarts = (WARMUP_OF_ROWS, 0) if batch else (WARMUP, RESTARTS)
        if newton:
            return Anderson(MEMORY, warmup=warmup, retries=LAST[:1])
        return Anderson(MEMORY, warmup=warmup, retries=RETRIES + LAST, restarts=restarts)

    def init(self, x: Leaves, setting: Array) -> Any:
        raise NotImplementedError("`Auto` is replaced by the method it chooses before it runs.")

    def step(self, at: Evaluation, state: Any, tolerance: Tolerance) -> Proposal:
        raise NotImplementedError("`Auto` is replaced by the method it chooses before it runs.")


def later(problem: Problem, batch_axis: int | None) -> AbstractMethod | None:
    """What goes on where the method has stalled: for a fixed point, Newton's steps. They take as long to compile as all
    the rest, and many times as long where F has many operations: so only for one that is simple."""
    affordable = FEW < problem.size <= SOME and is_simple(problem) and problem.differentiable
    if problem.kind == "root" or batch_axis is not None or not affordable:
        return None
    return PseudoTransient(restarts=RESTARTS_OF_FEW, plain=False)


def to_unroll(kind: Kind) -> AbstractMethod:
    """The method of which `Unrolled` takes so many steps."""
    return Picard() if kind == "fixed_point" else Newton()


def for_steps(size: int, dtype: Any, structure: Structure | None = None) -> _linear.LinearSolver:
    """What solves with A in the steps of a method."""
    if structure is not None:
        return StructuredLU(structure)
    return factoriser(size) if size <= DENSE else _krylov(size, dtype)


def structure_of(problem: Problem, wanted: Wanted, theta: Theta) -> Structure | None:
    """The structure of A, where it may serve: that of the user's pattern, or, above `LEAST` unknowns, the one found."""
    sparsity = None if wanted.sparsity == "dense" else wanted.sparsity
    if sparsity is not None:
        _check_given(problem, sparsity, wanted.batch_axis)
    whole = wanted.batch_axis is None and problem.excess is None and not isinstance(wanted.adjoint, Unrolled)
    if wanted.sparsity == "dense" or not whole:
        return None
    if sparsity is None and problem.size <= LEAST:
        return None
    given = sparsity is not None
    found = problem.by_given(sparsity, Structure.of_given) if given else problem.by_pattern(theta, Structure.of)
    return None if found is not None and found.colouring.border_rows.size and not problem.reversible else found


def _check_given(problem: Problem, sparsity: Any, batch_axis: Any) -> None:
    check_determined(problem.caller, "sparsity", sparsity, problem.size, problem.excess)
    check.check_alone(problem.caller, batch_axis, problem.constrained)
    if isinstance(sparsity, Given):
        sizes = {path: math.prod(struct.shape) for path, struct in zip(problem.paths, problem.x_struct)}
        check.check_size(problem.caller, sparsity.shape, sizes)


def by_structure(
    problem: Problem, structure: Structure, solver: AbstractMethod, later: AbstractMethod | None
) -> tuple[AbstractMethod, AbstractMethod | None]:
    """What is tried, and what where it stalls, if A has a structure: of a root Newton's steps first, which cost little.
    Those of a fixed point cost as little, but it is the one sought that plain iteration leads to."""
    newton = Newton(StructuredLU(structure))
    return (newton, solver) if problem.kind == "root" else (solver, later or newton)


def for_derivative(
    problem: Problem, dtype: Any, batch: bool, structure: Structure | None = None, preconditioner: Any = None
) -> LinearSolver:
    """What solves with A, and with its transpose, in a derivative."""
    if structure is not None:
        return StructuredLU(structure)
    if preconditioner is not None and not batch:
        return dataclasses.replace(_krylov(problem.size, dtype), preconditioner=preconditioner, dense=False)
    if batch and problem.size > DENSE:
        return RowKrylov(retries=RETRIES)
    many = problem.kind == "fixed_point" and problem.size > MANY
    return _krylov(problem.size, dtype) if many else for_steps(problem.size, dtype)


def for_rows(problem: Problem, batch_axis: int) -> lx.AbstractLinearSolver:
    """What solves with the A of a row, in the verdict on a batch of roots."""
    return factoriser(problem.size // max(problem.x_struct[0].shape[batch_axis], 1))


def _krylov(size: int, dtype: Any) -> Krylov:
    tolerance = DIGIT * float(jnp.finfo(dtype).eps) ** (2 / 3)
    dense = size <= DENSE
    return Krylov(tolerance, dense=dense, max_steps=FEW_PRODUCTS if dense else MANY_PRODUCTS)


def is_simple(problem: Problem) -> bool:
    """Whether F has so few operations that it may be compiled several times."""
    return problem.operations <= SIMPLE


def first_attempt(problem: Problem, method: Any, max_steps: int) -> Attempt | None:
    """How far a first attempt goes; None where there is none: F is not simple, or the method begins otherwise."""
    plain_steps = method.plain_steps if isinstance(method, AbstractMethod) else None
    if plain_steps is None or max_steps <= LIMIT or not is_simple(problem):
        return None
    linear_solver = getattr(method, "linear_solver", None)
    if isinstance(linear_solver, SmallLU):
        return Attempt(plain_steps, PLAIN, LIMIT, linear_solver)
    if problem.kind == "root":
        return None
    entries = problem.entries
    patience = min(max_steps // 2, MOST, int(AS_ROBUST * (ROBUST + entries) / (OURS + entries)))
    return Attempt(plain_steps, patience, patience, None)
