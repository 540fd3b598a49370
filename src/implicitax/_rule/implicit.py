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
it is compiled, nor are its equations seen by what handles the derivative until then. Outside `jit` each runs as a
compiled program of its own (`block.py`), and a failure is Python's to raise, forward and in reverse.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import _xla
from .._loop import Outcome
from .._tree import Leaves, is_differentiable
from .block import Constants, Point, Rule, pick
from .system import solve_system


class Found(NamedTuple):
    """The arrays of a solution. x, and that part of aux that is differentiable, are functions of θ; no others are."""

    x: Leaves
    aux: Leaves
    outcome: Outcome
    error: Float[Array, ""] | None
    constants: Constants | None = None  # what the derivative is to be made of


def differentiable(rule: Rule, solve: Callable[[Any, Any], Found], arrays: Any, inputs: Any) -> Found:
    """What `solve(arrays, inputs)` finds, with the implicit derivative by `inputs.theta`, and by nothing else."""
    given = arrays, inputs
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        arrays, inputs = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf), given)
        found = _xla.bind(_solution, rule, solve, arrays, inputs)
    else:
        found = solve(arrays, inputs)
    return found._replace(constants=None)


@_xla.defines_value
def _value(rule: Rule, solve: Callable[[Any, Any], Found], arrays: Any, inputs: Any) -> Found:
    return solve(arrays, inputs)


@_xla.defines_value
def _shape_of_value(rule: Rule, solve: Callable[[Any, Any], Found], arrays: Any, inputs: Any) -> Any:
    return _xla.shape_of(solve, arrays, inputs)


@_xla.defines_jvp
def _solution_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    rule, _, arrays, inputs = primals
    found = _xla.bind(_solution, *primals)
    found_dot = jax.tree.map(lambda _: None, found)
    moving = tuple(i for i, tangent in enumerate(tangents[-1].theta) if tangent is not None)
    if not moving:
        return found, found_dot
    # Not `outcome.x`: x is a function of θ, also where this rule is itself differentiated.
    point = Point(arrays.linear_solver, found.constants, found.x, inputs.theta)
    y = tuple(filter(is_differentiable, found.aux))
    u = solve_system(rule, moving, point, pick(tangents[-1].theta, moving), y)
    smooth = iter(u.y)
    aux_dot = tuple(next(smooth) if is_differentiable(leaf) else None for leaf in found.aux)
    return found, found_dot._replace(x=u.x, aux=aux_dot)


# Batching follows from the other rules.
_solution = _xla.create_primitive("implicitax_solution", _value, _shape_of_value, _solution_jvp, None)
