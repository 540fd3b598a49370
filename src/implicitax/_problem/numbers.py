"""The numbers that Python has put into a jaxpr, taken out of it: the next call may have others.

So a sweep over `lambda x: a * jnp.cos(x)` compiles once. Only those of the function itself: what the bodies of loops
and branches hold are numbers of theirs.
"""

from typing import Any

import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np

from .._tree import is_differentiable


def lift(closed: Any) -> Any:
    """The same, with those numbers as constants."""
    variables, values, equations = [], [], []
    for eqn in closed.jaxpr.eqns:
        inputs = list(eqn.invars)
        for i, var in enumerate(inputs):
            if isinstance(var, jex_core.Literal) and is_differentiable(var.aval) and _liftable(var):
                inputs[i] = jex_core.Var(var.aval)
                variables.append(inputs[i])
                values.append(_number(var))
        equations.append(eqn.replace(invars=inputs))
    constvars = [*closed.jaxpr.constvars, *variables]
    jaxpr = closed.jaxpr.replace(constvars=constvars, eqns=equations)
    return jex_core.ClosedJaxpr(jaxpr, [*closed.consts, *values])


def _liftable(var: Any) -> bool:
    """One that a parameter could be: not the infinity of a maximum, of which nobody wants a derivative."""
    known = not var.aval.weak_type or var.aval.dtype in (jnp.result_type(float), jnp.result_type(complex))
    return known and bool(np.all(np.isfinite(np.asarray(var.val))))


def _number(var: Any) -> Any:
    value = np.asarray(var.val)[()]
    return value.item() if var.aval.weak_type else value.astype(var.aval.dtype)
