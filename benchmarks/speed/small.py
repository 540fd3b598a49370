"""The reference system once, inside `jit`: value, and its whole Jacobian by `jacrev`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from . import native, peers
from .measure import Candidate, Record, compare, find, goal, measure, same_solve
from .problems import Reference

TITLE = "One small system, inside `jit`"
TEXT = """The reference system of two unknowns, called from Python as a compiled function of α and β: its value, and
the Jacobian of both unknowns by both parameters by `jax.jacrev`. The yardstick is an empty call, `jax.jit(lambda a: a
+ 1)`. SciPy and C are called without JAX."""
EMPTY = "empty call"


def by_scipy(problem: Reference) -> Callable[[], Any]:
    residual = lambda x: problem.F_np(x, *problem.args) - x
    jacobian = lambda x: problem.jacobian(x) - np.eye(2)
    return lambda: scipy.optimize.root(residual, problem.x0, jac=jacobian, tol=1e-10).x


def run(quick: bool) -> list[Record]:
    problem = Reference()
    x0, alpha, beta = jnp.asarray(problem.x0), jnp.asarray(10.0), jnp.asarray(3.0)
    exact = problem.derivatives()
    solvers = {peers.OURS: peers.ours(), f"{peers.OURS}, throw=True": peers.ours(throw=True)} | peers.small(quick)
    nothing = jax.jit(lambda a: a + 1)
    empty = Candidate(EMPTY, lambda: nothing(alpha), lambda _: {})
    values, jacobians = [empty], [empty]
    for who, solve in solvers.items():

        def value(alpha: Any, beta: Any, solve: Any = solve) -> Any:
            return solve(problem.F, x0, alpha, beta)

        call = lambda f: lambda: f(alpha, beta)
        values.append(Candidate(who, call(jax.jit(value)), lambda x: {"residual": problem.residual(x)}))
        jacobian = jax.jit(jax.jacrev(value, argnums=(0, 1)))
        error = lambda J: {"gradient error": float(np.max(np.abs(np.stack(J) - exact)))}
        jacobians.append(Candidate(who, call(jacobian), error))
    values.append(Candidate("SciPy root", by_scipy(problem), lambda x: {"residual": problem.residual(x)}))
    if native.library():
        one = Reference(np.array([10.0]), np.array([3.0]))
        program = native.program("adaptive", peers.TOLERANCE, *one.args, gradient=False)
        values.append(Candidate(native.NAMES["adaptive"], program, lambda found: {"residual": one.residual(found[0])}))
    records = []
    for what, candidates, limit in (("value", values, 1.2), ("Jacobian", jacobians, 1.8)):
        rows = measure("the reference system", what, candidates, repeats=5 if quick else 51, budget=2.0)
        compare(rows, EMPTY, "÷ empty call")
        if ours := find(rows, peers.OURS):
            goal(ours, f"≤ {limit} × the empty call", ours["÷ empty call"], limit)
        records += same_solve(records, rows)
    return records
