"""Who is asked: implicitax by default, and the solvers of others by their own verdict on success."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.optimize

import implicitax as ix

from .families import Family

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained, and says so
    import jaxopt

STEPS = 500
Solve = Callable[[Family, float, Any, Any], tuple[Any, Any]]  # family, tolerance, x0, p -> x, whether it is one


class Peer(NamedTuple):
    name: str
    kinds: tuple[str, ...]
    solve: Solve
    differentiable: bool = False


def implicitax(family: Family, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
    solve = ix.root if family.kind == "root" else ix.fixed_point
    sol = solve(lambda x, p: family.f(jnp, x, p), x0, p, throw=False)
    return sol.x, sol.success


def optimistix(solver: Callable[..., Any]) -> Solve:
    def solve(family: Family, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
        method, f = solver(rtol=tolerance, atol=tolerance), lambda x, p: family.f(jnp, x, p)
        find = optx.root_find if family.kind == "root" else optx.fixed_point
        sol = find(f, method, x0, p, max_steps=STEPS, throw=False)
        return sol.value, sol.result == optx.RESULTS.successful

    return solve


def of_jaxopt(solver: Callable[..., Any]) -> Solve:
    def solve(family: Family, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
        x, state = solver(lambda x, p: family.f(jnp, x, p), maxiter=STEPS, tol=tolerance).run(x0, p)
        return x, state.error <= tolerance

    return solve


ROOT, FIXED_POINT = ("root",), ("fixed_point",)
PEERS = (
    Peer("implicitax", (*ROOT, *FIXED_POINT), implicitax, differentiable=True),
    Peer("Optimistix Newton", ROOT, optimistix(optx.Newton)),
    Peer("Optimistix Dogleg", ROOT, optimistix(optx.Dogleg)),
    Peer("Optimistix LevenbergMarquardt", ROOT, optimistix(optx.LevenbergMarquardt)),
    Peer("jaxopt Broyden", ROOT, of_jaxopt(jaxopt.Broyden)),
    Peer("Optimistix FixedPointIteration", FIXED_POINT, optimistix(optx.FixedPointIteration)),
    Peer("jaxopt AndersonAcceleration", FIXED_POINT, of_jaxopt(jaxopt.AndersonAcceleration)),
)


def by_scipy(family: Family, tolerance: float, x0: np.ndarray, p: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """MINPACK's hybrid method, one problem after the other."""
    x, success = np.full(x0.shape, np.nan), np.zeros(len(x0), bool)
    for i in range(len(x0)):
        of_one = {name: value[i] for name, value in p.items()}
        R = lambda x, q=of_one: family.f(np, x, q) - (x if family.kind == "fixed_point" else 0)
        sol = scipy.optimize.root(R, x0[i], method="hybr", tol=tolerance)
        x[i], success[i] = sol.x, sol.success
    return x, success


def values(peer: Peer, family: Family, tolerance: float, x0: np.ndarray, p: dict[str, np.ndarray]) -> Any:
    """x and success of every problem."""
    solve = jax.jit(jax.vmap(lambda x0, p: peer.solve(family, tolerance, x0, p)))
    return jax.tree.map(np.asarray, solve(x0, p))


def derivatives(peer: Peer, family: Family, tolerance: float, x0: Any, p: Any, direction: Any) -> Any:
    """dx/dt of every problem for p + t·direction: in forward mode, and each component in reverse mode."""

    def along(t: Any, x0: Any, p: Any, direction: Any) -> Any:
        moved = jax.tree.map(lambda leaf, d: leaf + t * d, p, direction)
        return peer.solve(family, tolerance, x0, moved)[0]

    zero = jnp.zeros((), x0.dtype)
    forward = jax.jit(jax.vmap(jax.jacfwd(along), (None, 0, 0, 0)))
    reverse = jax.jit(jax.vmap(jax.jacrev(along), (None, 0, 0, 0)))
    return np.asarray(forward(zero, x0, p, direction)), np.asarray(reverse(zero, x0, p, direction))
