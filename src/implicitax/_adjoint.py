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

which is reverse mode: one solve with Aᵀ for one cotangent, whatever the number of parameters. `custom_linear_solve`
makes of (3) and (4) one linear operation that JAX can transpose, batch, and differentiate again (it differentiates
M u = b), so a single JVP rule gives forward, reverse and higher derivatives. That the whole of M is in it, and not A
alone, lets us say what the derivative of a failed solve is: NaN, but exactly 0 where the cotangent is 0, although B at
such a point may hold NaN. A and B are evaluated at the solution and at the θ that is being differentiated.

The rule belongs to a primitive, not to a `jax.custom_jvp`: JAX forgets the latter where it splits a loop into what is
known and what is not, as reverse mode through a `scan` does, and a second derivative would then be silently wrong.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from . import _linear, _tree
from ._errors import raise_where
from ._layout import is_differentiable
from ._loop import Outcome
from ._problem import Problem
from ._rows import RowKrylov, Rows, solve
from ._solution import Status, Summary
from ._tree import Leaves


class Rule(NamedTuple):
    """What the derivative needs that is not an array."""

    problem: Problem
    linear_solver: lx.AbstractLinearSolver | RowKrylov
    throw: bool
    summary: Summary
    batch_axis: int | None = None


class Constants(NamedTuple):
    """What the derivative needs that has none itself."""

    outcome: Outcome
    y: Leaves  # that part of G(x, θ) that has a derivative
    scale: Leaves  # the typical size of the unknowns
    correction: Leaves | None  # Newton's, if the equations are to be linearised at x plus that


def differentiable(rule: Rule, constants: Constants, theta: Leaves) -> tuple[Leaves, Leaves]:
    """x and y = G(x, θ) as functions of θ."""
    return eqxi.filter_primitive_bind(_solution, rule, constants, theta)


@eqxi.filter_primitive_def
def _value(rule: Rule, constants: Any, theta: Any) -> tuple[Any, Any]:
    """Of arrays, and of their shapes and dtypes."""
    return constants.outcome.x, constants.y


@eqxi.filter_primitive_jvp
def _solution_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    rule, constants, theta = primals
    outcome, _, scale, correction = constants
    # Not `outcome.x`: x is a function of θ, also where this rule is itself differentiated.
    solution = differentiable(rule, constants, theta)
    x, y = solution
    moving = [i for i, tangent in enumerate(tangents[2]) if tangent is not None]
    if not moving:
        return solution, jax.tree.map(lambda _: None, solution)
    theta_m, theta_dot = (tuple(values[i] for i in moving) for values in (theta, tangents[2]))
    if correction is not None:
        x = _tree.axpy(1, correction, x)
    rows = Rows(outcome.status == Status.CONVERGED, rule.batch_axis)

    def evaluate(x: Leaves, theta: Leaves) -> tuple[Leaves, Leaves]:
        residual, aux = rule.problem.evaluate(x, theta)
        return residual, tuple(filter(is_differentiable, aux))

    def at(x: Leaves, theta_m: Leaves) -> tuple[Leaves, Leaves]:
        theta_all = list(theta)
        for i, leaf in zip(moving, theta_m):
            theta_all[i] = leaf
        if rule.batch_axis is None:
            return evaluate(x, tuple(theta_all))
        # A row that failed is held constant, c: the others see it there, and its own equation is c − x = 0.
        held = rows.hold(x)
        residual, y = evaluate(held, tuple(theta_all))
        return rows.choose(residual, _tree.sub(held, x)), y

    def residual_at(x: Leaves) -> Leaves:
        return at(x, theta_m)[0]

    # Checkpointed: `custom_linear_solve` transposes M, and that must not keep the intermediates of F at x, which cost
    # memory and, in the lane of a failed solve, may be NaN.
    @partial(jax.checkpoint, prevent_cse=False)
    def M(u: _Block) -> _Block:
        """(3), left-hand side."""
        _, (r_dot, y_dot) = jax.jvp(at, (x, theta_m), (u.x, u.theta))
        product = _Block(u.theta, r_dot, _tree.sub(u.y, y_dot))
        return jax.tree.map(lambda leaf, ui: leaf + _zeros(leaf, x[0], ui), product, u)

    def solve_block(_: Any, b: _Block) -> _Block:
        """(3), from the top."""
        _, (B_theta, _) = jax.jvp(lambda theta_m: at(x, theta_m), (theta_m,), (b.theta,))
        _, A = _linear.linearise(residual_at, x, rule.linear_solver)
        x_dot, ok = solve(A, _tree.sub(b.x, B_theta), rule.linear_solver, scale, rule.batch_axis)
        y_dot = ()
        if y:
            _, (_, moved) = jax.jvp(at, (x, theta_m), (x_dot, b.theta))
            y_dot = _tree.axpy(1, moved, b.y)
        x_dot, y_dot, _ = _verdict(rule, outcome, rows, ok, b, (x_dot, y_dot, ()))
        return _Block(b.theta, x_dot, y_dot)

    def solve_block_transposed(_: Any, c: _Block) -> _Block:
        """(4)."""
        _, pullback = jax.vjp(at, x, theta_m)
        right = c.x
        if y:
            right = _tree.axpy(1, pullback((_tree.zeros_like(x), c.y))[0], right)
        A_transposed = _linear.linearise_transposed(residual_at, x, rule.linear_solver)
        w_x, ok = solve(A_transposed, right, rule.linear_solver, scale, rule.batch_axis, transpose=True)
        _, moved = pullback((tuple(-leaf for leaf in w_x), c.y))
        w_x, _, moved = _verdict(rule, outcome, rows, ok, c, (w_x, (), moved))
        return _Block(_tree.axpy(1, moved, c.theta), w_x, c.y)

    b = _Block(
        theta_dot, tuple(_zeros(leaf, theta_dot[0]) for leaf in x), tuple(_zeros(leaf, theta_dot[0]) for leaf in y)
    )
    u = jax.lax.custom_linear_solve(M, b, solve_block, solve_block_transposed)
    return solution, (u.x, u.y)


