"""The reference system as it is typed in a notebook, without `jit`: `jax.jacrev(solve)(F, x0)`, again and again."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix

from . import peers
from .measure import Candidate, Record, find, goal, measure, same_solve
from .problems import Reference, reference

TITLE = "One small system, as typed in a notebook"
TEXT = """F is an Equinox module that holds α and β; `solve(F, x0)` and `jax.jacrev(solve)(F, x0)` are called without
`jit`, after the first calls. The others trace the problem at each call, and some compile it again: that is the
point."""


class Model(eqx.Module):
    alpha: float = 10.0
    beta: float = 3.0

    def __call__(self, x: Any) -> Any:
        return reference(jnp)(x, self.alpha, self.beta)


def run(quick: bool) -> list[Record]:
    problem, model = Reference(), Model()
    x0, exact = jnp.asarray(problem.x0), problem.derivatives()
    solvers = {
        peers.OURS: lambda F, x0: ix.fixed_point(F, x0, throw=False).x,
        f"{peers.OURS}, throw=True": lambda F, x0: ix.fixed_point(F, x0).x,
    }
    for who, solve in peers.small(quick).items():
        solvers[who] = lambda F, x0, solve=solve: solve(lambda x, F: F(x), x0, F)
    values, jacobians = [], []
    for who, solve in solvers.items():
        call = lambda f: lambda: f(model, x0)
        values.append(Candidate(who, call(solve), lambda x: {"residual": problem.residual(x)}))
        error = lambda J: {"gradient error": float(np.max(np.abs(np.stack([J.alpha, J.beta]) - exact)))}
        jacobians.append(Candidate(who, call(jax.jacrev(solve)), error))
    records = []
    for what, candidates, limit in (("value", values, 0.2e-3), ("Jacobian", jacobians, 8e-3)):
        rows = measure("the reference system", what, candidates, repeats=1 if quick else 21, budget=3.0)
        if row := find(rows, peers.OURS):
            goal(row, f"≤ {limit * 1e3:g} ms", row["seconds"] * 1e3, limit * 1e3)
        records += same_solve(records, rows)
    return records
