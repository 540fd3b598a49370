"""F, operation by operation, at a point: where NaN arises, and where it is hidden; what is added to what."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np

from .._errors.lines import Line, line_of
from .._tree import is_differentiable
from .evaluate import Evaluated

MOST = 3000  # operations: beyond, compiling all of them takes too long
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_CALLS |= {"custom_vjp_call": "call_jaxpr", "checkpoint": "jaxpr", "remat": "jaxpr"}
_OF_TESTS = ("not", "and", "or", "broadcast_in_dim", "reshape", "squeeze", "reduce_or", "reduce_and", "transpose")


class Operation(NamedTuple):
    """One operation of F, and what it did at a point."""

    name: str  # of the primitive
    within: tuple[str, ...]  # the functions of JAX, or of the user, that were entered by `jit`
    line: Line | None
    born: bool  # NaN comes out, and none, or nothing infinite, has gone in
    lost: bool  # it goes in, and does not come out,
    tested: bool  # because something asked whether it is NaN
    low: np.ndarray  # the smallest and largest of each input, of a sum or a difference
    high: np.ndarray

    @property
    def function(self) -> str:
        """By which name the user knows it."""
        return self.within[0].lstrip("_") if self.within else self.name


def operations(function: Callable[..., Any], *arguments: Any, infinite: bool = False) -> list[Operation]:
    """Those of a function that JAX traces, at these arguments; with `infinite` what is infinite counts as NaN."""
    closed = jax.make_jaxpr(function)(*arguments)
    walk = _Walk(infinite)

    @jax.jit
    def run(constants: Any, leaves: Any) -> Any:
        walk.found.clear()
        walk.through(closed.jaxpr, constants, leaves, ())
        return [seen for *_, seen in walk.found]

    seen = jax.tree.map(np.asarray, run(closed.consts, jax.tree.leaves(arguments)))
    return [Operation(name, within, line, *each) for (name, within, line, _), each in zip(walk.found, seen)]


def of_values(at: Evaluated, x: Any) -> list[Operation]:
    """Those of F."""
    theta = at.case.theta
    return operations(lambda x, theta: at.case.problem.residual(x, theta), x, theta)


def of_cotangents(at: Evaluated, x: Any) -> list[Operation]:
    """Those of the derivative of F in reverse mode; first those of its values."""
    theta, n = at.case.theta, at.case.problem.size
    u = jnp.asarray(np.where(at.keep, np.random.default_rng(4).normal(size=n), 0))

    def pulled(x: Any, theta: Any) -> Any:
        return jax.vjp(lambda x, smooth: at.function(x, smooth, theta), x, at.smooth(theta))[1](u)

    return operations(pulled, x, theta, infinite=True)


class _Walk:
    """Evaluates a jaxpr, and keeps of each operation what is asked of it."""

    def __init__(self, infinite: bool):
        self.found: list[tuple[str, tuple[str, ...], Line | None, Any]] = []
        self.bad = (lambda a: ~jnp.isfinite(a)) if infinite else jnp.isnan

    def through(self, jaxpr: Any, constants: Any, arguments: Any, within: tuple[str, ...]) -> list[Any]:
        """The outputs, and of each whether it tells that something is NaN."""
        known: dict[Any, tuple[Any, Any]] = {}
        no = jnp.asarray(False)
        first = [each if isinstance(each, tuple) else (each, no) for each in (*constants, *arguments)]
        known.update(zip((*jaxpr.constvars, *jaxpr.invars), first))
        read = lambda var: known[var] if isinstance(var, jex_core.Var) else (var.val, no)
        for eqn in jaxpr.eqns:
            inputs = [read(var) for var in eqn.invars]
            inner = eqn.params.get(_CALLS.get(eqn.primitive.name, ""))
            if inner is not None:
                outputs = self._inside(eqn, inner, inputs, within)
            else:
                outputs = self._one(eqn, inputs, within)
            known.update(zip(eqn.outvars, outputs))
        return [read(var) for var in jaxpr.outvars]

    def _inside(self, eqn: Any, inner: Any, inputs: Any, within: tuple[str, ...]) -> list[Any]:
        name = eqn.params.get("name")
        within = (*within, str(name)) if name else within
        jaxpr, constants = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())
        before = len(self.found)
        outputs = self.through(jaxpr, constants, inputs, within)
        line = line_of(eqn)
        # What JAX has traced before, and not for this call, has no line of the user's, or one of another call.
        self.found[before:] = [(n, w, line or own, seen) for n, w, own, seen in self.found[before:]]
        return outputs

    def _one(self, eqn: Any, inputs: Any, within: tuple[str, ...]) -> list[Any]:
        values, tests = [value for value, _ in inputs], [test for _, test in inputs]
        out = eqn.primitive.bind(*values, **eqn.params)
        out = list(out) if eqn.primitive.multiple_results else [out]
        name, no = eqn.primitive.name, jnp.asarray(False)
        bad_in, bad_out = self._any(values), self._any(out)
        test = no
        if name == "is_finite" or (name == "ne" and eqn.invars[0] is eqn.invars[1]):
            test = bad_in
        elif name in _OF_TESTS:
            test = jnp.any(jnp.stack(tests))
        floats = [leaf for leaf in out if is_differentiable(leaf)]
        lost = bad_in & ~bad_out if floats else no
        asked = tests[0] if name == "select_n" else no
        sums = name in ("add", "sub") and bool(floats) and all(jnp.size(v) for v in values)
        low, high = (jnp.stack([f(v) for v in values]) if sums else jnp.zeros(0) for f in (jnp.min, jnp.max))
        self.found.append((name, within, line_of(eqn), (bad_out & ~bad_in, lost, asked, low, high)))
        return [(leaf, test) for leaf in out]

    def _any(self, values: Any) -> Any:
        floats = [jnp.any(self.bad(leaf)) for leaf in values if is_differentiable(leaf)]
        return jnp.any(jnp.stack(floats)) if floats else jnp.asarray(False)
