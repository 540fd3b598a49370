"""The solvers that are compared: each is a function `solve(F, x0, *args) -> x`, differentiable in the arguments.

All are asked for the tolerance that is the default of implicitax, max |F(x) − x| ≤ 3.7e-11 (1 + |x|). What they reach
is computed again beside every time. jaxopt, which measures by the Euclidean norm, is given the same in that norm.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

import implicitax as ix

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained, and says so
        import jaxopt
except ImportError:  # the smoke test runs without it
    jaxopt = None

Solve = Callable[..., Any]

TOLERANCE = float(jnp.finfo("float64").eps) ** (2 / 3)
STEPS = 1000  # of the loops that have a fixed number of them

OURS, HAND, NAIVE = "implicitax", "by hand", "unrolled"


def ours(throw: bool = False, **keywords: Any) -> Solve:
    return lambda F, x0, *args: ix.fixed_point(F, x0, *args, throw=throw, **keywords).x


def optimistix(solver: Any, linear_solver: Any, steps: int) -> Solve:
    adjoint = optx.ImplicitAdjoint() if linear_solver is None else optx.ImplicitAdjoint(linear_solver)

    def solve(F: Any, x0: Any, *args: Any) -> Any:
        function = lambda x, args: F(x, *args)
        return optx.fixed_point(function, solver, x0, args, max_steps=steps, adjoint=adjoint, throw=False).value

    return solve


def picard(linear_solver: Any = None, steps: int = 100_000) -> Solve:
    return optimistix(optx.FixedPointIteration(rtol=TOLERANCE, atol=TOLERANCE), linear_solver, steps)


def newton(linear_solver: Any = None) -> Solve:
    in_steps = {} if linear_solver is None else {"linear_solver": linear_solver}
    return optimistix(optx.Newton(rtol=TOLERANCE, atol=TOLERANCE, **in_steps), linear_solver, steps=100)


def gmres() -> lx.GMRES:
    return lx.GMRES(rtol=1e-10, atol=1e-10, restart=50, stagnation_iters=50)


def of_jaxopt(name: str, tol: float = TOLERANCE, **keywords: Any) -> Solve:
    assert jaxopt is not None
    solver = getattr(jaxopt, name)
    keywords = {"maxiter": 100_000} | keywords

    def solve(F: Any, x0: Any, *args: Any) -> Any:
        function = F
        if name == "Broyden":
            function = lambda x, *args: F(x, *args) - x
        return solver(function, tol=tol, **keywords).run(x0, *args).params

    return solve


def exact_cg() -> Any:
    """jaxopt's own choice for the derivative, but to a tolerance like those of the others: its own is 1e-5."""
    assert jaxopt is not None
    return partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-11)


def by_hand(F: Any, x0: Any, *args: Any) -> Any:
    """What one writes without a library: a fixed number of steps, and the implicit function theorem with a matrix."""

    @jax.custom_jvp
    def fixed(*args: Any) -> Any:
        return unrolled(F, x0, *args)

    @fixed.defjvp
    def rule(args: Any, tangents: Any) -> Any:
        x = fixed(*args)
        jacobian = jax.jacfwd(lambda x: F(x, *args))(x)
        _, tangent = jax.jvp(lambda *args: F(x, *args), args, tangents)
        return x, jnp.linalg.solve(jnp.eye(x.size) - jacobian, tangent)

    return fixed(*args)


def unrolled(F: Any, x0: Any, *args: Any) -> Any:
    return jax.lax.scan(lambda x, _: (F(x, *args), None), x0, length=STEPS)[0]


def small(quick: bool) -> dict[str, Solve]:
    """Those for a few unknowns, other than ours; of each library one, where it is to be quick."""
    peers = {"Optimistix FixedPointIteration": picard()}
    if not quick:
        peers["Optimistix Newton"] = newton()
    if jaxopt is not None:
        peers["jaxopt FixedPointIteration"] = of_jaxopt("FixedPointIteration", implicit_diff_solve=exact_cg())
    if jaxopt is not None and not quick:
        peers["jaxopt AndersonAcceleration"] = of_jaxopt("AndersonAcceleration", implicit_diff_solve=exact_cg())
        # It keeps every step, so `maxiter` is memory.
        peers["jaxopt Broyden"] = of_jaxopt("Broyden", maxiter=100, implicit_diff_solve=exact_cg())
    return peers | ({HAND: by_hand} if quick else {HAND: by_hand, NAIVE: unrolled})
