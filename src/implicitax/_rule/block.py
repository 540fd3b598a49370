"""The block system of the derivative, (3) and (4) of `implicit.py`: products, solves, and whether to trust them."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import _linear, _tree, _xla
from .._problem import Condition, Problem
from .._solution import Ending, Signs, Status, Summary
from .._tree import Leaves, is_differentiable
from .conditions import stay, stay_for_all
from .rows import LinearSolver, Rows, Solve


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rule:
    """What the derivative needs that is not an array."""

    problem: Problem
    linear_solver: LinearSolver  # without its arrays, which a `Point` has
    throw: bool
    summary: Summary
    batch_axis: int | None = None
    by_column: bool = False  # whether each column of a small A is compiled by itself
    check: bool = True  # whether a nearly singular A is to be found out
    failed: str = "nan"  # the derivative of a solve that has failed: also "zero", "one_step"
    programs: dict[Any, Any] = dataclasses.field(default_factory=dict)  # compiled ones, of `system.py`

    def __repr__(self) -> str:
        return repr(self.problem)


class Constants(NamedTuple):
    """What the derivative needs that has none itself."""

    ending: Ending  # of the solve; without `throw` only its status
    scale: Leaves  # the typical size of the unknowns, if the linear solver has no matrix
    correction: Leaves | None  # Newton's, if the equations are to be linearised at x plus that


class Point(NamedTuple):
    """Where M is evaluated: x and θ; the others have no derivative."""

    solver_arrays: Any  # of the linear solver
    constants: Constants
    x: Leaves
    theta: Leaves

    @property
    def at(self) -> Leaves:
        correction = self.constants.correction
        return self.x if correction is None else _tree.axpy(1, correction, self.x)


class Block(NamedTuple):
    """A vector of the block system: an unknown (θ̇, ẋ, ẏ), or a right-hand side. θ̇ is of the leaves that move only.

    Instead of one of the three None: it is 0, or not asked for.
    """

    theta: Any
    x: Any
    y: Any


class _Solved(NamedTuple):
    """What solves a block system, whether it can be trusted, and the null vector of A, or Aᵀ, if nearly singular."""

    u: Block
    ok: Array
    null: Leaves
    moved: Leaves  # of R by θ̇, or of θ̄ by the cotangent of R
    transposed: bool
    holds: Array  # whether the constraint, if there is one, still does

    def nan_in(self, right: Block) -> tuple[Array, Array]:
        """Whether what was given is NaN; and whether ∂F/∂θ is. Not where that is infinite, which may be what it is."""
        given = _tree.has_nan((*right.theta, *right.x, *right.y))
        return given, _tree.has_nan(self.moved) & ~given & (jnp.all(self.ok) | (not self.transposed))


class Equations(NamedTuple):
    """R(x, θ) and y = G(x, θ) as functions of x and of the leaves of θ that move."""

    rule: Rule
    moving: tuple[int, ...]
    ending: Ending
    theta: Leaves
    again: bool = False  # whether what solves the system is to be differentiated once more

    @property
    def rows(self) -> Rows:
        return Rows(self.ending.status == Status.CONVERGED, self.rule.batch_axis)

    def __call__(self, x: Leaves, theta_m: Leaves) -> tuple[Leaves, Leaves]:
        theta = replace(self.theta, self.moving, theta_m)
        if self.rule.batch_axis is None:
            return self._evaluate(x, theta)
        # A row that failed is held constant, c: the others see it there, and its own equation is c − x = 0.
        held = self.rows.hold(x)
        residual, y = self._evaluate(held, theta)
        own = _tree.sub(held, x)
        if self.rule.failed == "one_step":  # F(c, θ) − x, of which the others see c
            own = _tree.axpy(1, self._evaluate(jax.lax.stop_gradient(held), theta)[0], own)
        return self.rows.choose(residual, own), y

    def _evaluate(self, x: Leaves, theta: Leaves) -> tuple[Leaves, Leaves]:
        residual, aux = self.rule.problem.evaluate(x, theta)
        return residual, tuple(filter(is_differentiable, aux))

    @property
    def _constrained(self) -> bool:
        # Of more equations than unknowns the first derivative is by least squares; the second is so where they hold.
        return self.rule.problem.constrained and self.rule.check and (self.rule.problem.excess is None or self.again)

    def _condition(self, x: Leaves, theta_m: Leaves) -> Condition:
        return self.rule.problem.condition(x, replace(self.theta, self.moving, theta_m))

    def product(self, x: Leaves, theta_m: Leaves, u: Block, transposed: bool) -> Block:
        """M u or Mᵀ u, (3)."""
        if not transposed:
            _, (r_dot, y_dot) = jax.jvp(self, (x, theta_m), (u.x, u.theta))
            return Block(u.theta, r_dot, _tree.sub(u.y, y_dot))
        _, pullback = jax.vjp(self, x, theta_m)
        x_bar, theta_bar = pullback((u.x, tuple(-leaf for leaf in u.y)))
        return Block(_tree.axpy(1, u.theta, theta_bar), x_bar, u.y)

    def solve(self, x: Leaves, theta_m: Leaves, scale: Leaves, b: Block) -> _Solved:
        """M⁻¹ b, (3) from the top."""
        _, (B_theta, _) = jax.jvp(lambda theta_m: self(x, theta_m), (theta_m,), (b.theta,))
        solve = self._solve(x, scale)
        _, A = solve.linearise(lambda x: self(x, theta_m)[0], x)
        right = _tree.sub(b.x, B_theta)
        x_dot, ok, null = solve.certify(A, self._asked(right))
        x_dot = self._instead(x_dot, right)
        y_dot = ()
        if b.y:
            _, (_, moved) = jax.jvp(self, (x, theta_m), (x_dot, b.theta))
            y_dot = _tree.axpy(1, moved, b.y)
        holds = not self._constrained or stay(self._condition, (x, theta_m), (x_dot, b.theta))
        return _Solved(Block(b.theta, x_dot, y_dot), ok, null, B_theta, False, jnp.asarray(holds))

    def solve_transposed(self, x: Leaves, theta_m: Leaves, scale: Leaves, c: Block) -> _Solved:
        """M⁻ᵀ c, (4) from the bottom."""
        _, pullback = jax.vjp(self, x, theta_m)
        right = c.x
        if c.y:
            right = _tree.axpy(1, pullback((_tree.zeros_like(x), c.y))[0], right)
        solve = self._solve(x, scale)
        A = solve.linearise_transposed(lambda x: self(x, theta_m)[0], x)
        w_x, ok, null = solve.certify(A, self._asked(right), transpose=True)
        w_x = self._instead(w_x, right)
        _, moved = pullback((tuple(-leaf for leaf in w_x), c.y))
        holds = True
        if self._constrained:
            solve_for = lambda b: solve._replace(check=None)(A, b, transpose=True)[0]
            of_theta = lambda w: pullback((tuple(-leaf for leaf in w), _tree.zeros_like(c.y)))[1]
            holds = stay_for_all(self._condition, (x, theta_m), solve_for, of_theta)
        u = Block(_tree.axpy(1, moved, c.theta), w_x, c.y)
        return _Solved(u, ok, null, moved, True, jnp.asarray(holds))

    @property
    def excused(self) -> Array:
        """Whether the solve has failed, row by row, and its derivative is to be something else than NaN."""
        return ~self.rows.good if self.rule.failed != "nan" else jnp.zeros_like(self.rows.good)

    def _asked(self, right: Leaves) -> Leaves:
        """Of a solve that has failed nothing is asked; a row of a batch has an equation of its own already."""
        return right if self.rule.batch_axis is not None or self.rule.failed == "nan" else self.rows.keep(right)

    def _instead(self, solved: Leaves, right: Leaves) -> Leaves:
        """Where the solve has failed: the solution with A = −I, that of one step."""
        if self.rule.batch_axis is not None or self.rule.failed != "one_step":
            return solved
        return self.rows.choose(solved, tuple(-leaf for leaf in right))

    def _solve(self, x: Leaves, scale: Leaves) -> Solve:
        rule = self.rule
        check = rule.problem.kind if rule.check else None
        return Solve(_linear.at(rule.linear_solver, x), scale, rule.batch_axis, rule.by_column, check)


class Judged(NamedTuple):
    """What solves a block system; where and why it must not be used."""

    values: Block
    failed: Array
    numbers: tuple[Array, ...]


def solve_block(equations: Equations, transposed: bool, point: Point, b: Block) -> Judged:
    """M⁻¹ b or M⁻ᵀ b. What is passed on unchanged is not judged."""
    rule, moving = equations.rule, equations.moving
    rule = dataclasses.replace(rule, linear_solver=eqx.combine(point.solver_arrays, rule.linear_solver))
    equations = equations._replace(rule=rule)
    solve = equations.solve_transposed if transposed else equations.solve
    if rule.failed == "zero":
        b = Block(b.theta, equations.rows.keep(b.x), equations.rows.keep(b.y))
    solved = solve(point.at, pick(point.theta, moving), point.constants.scale, b)
    u = solved.u
    if rule.failed == "zero":
        keep = equations.rows.keep
        u = Block(u.theta if not transposed or rule.batch_axis is not None else keep(u.theta), keep(u.x), keep(u.y))
    judged = _judge(equations, solved, b, u._replace(y=()) if transposed else u._replace(theta=()))
    kept = judged.values._replace(y=b.y) if transposed else judged.values._replace(theta=b.theta)
    return judged._replace(values=kept)


def multiply(equations: "Equations", point: Point, dot: "Direction", transposed: bool, u: Block) -> Block:
    """Ṁ u, where x and θ move by `dot`."""
    moving, varied = equations.moving, tuple(i for i, leaf in enumerate(dot.theta) if leaf is not None)

    def product(x: Leaves, theta_v: Leaves) -> Block:
        theta = replace(point.theta, varied, theta_v)
        return equations._replace(theta=theta).product(x, pick(theta, moving), u, transposed)

    x_dot = tuple(jnp.zeros_like(xi) if leaf is None else leaf for xi, leaf in zip(point.x, dot.x))
    return jax.jvp(product, (point.at, pick(point.theta, varied)), (x_dot, pick(dot.theta, varied)))[1]


class Direction(NamedTuple):
    """How x and θ of a point move; None of a leaf that does not."""

    x: tuple[Any, ...]
    theta: tuple[Any, ...]


def pick(values: tuple[Any, ...], indices: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(values[i] for i in indices)


def replace(values: tuple[Any, ...], indices: tuple[int, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    replaced = dict(zip(indices, new))
    return tuple(replaced.get(i, value) for i, value in enumerate(values))


def _judge(equations: Equations, solved: _Solved, right: Block, values: Block) -> Judged:
    """`values`, but NaN if the solve or its linear solve failed, but exactly 0 if the right-hand side is.

    In a batch row by row; a value that has no rows, θ̄ for one, is a sum over all of them.
    """
    rule, rows = equations.rule, equations.rows
    by_row, whole = rows.partition((*right.x, *right.y))
    moving = _xla.once(rows.nonzero(by_row) | ~_tree.is_zero((*right.theta, *whole)))
    failed = _xla.once(moving & ~(solved.ok & solved.holds & rows.good) & ~equations.excused)

    def judged(leaf: Array, wrong: Array) -> Array:
        return _xla.where(jnp.any(moving), _xla.where(wrong, jnp.nan, leaf), 0).astype(leaf.dtype)

    values = Block(
        x=tuple(judged(leaf, rows.spread(failed, leaf)) for leaf in values.x),
        y=tuple(judged(leaf, rows.spread(failed, leaf) if rows.has(leaf) else jnp.any(failed)) for leaf in values.y),
        theta=tuple(judged(leaf, jnp.any(failed)) for leaf in values.theta),
    )
    if not rule.throw:
        return Judged(values, failed, ())
    null = solved.null if rule.batch_axis is None else ()
    given, undefined = solved.nan_in(right)
    undefined &= jnp.any(moving & rows.good) & ~jnp.any(moving & ~rows.good)
    signs = Signs(given, undefined, solved.holds)
    return Judged(values, failed | undefined, (*equations.ending, *signs, *null))
