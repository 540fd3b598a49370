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
Equations = Callable[[Any, Any], Any]
Solve = Callable[[Equations, float, Any, Any], tuple[Any, Any]]  # f, tolerance, x0, p -> x, whether it is one
Of = Callable[[str], Solve]  # the kind of problem


class Peer(NamedTuple):
    name: str
    kinds: tuple[str, ...]
    of: Of
    differentiable: bool = False


def implicitax(kind: str) -> Solve:
    find = ix.root if kind == "root" else ix.fixed_point

    def solve(f: Equations, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
        sol = find(f, x0, p, throw=False)
        return sol.x, sol.success

    return solve


def optimistix(solver: Callable[..., Any]) -> Of:
    def of(kind: str) -> Solve:
        find = optx.root_find if kind == "root" else optx.fixed_point

        def solve(f: Equations, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
            sol = find(f, solver(rtol=tolerance, atol=tolerance), x0, p, max_steps=STEPS, throw=False)
            return sol.value, sol.result == optx.RESULTS.successful

        return solve

    return of


def of_jaxopt(solver: Callable[..., Any]) -> Of:
    def solve(f: Equations, tolerance: float, x0: Any, p: Any) -> tuple[Any, Any]:
        x, state = solver(f, maxiter=STEPS, tol=tolerance).run(x0, p)
        return x, state.error <= tolerance

    return lambda kind: solve


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


def solving(peer: Peer, family: Family, tolerance: float) -> Callable[[Any, Any], tuple[Any, Any]]:
    """x0, p -> x, whether it is one. Where each unknown has a unit, each is a leaf of its own, as a user has it."""
    solve = peer.of(family.kind)
    if not family.decades:
        return lambda x0, p: solve(lambda x, p: family.f(jnp, x, p), tolerance, x0, p)

    def of_leaves(x0: Any, p: Any) -> tuple[Any, Any]:
        x, success = solve(lambda x, p: tuple(family.f(jnp, jnp.stack(x), p)), tolerance, tuple(x0), p)
        return jnp.stack(x), success

    return of_leaves


def values(peer: Peer, family: Family, tolerance: float, x0: np.ndarray, p: dict[str, np.ndarray]) -> Any:
    """x and success of every problem."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(solving(peer, family, tolerance)))(x0, p))


def derivatives(peer: Peer, family: Family, tolerance: float, x0: Any, p: Any, direction: Any) -> Any:
    """dx/dt of every problem for p + t·direction: in forward mode, and each component in reverse mode."""
    solve = solving(peer, family, tolerance)

    def along(t: Any, x0: Any, p: Any, direction: Any) -> Any:
        return solve(x0, jax.tree.map(lambda leaf, d: leaf + t * d, p, direction))[0]

    zero = jnp.zeros((), x0.dtype)
    forward = jax.jit(jax.vmap(jax.jacfwd(along), (None, 0, 0, 0)))
    reverse = jax.jit(jax.vmap(jax.jacrev(along), (None, 0, 0, 0)))
    return np.asarray(forward(zero, x0, p, direction)), np.asarray(reverse(zero, x0, p, direction))
