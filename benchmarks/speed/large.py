"""Large maps without a matrix: value and gradient, in units of one evaluation of F."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix

from . import peers
from .measure import Candidate, Record, compare, find, goal, measure
from .problems import Stencil, gradient_error, loss

TITLE = "Large, without a matrix"
TEXT = """x = c tanh((xᵢ₋₁ + xᵢ + xᵢ₊₁)/3 + b), where c is very nearly the contraction at the solution: x, and x with
the gradient of ½|x|² by c and by the n numbers b. The unit is one compiled evaluation of F on its own. The first goal
is relative to the evaluations that the method itself reports, `nfev`: what the loop adds to them. Plain iteration
needs 15/(1 − c) evaluations or so: too many to be run at c = 0.999 on a million unknowns. Nor is jaxopt's Anderson
acceleration run at c = 0.999, where it is slower still."""
SIZES, CONTRACTIONS = (100_000, 1_000_000), (0.98, 0.999)
EVALUATION = "one evaluation of F"


def solvers(n: int, c: float, quick: bool) -> dict[str, peers.Solve]:
    found = {peers.OURS: peers.ours(max_steps=100_000)}
    plain = n / (1 - c) < 2e8
    if plain:
        found["Optimistix FixedPointIteration, GMRES"] = peers.picard(peers.gmres())
    if peers.jaxopt is not None and plain:
        # The maximum of n random numbers is about four times their mean size.
        tol = peers.TOLERANCE * np.sqrt(n) / 4
        for name in ("FixedPointIteration", "AndersonAcceleration")[: 1 if quick or c > 0.98 else 2]:
            keywords = {"maxiter": 100_000, "implicit_diff_solve": peers.exact_cg()}
            found[f"jaxopt {name}"] = peers.of_jaxopt(name, tol, **keywords)
    return found


def run(quick: bool) -> list[Record]:
    records = []
    for n in (1000,) if quick else SIZES:
        for c in CONTRACTIONS[:1] if quick else CONTRACTIONS:
            records += compared(Stencil(n, c), quick)
    return records


def compared(problem: Stencil, quick: bool) -> list[Record]:
    x0, args = jnp.asarray(problem.x0), [jnp.asarray(a) for a in problem.args]
    n, c, exact = problem.x0.size, float(problem.args[0]), problem.gradient()
    start = jnp.asarray(problem.solution())  # tanh of 0 may be cheaper
    evaluate = jax.jit(Stencil.F)
    once = Candidate(EVALUATION, lambda: evaluate(start, *args), lambda _: {})
    values, gradients = [once], [once]

    def judge(found: Any) -> dict[str, float]:
        (_, x), gradient = found
        return {"residual": problem.residual(x), "gradient error": gradient_error(gradient, exact)}

    for who, solve in solvers(n, c, quick).items():

        def value(*args: Any, solve: Any = solve) -> Any:
            return solve(Stencil.F, x0, *args)

        def of_x(*args: Any, value: Any = value) -> Any:
            x = value(*args)
            return loss(x), x

        call = lambda f: lambda: f(*args)
        values.append(Candidate(who, call(jax.jit(value)), lambda x: {"residual": problem.residual(x)}))
        both = jax.value_and_grad(of_x, argnums=(0, 1), has_aux=True)
        gradients.append(Candidate(who, call(jax.jit(both)), judge))
    nfev = int(jax.jit(lambda *args: ix.fixed_point(Stencil.F, x0, *args, max_steps=100_000, throw=False).nfev)(*args))
    records = []
    for what, candidates in (("value", values), ("value and gradient", gradients)):
        rows = measure(f"n = {n:,}, c = {c:g}", what, candidates, repeats=2 if quick else 9, budget=4.0)
        compare(rows, EVALUATION, "evaluations of F")
        records += rows
        if (ours := find(rows, peers.OURS)) and what == "value":
            ours["nfev"] = nfev
            goal(ours, f"≤ 1.15 × its {nfev} evaluations", ours["evaluations of F"] / nfev, 1.15)
        elif ours and (value := find(records, peers.OURS, "value")):
            extra = ours["evaluations of F"] / value["evaluations of F"] - 1
            goal(ours, "the gradient adds less than the value costs", extra, 1.0)
    return records
