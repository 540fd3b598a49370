"""Dependences through loops: written out where they are short, else all iterations at once, else to a fixed point."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import numpy as np

from .control import CONTROL
from .dependence import Dependence, OverBudgetError
from .local import Abstract, depends, value_of
from .values import Known
from .walk import Inner, Walk

_SHORT, _LONG = 3000, 50_000  # equations of a loop written out, if it is the first choice, and the last but one
_PASSES = 3  # over the carry in an iteration, about
_ROUNDS, _MORE_ROUNDS = 6, 60  # to a fixed point, of all iterations at once, and of their union


class _Scan(NamedTuple):
    """An equation `scan`, taken apart."""

    body: Any
    length: int
    reverse: bool
    consts: Sequence[Abstract]
    carry: Sequence[Abstract]
    xs: Sequence[Abstract]
    eqn: Any

    @classmethod
    def of(cls, eqn: Any, ins: Sequence[Abstract]) -> "_Scan":
        params = eqn.params
        n, m = params["num_consts"], params["num_consts"] + params["num_carry"]
        return cls(params["jaxpr"], params["length"], params["reverse"], ins[:n], ins[n:m], ins[m:], eqn)

    @property
    def carry_shapes(self) -> list[tuple[int, ...]]:
        return [var.aval.shape for var in self.eqn.outvars[: len(self.carry)]]

    @property
    def xs_shapes(self) -> list[tuple[int, ...]]:
        return [var.aval.shape for var in self.eqn.invars[len(self.consts) + len(self.carry) :]]

    @property
    def ys_shapes(self) -> list[tuple[int, ...]]:
        return [var.aval.shape for var in self.eqn.outvars[len(self.carry) :]]


def scan(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    loop = _Scan.of(eqn, ins)
    work = loop.length * walk.operations(loop.body)
    if not any(isinstance(value, Dependence) for value in ins):
        return _written_out(walk, loop) if work <= _SHORT else [None] * len(eqn.outvars)
    if work <= _SHORT:
        return _written_out(walk, loop)
    found = _at_once(walk, loop)
    passes = _PASSES * loop.length * sum(math.prod(shape) for shape in loop.carry_shapes)
    if found is None and work <= _LONG and passes < walk.space.share:
        found = _written_out(walk, loop)
    return _united(walk, loop) if found is None else found


def _written_out(walk: Walk, loop: _Scan) -> list[Abstract]:
    """Iteration by iteration: counters are known, and what they are indices of."""
    carry, ys = list(loop.carry), []
    order = range(loop.length)[::-1] if loop.reverse else range(loop.length)
    for i in order:
        at = [_at(walk, value, i, shape) for value, shape in zip(loop.xs, loop.xs_shapes)]
        outs = walk.closed(loop.body, [*loop.consts, *carry, *at])
        carry = outs[: len(carry)]
        ys.append(outs[len(carry) :])
    ys = ys[::-1] if loop.reverse else ys
    return [*carry, *(_stack(walk, [y[k] for y in ys], shape) for k, shape in enumerate(loop.ys_shapes))]


def _at(walk: Walk, value: Abstract, i: int, shape: tuple[int, ...]) -> Abstract:
    """The i-th along the first axis."""
    if isinstance(value, Dependence):
        return walk.space.move(lambda arrays: arrays[0][i], [value], [shape], shape[1:])
    known = value_of(value)
    return None if known is None else Known.of(known[i])


def _stack(walk: Walk, values: list[Abstract], shape: tuple[int, ...]) -> Abstract:
    if any(isinstance(value, Dependence) for value in values):
        return walk.space.move(np.stack, depends(values), [shape[1:]] * len(values), shape)
    known = [value.value for value in values if isinstance(value, Known)]
    known = [value for value in known if value is not None]
    return Known.of(np.stack(known)) if len(known) == len(values) > 0 else None


def _at_once(walk: Walk, loop: _Scan) -> list[Abstract] | None:
    """All iterations as lanes of a `vmap`, in which the carry of each is what the one before gave: to a fixed point,
    which is exact. None where there are too many rounds, or entries, to it."""
    if loop.length * max([0, *(int(np.prod(shape)) for shape in loop.carry_shapes)]) > walk.space.limit:
        return None
    lanes = [(loop.length, *shape) for shape in loop.carry_shapes]
    constant = [_progression(loop, k) for k in range(len(loop.carry))]
    xs = [_turned(walk, value, shape) for value, shape in zip(loop.xs, loop.xs_shapes)] if loop.reverse else loop.xs
    first = lambda value, after, shape: walk.space.move(
        lambda arrays: np.concatenate([arrays[0][None], arrays[1][:-1]]),
        depends([value, after]),
        [shape[1:], shape],
        shape,
    )
    try:
        body = _lanes(walk, loop)
        carry: list[Abstract] = [
            first(value, None, shape) if known is None else known
            for value, known, shape in zip(loop.carry, constant, lanes)
        ]
        for _ in range(_ROUNDS):
            outs = walk.closed(body, [*loop.consts, *carry, *xs])
            after = [
                first(value, out, shape) if known is None else known
                for value, out, known, shape in zip(loop.carry, outs, constant, lanes)
            ]
            if all(known is not None or _same(walk, a, b) for a, b, known in zip(carry, after, constant)):
                break
            carry = after
        else:
            return None
    except OverBudgetError:
        return None
    except Exception:  # what has no rule for `vmap`
        return None
    last = [_at(walk, out, loop.length - 1, shape) for out, shape in zip(outs, lanes)]
    ys = outs[len(carry) :]
    return [*last, *(_turned(walk, y, shape) for y, shape in zip(ys, loop.ys_shapes))] if loop.reverse else [*last, *ys]


def _lanes(walk: Walk, loop: _Scan) -> Any:
    axes = (*(None for _ in loop.consts), *(0 for _ in (*loop.carry, *loop.xs)))
    structs = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in loop.body.jaxpr.invars]
    for i in range(len(loop.consts), len(structs)):
        structs[i] = jax.ShapeDtypeStruct((loop.length, *structs[i].shape), structs[i].dtype)
    return jax.make_jaxpr(jax.vmap(jex_core.jaxpr_as_fun(loop.body), axes))(*structs)


def _progression(loop: _Scan, k: int) -> Known | None:
    """The values in all iterations of a carry that is known: one that does not change, and a counter."""
    value = value_of(loop.carry[k])
    if value is None:
        return None
    jaxpr = loop.body.jaxpr
    before, after = jaxpr.invars[len(loop.consts) + k], jaxpr.outvars[k]
    if after is before:
        return Known((loop.length, *value.shape), lambda: np.broadcast_to(value, (loop.length, *value.shape)))
    for eqn in jaxpr.eqns:
        if after in eqn.outvars and eqn.primitive.name == "add" and before in eqn.invars:
            step = [var for var in eqn.invars if isinstance(var, jex_core.Literal)]
            if step and value.ndim == 0 and np.issubdtype(value.dtype, np.integer):
                return Known.of(
                    value + np.arange(loop.length, dtype=value.dtype) * np.asarray(step[0].val, value.dtype)
                )
    return None


def _turned(walk: Walk, value: Abstract, shape: tuple[int, ...]) -> Abstract:
    if isinstance(value, Dependence):
        return walk.space.move(lambda arrays: arrays[0][::-1], [value], [shape], shape)
    known = value_of(value)
    return None if known is None else Known.of(known[::-1])


def _same(walk: Walk, a: Abstract, b: Abstract) -> bool:
    return walk.space.same(*depends([a, b]))


def _united(walk: Walk, loop: _Scan) -> list[Abstract]:
    """As if any iteration could come after any other."""
    xs: list[Abstract] = [walk.space.reduce(part, [0]) for part in depends(loop.xs)]
    step = lambda carry: walk.closed(loop.body, [*loop.consts, *carry, *xs])
    jaxpr = loop.body.jaxpr
    kept = [jaxpr.outvars[k] is jaxpr.invars[len(loop.consts) + k] for k in range(len(loop.carry))]
    carry = _fixed_point(walk, step, loop.carry, kept, loop.carry_shapes, others=[*loop.consts, *xs])
    ys = step(carry)[len(carry) :]
    spread = lambda y, shape: walk.space.broadcast(y, (1, *shape[1:]), shape)
    return [*carry, *(spread(y, shape) for y, shape in zip(depends(ys), loop.ys_shapes))]


def _fixed_point(
    walk: Walk,
    step: Callable[[list[Abstract]], list[Abstract]],
    start: Sequence[Abstract],
    kept: Sequence[bool],
    shapes: Sequence[tuple[int, ...]],
    *,
    others: Sequence[Abstract],
) -> list[Abstract]:
    """The union over any number of iterations of a carry; `kept` is what they hand on as it is."""
    carry = [value if keep or isinstance(value, Dependence) else None for value, keep in zip(start, kept)]
    for _ in range(_MORE_ROUNDS):
        outs = step(carry)[: len(carry)]
        following: list[Abstract] = [
            value if keep else walk.space.union(depends([value, out]), shape)
            for value, out, keep, shape in zip(carry, outs, kept, shapes)
        ]
        if all(keep or _same(walk, a, b) for a, b, keep in zip(carry, following, kept)):
            return following
        carry = following
    every = [part for part in depends([*carry, *others]) if part is not None]
    return [value if keep else walk.space.dense(every, shape) for value, keep, shape in zip(carry, kept, shapes)]


def repeat(walk: Walk, eqn: Any, ins: Sequence[Abstract]) -> list[Abstract]:
    """`while`: written out as long as its condition is known, then to a fixed point."""
    params = eqn.params
    n, m = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    asks, consts, carry = list(ins[:n]), list(ins[n:m]), list(ins[m:])
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    moves = any(isinstance(value, Dependence) for value in ins)
    left = (_LONG if moves else _SHORT) // max(1, walk.operations(body) + walk.operations(cond))
    shapes = [getattr(var.aval, "shape", ()) for var in eqn.outvars]
    left = min(left, walk.space.share // (_PASSES * max(1, sum(map(math.prod, shapes)))))
    while left > 0:
        (answer,) = walk.closed(cond, [*asks, *carry])
        goes_on = value_of(answer)
        if goes_on is None:
            break
        if not goes_on:
            return carry
        carry, left = walk.closed(body, [*consts, *carry]), left - 1
    if not moves:
        return [None] * len(eqn.outvars)
    jaxpr = body.jaxpr
    kept = [jaxpr.outvars[k] is jaxpr.invars[len(consts) + k] for k in range(len(carry))]
    step = lambda carry: walk.closed(body, [*consts, *carry])
    return _fixed_point(walk, step, carry, kept, shapes, others=consts)


INNER: dict[str, Inner] = {**CONTROL, "scan": scan, "while": repeat}
