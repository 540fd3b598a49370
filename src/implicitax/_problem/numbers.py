"""The numbers that Python has put into a jaxpr, taken out of it: the next call may have others.

So a sweep over `lambda x: a * jnp.cos(x)` compiles once. In the bodies of loops and branches, too, but not in functions
under `jax.jit`, nor in those with a derivative of their own: these are what they are.
"""

from typing import Any, NamedTuple

import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np

from .._tree import is_differentiable


class Lifted(NamedTuple):
    """A jaxpr without its numbers, the variables that stand for them, and the numbers."""

    jaxpr: Any
    variables: list[Any]
    values: list[Any]


def lift(closed: Any) -> Any:
    """The same, with those numbers as constants."""
    jaxpr, variables, values = _lift(closed.jaxpr)
    jaxpr = jaxpr.replace(constvars=[*jaxpr.constvars, *variables])
    return jex_core.ClosedJaxpr(jaxpr, [*closed.consts, *values])


def _lift(jaxpr: Any) -> Lifted:
    variables, values, equations = [], [], []
    for eqn in jaxpr.eqns:
        inner = _INNER.get(eqn.primitive.name)
        if inner is not None and not eqn.effects:
            eqn, added, given = inner(eqn)
            variables += added
            values += given
        inputs = list(eqn.invars)
        for i, var in enumerate(inputs):
            if isinstance(var, jex_core.Literal) and is_differentiable(var.aval) and _may_vary(var):
                inputs[i] = jex_core.Var(var.aval)
                variables.append(inputs[i])
                values.append(_number(var))
        equations.append(eqn.replace(invars=inputs))
    return Lifted(jaxpr.replace(eqns=equations), variables, values)


def _with_inputs(closed: Any, variables: list[Any]) -> Any:
    """A body with more inputs, the first."""
    names = closed.jaxpr.debug_info.with_unknown_names()  # those of the inputs are one for each
    jaxpr = closed.jaxpr.replace(invars=[*variables, *closed.jaxpr.invars], debug_info=names)
    return jex_core.ClosedJaxpr(jaxpr, closed.consts)


def _body(eqn: Any, name: str, count: str, at: int) -> Lifted:
    """Of a loop, whose constants come first; among the inputs of the equation from `at` on."""
    closed = eqn.params[name]
    jaxpr, variables, values = _lift(closed.jaxpr)
    body = _with_inputs(jex_core.ClosedJaxpr(jaxpr, closed.consts), variables)
    outer = [jex_core.Var(var.aval) for var in variables]
    params = {**eqn.params, name: body, count: eqn.params[count] + len(variables)}
    invars = [*eqn.invars[:at], *outer, *eqn.invars[at:]]
    return Lifted(eqn.replace(invars=invars, params=params), outer, values)


def _scan(eqn: Any) -> Lifted:
    return _body(eqn, "jaxpr", "num_consts", 0)


def _while(eqn: Any) -> Lifted:
    eqn, first, values = _body(eqn, "cond_jaxpr", "cond_nconsts", 0)
    eqn, second, more = _body(eqn, "body_jaxpr", "body_nconsts", eqn.params["cond_nconsts"])
    return Lifted(eqn, first + second, values + more)


def _cond(eqn: Any) -> Lifted:
    """Every branch is given the numbers of all."""
    branches, variables, values = [], [], []
    lifted = [_lift(branch.jaxpr) for branch in eqn.params["branches"]]
    for one, branch in zip(lifted, eqn.params["branches"]):
        inputs = []
        for other in lifted:
            inputs += one.variables if other is one else [jex_core.Var(var.aval) for var in other.variables]
        branches.append(_with_inputs(jex_core.ClosedJaxpr(one.jaxpr, branch.consts), inputs))
        variables += [jex_core.Var(var.aval) for var in one.variables]
        values += one.values
    invars = [eqn.invars[0], *variables, *eqn.invars[1:]]
    return Lifted(eqn.replace(invars=invars, params={**eqn.params, "branches": tuple(branches)}), variables, values)


_INNER = {"scan": _scan, "while": _while, "cond": _cond}


def _may_vary(var: Any) -> bool:
    """One that a parameter could be: not the infinity of a maximum, of which nobody wants a derivative."""
    known = not var.aval.weak_type or var.aval.dtype in (jnp.result_type(float), jnp.result_type(complex))
    return known and bool(np.all(np.isfinite(np.asarray(var.val))))


def _number(var: Any) -> Any:
    value = np.asarray(var.val)[()]
    return value.item() if var.aval.weak_type else value.astype(var.aval.dtype)
