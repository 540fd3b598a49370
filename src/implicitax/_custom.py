"""The implicit derivative for somebody else's solver."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer, eval_jaxpr
from jaxtyping import PyTree

from ._adjoints import AbstractAdjoint, Unrolled
from ._checks import needs_float
from ._errors import mistake
from ._fingerprint import reachable
from ._limits import tolerances
from ._loop import judge
from ._methods import Tolerance
from ._options import Options
from ._problem import Kind, Problem, hoist
from ._run import Found, attach, frozen
from ._solution import Summary
from ._solve import conclude, planned
from ._tree import Leaves

Solver = Callable[..., PyTree]


def custom_fixed_point(
    F: Callable[..., Any],
    *,
    adjoint: AbstractAdjoint | None = None,
    rtol: PyTree = None,
    atol: PyTree = None,
    throw: bool = True,
) -> Callable[[Solver], Solver]:
    """Gives your own solver of `x = F(x, *args)` the derivative of the implicit function theorem.

    A decorator for `solve(x0, *args) -> x`. Its body is never differentiated, so it may be any code: a loop, another
    library, NumPy through `jax.pure_callback` (or, outside `jit`, NumPy as it is). What it returns is checked: it must
    meet `|F(x) − x| ≤ atol + rtol·|x|`.

    **Arguments:**

    - `F`: as in `fixed_point`, called as `F(x, *args)` with the args of the solver.
    - `adjoint`, `rtol`, `atol`, `throw`: as in `fixed_point`.

    **Returns:** a decorator; the decorated function returns x, with derivatives.

    **Raises:** `ConvergenceError` if x is no solution (`throw=False`: its derivative is NaN).

    **Cost:** one evaluation of F beside the solver's own, and a linear solve for each tangent or cotangent.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> @ix.custom_fixed_point(lambda x, a: jnp.cos(a * x))
    ... def solve(x0, a):
    ...     return jax.lax.fori_loop(0, 100, lambda _, x: jnp.cos(a * x), x0)
    >>> print(round(float(jax.grad(solve, argnums=1)(1.0, 1.0)), 3))
    -0.297

    ```
    """
    return _decorator("fixed_point", "custom_fixed_point", F, adjoint, rtol, atol, throw)


def custom_root(
    R: Callable[..., Any],
    *,
    adjoint: AbstractAdjoint | None = None,
    rtol: PyTree = None,
    atol: PyTree = None,
    throw: bool = True,
) -> Callable[[Solver], Solver]:
    """Gives your own solver of `R(x, *args) = 0` the derivative of the implicit function theorem.

    As `custom_fixed_point`; where R holds the parameters, make it at the call: `custom_root(R)(solve)(x0, *args)`.
    What the solver returns must meet the stopping rule of `root`.

    ```python
    >>> import jax, numpy as np, scipy.optimize, implicitax as ix
    >>> @ix.custom_root(lambda x, a: x**3 - a)
    ... def solve(x0, a):
    ...     return scipy.optimize.fsolve(lambda x: x**3 - np.asarray(a), x0, xtol=1e-7)[0].astype(np.float32)
    >>> print(round(float(jax.grad(solve, argnums=1)(1.0, 8.0)), 4))
    0.0833

    ```
    """
    return _decorator("root", "custom_root", R, adjoint, rtol, atol, throw)


def _decorator(
    kind: Kind, caller: str, F: Any, adjoint: AbstractAdjoint | None, rtol: PyTree, atol: PyTree, throw: bool
) -> Callable[[Solver], Solver]:
    if isinstance(adjoint, Unrolled):
        raise ValueError(
            mistake(
                f"{caller}(adjoint=...)",
                "`ix.Implicit()`, `ix.OneStep()` or `ix.Neumann(terms)`",
                repr(adjoint),
                "The body of your own solver is never differentiated.",
                "Leave out `adjoint`.",
            )
        )

    def decorate(solver: Solver) -> Solver:
        @functools.wraps(solver)
        def solve(x0: PyTree, *args: Any) -> PyTree:
            x = _run_opaque(caller, solver, x0, args)
            problem, theta, leaves = hoist(kind, caller, F, x, args, has_aux=False)
            plan = planned(_judge, problem, False, None, adjoint, 0, throw)
            found = plan.compiled(plan.arrays, theta, leaves, tolerances(problem, rtol, atol))
            return conclude(problem, plan, found).x

        return solve

    return decorate


def _judge(
    problem: Problem,
    options: Options,
    summary: Summary,
    error_estimate: bool,
    theta: Leaves,
    x: Leaves,
    tolerance: Tolerance,
) -> Found:
    nit = jnp.zeros((), jnp.int32)
    outcome = judge(problem, frozen(theta), frozen(x), nit, tolerance, options.linear_solver)
    return attach(problem, options, summary, error_estimate, theta, outcome, tolerance)


def _run_opaque(caller: str, solver: Solver, x0: PyTree, args: tuple[Any, ...]) -> PyTree:
    """What `solver` returns, with no derivative, neither by its arguments nor by what it closes over."""
    x0, args = frozen((x0, args))
    tracers = [leaf for leaf in jax.tree.leaves((x0, args, reachable(solver))) if isinstance(leaf, Tracer)]
    if not tracers:
        return solver(x0, *args)
    try:
        closed, shape = jax.make_jaxpr(solver, return_shape=True)(x0, *args)
    except needs_float as error:
        raise TypeError(
            mistake(
                f"{caller}(solve)",
                "a solver that JAX can trace",
                "one that needs the values of its arguments",
                "Inside `jit` or `vmap`, or where it closes over traced parameters, NumPy cannot see the numbers.",
                "Wrap the body in `jax.pure_callback`.",
            )
        ) from error
    leaves = jax.tree.leaves((x0, args))
    return jax.tree.unflatten(jax.tree.structure(shape), eval_jaxpr(closed.jaxpr, frozen(closed.consts), *leaves))
