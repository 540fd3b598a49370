"""The derivative of a solution by the implicit function theorem.

At a solution, R(x, θ) = 0. With A = ∂R/∂x, B = ∂R/∂θ, and for the auxiliary output y = G(x, θ), the tangents obey

    R(x, θ) = 0   =>   A ẋ + B θ̇ = 0                                                              (1)
    y = G(x, θ)   =>   ẏ = Gₓ ẋ + G_θ θ̇                                                            (2)

With the tangent of θ as an unknown too, (1) and (2) are one block-triangular linear system M u = b,

    | I     0    0 | | θ̇ |   | θ̇ |
    | B     A    0 | | ẋ | = | 0 |                                                                 (3)
    | −G_θ  −Gₓ  I | | ẏ |   | 0 |

solved from the top: keep θ̇, solve with A, multiply. Its transpose Mᵀ w = c, with c = (0, x̄, ȳ), is solved from the
bottom: keep ȳ, then

    Aᵀ λ = x̄ + Gₓᵀ ȳ,     θ̄ = −Bᵀ λ + G_θᵀ ȳ                                                       (4)

which is reverse mode: one solve with Aᵀ for one cotangent, whatever the number of parameters. To solve a system with M
or Mᵀ is an operation of its own, `_system`: linear in its right-hand side, the transpose of one is the other, and its
derivative is another solve,

    M u = b   =>   M u̇ = ḃ − Ṁ u                                                                  (5)

so the one rule for x, `_solution_jvp`, gives forward, reverse and higher derivatives. That the whole of M is in it, and
not A alone, lets us say what the derivative of a failed solve is: NaN, but exactly 0 where the cotangent is 0, although
B at such a point may hold NaN. A and B are evaluated at the solution and at the θ that is being differentiated.

Both operations are primitives (`_xla.py` says why no `jax.custom_jvp`): nothing of F is traced for a derivative before
it is compiled, nor are its equations seen by what handles the derivative until then.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import ad
from jaxtyping import Array

from .. import _tree, _xla
from .._errors import raise_where
from .._loop import Outcome
from .._problem import Condition, Problem
from .._solution import Ending, Signs, Status, Summary
from .._tree import Leaves, is_differentiable
from .conditions import stay, stay_for_all
from .rows import LinearSolver, Rows, Solve


class Rule(NamedTuple):
    """What the derivative needs that is not an array."""

    problem: Problem
    linear_solver: LinearSolver
    throw: bool
    summary: Summary
    batch_axis: int | None = None
    by_column: bool = False  # whether each column of a small A is compiled by itself
    check: bool = True  # whether a nearly singular A is to be found out


class Constants(NamedTuple):
    """What the derivative needs that has none itself."""

    outcome: Outcome
    y: Leaves  # that part of G(x, θ) that has a derivative
    scale: Leaves  # the typical size of the unknowns, if the linear solver has no matrix
    correction: Leaves | None  # Newton's, if the equations are to be linearised at x plus that


def differentiable(rule: Rule, constants: Constants, theta: Leaves) -> tuple[Leaves, Leaves]:
    """x and y = G(x, θ) as functions of θ."""
    return _xla.bind(_solution, rule, constants, theta)


@_xla.defines_value
def _value(rule: Rule, constants: Any, theta: Any) -> tuple[Any, Any]:
    """Of arrays, and of their shapes and dtypes."""
    return constants.outcome.x, constants.y


@_xla.defines_jvp
def _solution_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    rule, constants, theta = primals
    # Not `outcome.x`: x is a function of θ, also where this rule is itself differentiated.
    x, y = differentiable(rule, constants, theta)
    at = x if constants.correction is None else _tree.axpy(1, constants.correction, x)
    moving = tuple(i for i, tangent in enumerate(tangents[2]) if tangent is not None)
    theta_dot = _pick(tangents[2], moving)
    point = _Point(constants.outcome, constants.scale, at, theta)
    b = _Block(theta_dot, _tree.zeros_like(x), _tree.zeros_like(y))
    u = _xla.bind(_system, rule, moving, False, point, _xla.linked(b, x))
    return (x, y), (u.x, u.y)


class _Point(NamedTuple):
    """Where M is evaluated: x and θ; the other two have no derivative."""

    outcome: Outcome
    scale: Leaves
    x: Leaves
    theta: Leaves


class _Block(NamedTuple):
    """A vector of the block system: an unknown (θ̇, ẋ, ẏ), or a right-hand side. θ̇ is of the leaves that move only."""

    theta: Leaves
    x: Leaves
    y: Leaves


class _Solved(NamedTuple):
    """What solves a block system, whether it can be trusted, and the null vector of A, or Aᵀ, if nearly singular."""

    u: _Block
    ok: Array
    null: Leaves
    moved: Leaves  # of R by θ̇, or of θ̄ by the cotangent of R
    transposed: bool
    holds: Array  # whether the constraint, if there is one, still does

    def nan_in(self, right: _Block) -> tuple[Array, Array]:
        """Whether what was given is NaN; and whether ∂F/∂θ is. Not where that is infinite, which may be what it is."""
        given = _tree.has_nan((*right.theta, *right.x, *right.y))
        return given, _tree.has_nan(self.moved) & ~given & (jnp.all(self.ok) | (not self.transposed))


class _Equations(NamedTuple):
    """R(x, θ) and y = G(x, θ) as functions of x and of the leaves of θ that move."""

    rule: Rule
    moving: tuple[int, ...]
    outcome: Outcome
    theta: Leaves

    @property
    def rows(self) -> Rows:
        return Rows(self.outcome.status == Status.CONVERGED, self.rule.batch_axis)

    def __call__(self, x: Leaves, theta_m: Leaves) -> tuple[Leaves, Leaves]:
        theta = _replace(self.theta, self.moving, theta_m)
        if self.rule.batch_axis is None:
            return self._evaluate(x, theta)
        # A row that failed is held constant, c: the others see it there, and its own equation is c − x = 0.
        held = self.rows.hold(x)
        residual, y = self._evaluate(held, theta)
        return self.rows.choose(residual, _tree.sub(held, x)), y

    def _evaluate(self, x: Leaves, theta: Leaves) -> tuple[Leaves, Leaves]:
        residual, aux = self.rule.problem.evaluate(x, theta)
        return residual, tuple(filter(is_differentiable, aux))

    @property
    def _constrained(self) -> bool:
        return self.rule.problem.constrained and self.rule.check

    def _condition(self, x: Leaves, theta_m: Leaves) -> Condition:
        return self.rule.problem.condition(x, _replace(self.theta, self.moving, theta_m))

    def product(self, x: Leaves, theta_m: Leaves, u: _Block, transposed: bool) -> _Block:
        """M u or Mᵀ u, (3)."""
        if not transposed:
            _, (r_dot, y_dot) = jax.jvp(self, (x, theta_m), (u.x, u.theta))
            return _Block(u.theta, r_dot, _tree.sub(u.y, y_dot))
        _, pullback = jax.vjp(self, x, theta_m)
        x_bar, theta_bar = pullback((u.x, tuple(-leaf for leaf in u.y)))
        return _Block(_tree.axpy(1, u.theta, theta_bar), x_bar, u.y)

    def solve(self, x: Leaves, theta_m: Leaves, scale: Leaves, b: _Block) -> "_Solved":
        """M⁻¹ b, (3) from the top."""
        _, (B_theta, _) = jax.jvp(lambda theta_m: self(x, theta_m), (theta_m,), (b.theta,))
        solve = self._solve(scale)
        _, A = solve.linearise(lambda x: self(x, theta_m)[0], x)
        x_dot, ok, null = solve.certify(A, _tree.sub(b.x, B_theta))
        y_dot = ()
        if b.y:
            _, (_, moved) = jax.jvp(self, (x, theta_m), (x_dot, b.theta))
            y_dot = _tree.axpy(1, moved, b.y)
        holds = not self._constrained or stay(self._condition, (x, theta_m), (x_dot, b.theta))
        return _Solved(_Block(b.theta, x_dot, y_dot), ok, null, B_theta, False, jnp.asarray(holds))

    def solve_transposed(self, x: Leaves, theta_m: Leaves, scale: Leaves, c: _Block) -> "_Solved":
        """M⁻ᵀ c, (4) from the bottom."""
        _, pullback = jax.vjp(self, x, theta_m)
        right = c.x
        if c.y:
            right = _tree.axpy(1, pullback((_tree.zeros_like(x), c.y))[0], right)
        solve = self._solve(scale)
        A = solve.linearise_transposed(lambda x: self(x, theta_m)[0], x)
        w_x, ok, null = solve.certify(A, right, transpose=True)
        _, moved = pullback((tuple(-leaf for leaf in w_x), c.y))
        holds = True
        if self._constrained:
            solve_for = lambda b: solve._replace(check=None)(A, b, transpose=True)[0]
            of_theta = lambda w: pullback((tuple(-leaf for leaf in w), _tree.zeros_like(c.y)))[1]
            holds = stay_for_all(self._condition, (x, theta_m), solve_for, of_theta)
        u = _Block(_tree.axpy(1, moved, c.theta), w_x, c.y)
        return _Solved(u, ok, null, moved, True, jnp.asarray(holds))

    def _solve(self, scale: Leaves) -> Solve:
        rule = self.rule
        check = rule.problem.kind if rule.check else None
        return Solve(rule.linear_solver, scale, rule.batch_axis, rule.by_column, check)


@_xla.defines_value
def _solve_system(rule: Rule, moving: tuple[int, ...], transposed: bool, point: _Point, b: _Block) -> _Block:
    equations = _Equations(rule, moving, point.outcome, point.theta)
    solve = equations.solve_transposed if transposed else equations.solve
    solved = solve(point.x, _pick(point.theta, moving), point.scale, b)
    u = solved.u
    if transposed:
        judged = _verdict(equations, solved, b, _Block(u.theta, u.x, ()))
        return judged._replace(y=b.y)
    judged = _verdict(equations, solved, b, _Block((), u.x, u.y))
    return judged._replace(theta=b.theta)


@_xla.defines_value
def _shape_of_system(rule: Any, moving: Any, transposed: Any, point: Any, b: Any) -> Any:
    return b


@_xla.defines_jvp
def _system_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """(5)."""
    rule, moving, transposed, point, b = primals
    *_, point_dot, b_dot = tangents
    u = _xla.bind(_system, *primals)
    b_dot = _xla.linked(jax.tree.map(_or_zeros, b, b_dot), point.x)
    varied = tuple(i for i, tangent in enumerate(point_dot.theta) if tangent is not None)
    if varied or any(tangent is not None for tangent in point_dot.x):

        def product(x: Leaves, theta_v: Leaves) -> _Block:
            theta = _replace(point.theta, varied, theta_v)
            return _Equations(rule, moving, point.outcome, theta).product(x, _pick(theta, moving), u, transposed)

        at = point.x, _pick(point.theta, varied)
        direction = tuple(map(_or_zeros, point.x, point_dot.x)), _pick(point_dot.theta, varied)
        b_dot = jax.tree.map(jnp.subtract, b_dot, jax.jvp(product, at, direction)[1])
    return u, _xla.bind(_system, rule, moving, transposed, point, b_dot)


@_xla.defines_transpose
def _system_transpose(inputs: Any, c: Any) -> Any:
    rule, moving, transposed, point, b = inputs
    is_unknown = lambda leaf: isinstance(leaf, ad.UndefinedPrimal)
    c = _xla.linked(jax.tree.map(_or_zeros, b, c, is_leaf=is_unknown), point.x)
    w = _xla.bind(_system, rule, moving, not transposed, point, c)
    b_bar = jax.tree.map(lambda leaf, wi: wi if is_unknown(leaf) else None, b, w, is_leaf=is_unknown)
    return *jax.tree.map(lambda _: None, inputs[:-1]), b_bar


def _pick(values: tuple[Any, ...], indices: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(values[i] for i in indices)


def _replace(values: tuple[Any, ...], indices: tuple[int, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    replaced = dict(zip(indices, new))
    return tuple(replaced.get(i, value) for i, value in enumerate(values))


def _or_zeros(like: Any, value: Array | None) -> Array:
    aval = like.aval
    return jnp.zeros(aval.shape, aval.dtype) if value is None else value


# Batching follows from the other rules.
_solution = _xla.create_primitive("implicitax_solution", _value, _value, _solution_jvp, None)
_system = _xla.create_primitive("implicitax_system", _solve_system, _shape_of_system, _system_jvp, _system_transpose)


def _verdict(equations: _Equations, solved: _Solved, right: _Block, values: _Block) -> _Block:
    """`values`, but NaN if the solve or its linear solve failed, but exactly 0 if the right-hand side is.

    In a batch row by row; a value that has no rows, θ̄ for one, is a sum over all of them.
    """
    rule, outcome, rows = equations.rule, equations.outcome, equations.rows
    by_row, whole = rows.partition((*right.x, *right.y))
    moving = _xla.once(rows.nonzero(by_row) | ~_tree.is_zero((*right.theta, *whole)))
    failed = _xla.once(moving & ~(solved.ok & solved.holds & rows.good))
    if rule.throw:
        numbers = Ending(outcome.status, outcome.nit, outcome.residual, outcome.component)
        null = solved.null if rule.batch_axis is None else ()
        text = partial(rule.summary.describe_derivative, solved.transposed)
        given, undefined = solved.nan_in(right)
        undefined &= jnp.any(moving & rows.good) & ~jnp.any(moving & ~rows.good)
        signs = Signs(given, undefined, solved.holds)
        values = raise_where(failed | undefined, values, text, *numbers, *signs, *null, name="derivative")

    def judged(leaf: Array, wrong: Array) -> Array:
        return _xla.where(jnp.any(moving), _xla.where(wrong, jnp.nan, leaf), 0).astype(leaf.dtype)

    return _Block(
        x=tuple(judged(leaf, rows.spread(failed, leaf)) for leaf in values.x),
        y=tuple(judged(leaf, rows.spread(failed, leaf) if rows.has(leaf) else jnp.any(failed)) for leaf in values.y),
        theta=tuple(judged(leaf, jnp.any(failed)) for leaf in values.theta),
    )