# Batching follows from the two rules; there is nothing to transpose in what is not linear.
_solution = eqxi.create_vprim("implicitax_solution", _value, _value, _solution_jvp, None)


class _Block(NamedTuple):
    """A vector of the block system: an unknown (θ̇, ẋ, ẏ), or a right-hand side."""

    theta: Leaves
    x: Leaves
    y: Leaves


def _zeros(like: Array, *of: Array) -> Array:
    """Exact zeros shaped like `like` that JAX takes for a linear function of each of `of`.

    `custom_linear_solve` is transposed, and differentiated, only if every part of its right-hand side is linear, none
    a known constant. In first derivatives the right-hand side is to be linear in θ̇; in second ones it holds the
    derivative of M u, or of Mᵀ u, with respect to x, which for an affine R would be a constant 0.
    """
    nothing = jnp.ones((0,), like.dtype)
    for factor in of:
        nothing = nothing * jnp.ravel(factor)[:0].astype(like.dtype)
    return jax.lax.pad(nothing, jnp.zeros((), like.dtype), [(like.size, 0, 0)]).reshape(like.shape)


def _verdict(
    rule: Rule, outcome: Outcome, rows: Rows, ok: Array, right: _Block, values: tuple[Leaves, Leaves, Leaves]
) -> tuple[Leaves, Leaves, Leaves]:
    """`values` for x, y, θ, but NaN if the solve or its linear solve failed, but exactly 0 if the right-hand side is.

    In a batch row by row; a value that has no rows, θ̄ for one, is a sum over all of them.
    """
    by_row, whole = rows.partition((*right.x, *right.y))
    moving = rows.nonzero(by_row) | ~_tree.is_zero((*right.theta, *whole))
    failed = moving & ~(ok & rows.good)
    if rule.throw:
        numbers = (outcome.status, outcome.nit, outcome.residual, outcome.component)
        values = raise_where(failed, values, partial(_complaint, rule.summary), *numbers, name="derivative")

    def judged(leaf: Array, wrong: Array) -> Array:
        return jnp.where(jnp.any(moving), jnp.where(wrong, jnp.nan, leaf), 0).astype(leaf.dtype)

    x, y, theta = values
    return (
        tuple(judged(leaf, rows.spread(failed, leaf)) for leaf in x),
        tuple(judged(leaf, rows.spread(failed, leaf) if rows.has(leaf) else jnp.any(failed)) for leaf in y),
        tuple(judged(leaf, jnp.any(failed)) for leaf in theta),
    )


def _complaint(summary: Summary, failed: np.ndarray, status: Any, nit: Any, residual: Any, component: Any) -> str:
    solved = status == Status.CONVERGED
    status = np.where(failed & solved, Status.LINEAR_SOLVE_FAILED, np.where(failed, status, Status.CONVERGED))
    return f"`{summary.caller}`, derivative: {summary.describe(status, nit, residual, component)}"
