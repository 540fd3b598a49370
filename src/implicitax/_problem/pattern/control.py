"""Dependences through primitives that hold functions: calls, branches, custom rules, linear solves."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .dependence import Dependence, Maybe, OverBudgetError, Space
from .local import Abstract, depends, value_of
from .names import CALLS
from .reductions import dense
from .walk import Inner, Walk


def call(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    return walk.closed(eqn.params[CALLS[eqn.primitive.name]], ins)


def branches(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`cond` and `switch`: all that may be taken."""
    index, every = value_of(ins[0]), eqn.params["branches"]
    if index is not None:
        return walk.closed(every[int(np.clip(int(index), 0, len(every) - 1))], ins[1:])
    outs = [walk.closed(branch, ins[1:]) for branch in every]
    return [
        walk.space.union(depends(values), getattr(var.aval, "shape", ()))
        for var, values in zip(eqn.outvars, zip(*outs))
    ]


def linear_solve(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`custom_linear_solve`, by the function that solves."""
    lengths = eqn.params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    consts = ins[first : first + lengths.solve]
    right = ins[sum(lengths) :]
    outs = walk.closed(eqn.params["jaxprs"].solve, [*consts, *right])
    # Whatever it hands on besides the solution; and if the matrix has dependences, all of them.
    matrix = depends(ins[: lengths.matvec])
    return [
        walk.space.union([*depends([out]), walk.space.dense(matrix, var.aval.shape)], var.aval.shape)
        for out, var in zip(outs[: len(eqn.outvars)], eqn.outvars)
    ]


def reverse_rule(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`custom_lin`, what a `custom_vjp` puts in place of its tangents: the transpose of what its rule gives."""
    params, count = eqn.params, eqn.params["num_res"]
    residuals, tangents = ins[:count], depends(ins[count:])
    moving = [i for i, zero in enumerate(params["in_zeros"]) if not zero]
    sizes = [math.prod(var.aval.shape) for var in eqn.outvars]
    starts = np.concatenate([[0], np.cumsum(sizes)])

    # A rule may look at what is known of its residuals, such as flags.
    with jax.ensure_compile_time_eval():
        known = [None if value is None else jnp.asarray(value) for value in map(value_of, residuals)]

    def pull(*values: Any) -> list[Any]:
        given = [v if value is None else value for v, value in zip(values, known)]
        cotangents = params["bwd"].call_wrapped(*given, *values[count:])
        given = [cotangents[i] for i in moving]
        return [
            value if isinstance(value, (jax.Array, np.ndarray)) else jnp.zeros(var.aval.shape, var.aval.dtype)
            for value, var in zip(given, eqn.invars[count:], strict=True)
        ]

    try:
        traced = walk.trace(pull, [*eqn.invars[:count], *eqn.outvars])
        inner = Walk(Space(int(starts[-1]), walk.space.limit), walk.inner)
        units = [inner.space.identity(var.aval.shape, int(first)) for var, first in zip(eqn.outvars, starts)]
        pulled = inner.closed(traced, [*(None if isinstance(r, Dependence) else r for r in residuals), *units])
    except OverBudgetError:
        raise
    except Exception:  # whatever a rule of the user raises
        return dense(walk.space, eqn, ins)
    total: list[Maybe] = [None] * len(eqn.outvars)
    for tangent, found, var in zip(tangents, depends(pulled), eqn.invars[count:], strict=True):
        if tangent is None or found is None:
            continue
        matrix = inner.space.as_rows(found).T.tocsr()
        if found.shape != var.aval.shape:
            return dense(walk.space, eqn, ins)
        for k, out in enumerate(eqn.outvars):
            part = walk.space.through(matrix[starts[k] : starts[k + 1]], tangent, out.aval.shape)
            total[k] = walk.space.union([total[k], part], out.aval.shape)
    return list(total)


CONTROL: dict[str, Inner] = {
    **dict.fromkeys(CALLS, call),
    "cond": branches,
    "custom_linear_solve": linear_solve,
    "custom_lin": reverse_rule,
}
