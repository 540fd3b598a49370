"""Dense maps of 10 to 2000 unknowns: value, and gradient by all of W and b."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import scipy.optimize

from . import peers
from .measure import Candidate, Record, beat_the_best, find, measure
from .problems import Dense, gradient_error, loss

TITLE = "Dense, 10 to 2000 unknowns"
TEXT = """x = tanh(W x + b) with a random dense W of spectral radius 0.7: x, and x with the gradient of ½|x|² by W and
b, compiled. The errors of the gradients are relative to their largest entry. The goal is the fastest of the others
among those that are accurate (a residual of at most 1e-9, a gradient right to 1e-7)."""
SIZES = 10, 50, 200, 1000, 2000
LIMIT = {peers.NAIVE: 200, peers.HAND: 1000, "jaxopt Broyden": 200}  # the largest n that they are tried at


def solvers(quick: bool) -> dict[str, peers.Solve]:
    found = {peers.OURS: peers.ours()}
    for name, make in (("FixedPointIteration", peers.picard), ("Newton", peers.newton)):
        for linear, solver in (("LU", lx.LU()), ("GMRES", peers.gmres()))[: 1 if quick else 2]:
            found[f"Optimistix {name}, {linear}"] = make(solver)
    if peers.jaxopt is not None:
        for name in ("FixedPointIteration", "AndersonAcceleration", "Broyden")[: 1 if quick else 3]:
            keywords = {"maxiter": 200} if name == "Broyden" else {}
            found[f"jaxopt {name}"] = peers.of_jaxopt(name, implicit_diff_solve=peers.exact_cg(), **keywords)
    return found | {peers.HAND: peers.by_hand, peers.NAIVE: peers.unrolled}


def by_scipy(problem: Dense, name: str) -> Callable[[], Any]:
    tol = 1e-10
    if name == "fixed_point":
        F = lambda x: problem.F_np(x, *problem.args)
        return lambda: scipy.optimize.fixed_point(F, problem.x0, method="iteration", xtol=tol, maxiter=10_000)
    residual = lambda x: problem.F_np(x, *problem.args) - x
    return lambda: scipy.optimize.root(residual, problem.x0, method=name, tol=tol).x


def run(quick: bool) -> list[Record]:
    records = []
    for n in SIZES[:1] if quick else SIZES:
        problem = Dense(n)
        x0, args = jnp.asarray(problem.x0), [jnp.asarray(a) for a in problem.args]
        exact = problem.gradient()
        values, gradients = [], []

        def judge(found: Any, problem: Dense = problem, exact: Any = exact) -> dict[str, float]:
            (_, x), gradient = found
            return {"residual": problem.residual(x), "gradient error": gradient_error(gradient, exact)}

        residual = lambda x, problem=problem: {"residual": problem.residual(x)}
        for who, solve in solvers(quick).items():
            if n > LIMIT.get(who, n):
                continue

            def value(*args: Any, x0: Any = x0, solve: Any = solve) -> Any:
                return solve(Dense.F, x0, *args)

            def of_x(*args: Any, value: Any = value) -> Any:
                x = value(*args)
                return loss(x), x

            both = jax.value_and_grad(of_x, argnums=(0, 1), has_aux=True)
            call = lambda f, args=args: lambda: f(*args)
            gradients.append(Candidate(who, call(jax.jit(both)), judge))
            if who != "Optimistix FixedPointIteration, GMRES":  # the value has no linear solver
                values.append(Candidate(who.replace("Iteration, LU", "Iteration"), call(jax.jit(value)), residual))
        values.append(Candidate("SciPy fixed_point", by_scipy(problem, "fixed_point"), residual))
        if n <= 200:
            values.append(Candidate("SciPy root", by_scipy(problem, "hybr"), residual))
        for what, candidates in (("value", values), ("value and gradient", gradients)):
            rows = measure(f"n = {n}", what, candidates, repeats=2 if quick else 15, budget=1.0)
            ours = find(rows, peers.OURS)
            beat_the_best(ours, [row for row in rows if row is not ours], "≤ the best peer")
            records += rows
    return records
