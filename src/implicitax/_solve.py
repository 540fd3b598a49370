"""`fixed_point` and `root`: the whole flow on one screen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from . import _linear, _tree
from ._adjoint import Rule, differentiable
from ._adjoints import AbstractAdjoint, Unrolled
from ._errors import ConvergenceError, raise_where
from ._layout import is_differentiable
from ._loop import Outcome, iterate, judge
from ._methods import AbstractSolver, Picard, Tolerance, foreign, typical_size
from ._options import Options, decide, tolerances
from ._problem import Kind, Problem, hoist
from ._solution import Solution, Status, Summary
from ._tree import Leaves


def fixed_point(
    F: Callable[..., Any],
    x0: PyTree,
    *args: Any,
    solver: Any = None,
    adjoint: AbstractAdjoint | None = None,
    rtol: PyTree = None,
    atol: PyTree = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    error_estimate: bool = False,
    throw: bool = True,
) -> Solution:
    r"""Solves the fixed point `x = F(x, *args)`, with exact derivatives.

    The derivative is that of the implicit function theorem, `(I − ∂F/∂x) ẋ = ∂F/∂θ θ̇`, at the solution; θ is every
    array F depends on: leaves of F itself (an Equinox module, a bound method, a `Partial`), `args`, and arrays or
    tracers that F closes over. Nothing has to be named. x0 has the derivative 0.

    **Arguments:**

    - `F`: a function `F(x, *args)` that returns a pytree like x, of the same structure, shapes and dtypes.
    - `x0`: the guess; any pytree of real or complex arrays, in the units of the model. Python numbers take the dtype
      that F returns.
    - `args`: passed on to F.
    - `solver`: `Auto()` (default), `Picard`, `Anderson`, `Newton`, `PseudoTransient`, or an Optimistix solver.
    - `adjoint`: `Implicit()` (default), `OneStep()`, `Neumann(terms)`, `Unrolled(steps)`.
    - `rtol`, `atol`: the solve stops where every component has `|F(x) − x| ≤ atol + rtol·|x|`; numbers, or pytree
      prefixes of x0. By default eps^(2/3) of the dtype: 3.7e-11 in float64, 2.4e-5 in float32.
    - `max_steps`: bound on the iterations; by default that of the solver.
    - `has_aux`: whether F returns a pair `(value, aux)`. `Solution.aux` is then `aux` at x, with derivatives.
    - `error_estimate`: whether to compute `Solution.error`.
    - `throw`: whether a failure raises. If not, it is in `Solution.status`, and the derivative is NaN. Inside `jit` the
      check is a callback behind a branch: about 1 µs a call (`benchmarks/throw.py`), but in the way of export, of
      persistent compilation caches, and of `shard_map`; there use `throw=False` and look at `Solution.success`.

    **Returns:** a `Solution`.

    **Raises:** `ConvergenceError` if the solve fails (inside `jit`: JAX's runtime error with the same text);
    `ValueError` or `TypeError` for wrong arguments.

    **Cost:** `Solution.nfev` evaluations of F, and for each tangent or cotangent one linear solve with I − ∂F/∂x.
    Memory does not depend on the number of iterations.

    **Fails:** where I − ∂F/∂x is singular, where F jumps across the diagonal, or where it is not finite near x0.

    **Source:** the rule: Krantz and Parks, The Implicit Function Theorem (2002), doi:10.1007/978-1-4614-5981-1.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> F = lambda x, a: jnp.exp(-a * x)
    >>> solve = lambda a: ix.fixed_point(F, 0.5, a).x
    >>> print(round(float(solve(1.0)), 4), round(float(jax.grad(solve)(1.0)), 4))
    0.5671 -0.2052

    ```
    """
    return solve_problem(
        "fixed_point",
        "fixed_point",
        F,
        x0,
        args,
        solver=solver,
        adjoint=adjoint,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        has_aux=has_aux,
        error_estimate=error_estimate,
        throw=throw,
    )


def root(
    R: Callable[..., Any],
    x0: PyTree,
    *args: Any,
    solver: Any = None,
    adjoint: AbstractAdjoint | None = None,
    rtol: PyTree = None,
    atol: PyTree = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    error_estimate: bool = False,
    throw: bool = True,
) -> Solution:
    """Solves `R(x, *args) = 0`, with exact derivatives: `∂R/∂x ẋ = −∂R/∂θ θ̇` at the solution.

    Arguments, errors and what is returned are those of `fixed_point`, except:

    - `R`: a function `R(x, *args)` that returns one residual for each unknown, in a pytree like x.
    - `solver`: `Auto()` (default), `Newton`, or an Optimistix root finder, least-squares solver or minimiser. Of
      whatever solver, it is R = 0 that is judged, and differentiated.
    - `rtol`, `atol`: the solve stops where every `|R| ≤ atol`, or, whatever the units of R, where every component of
      Newton's correction has `|A⁻¹R| ≤ atol + rtol·|x|`.

    **Cost:** `Solution.nfev` evaluations of R, with Newton's method each together with n of its tangents.

    **Fails:** at a double root, where ∂R/∂x is singular, or from a guess whose basin holds no root.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> R = lambda x, a: {"p": x["p"] * x["q"] - a, "q": x["p"] - x["q"] ** 2}
    >>> solve = lambda a: ix.root(R, {"p": 1.0, "q": 1.0}, a).x["q"]
    >>> print(round(float(solve(8.0)), 3), round(float(jax.grad(solve)(8.0)), 3))
    2.0 0.083

    ```
    """
    return solve_problem(
        "root",
        "root",
        R,
        x0,
        args,
        solver=solver,
        adjoint=adjoint,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        has_aux=has_aux,
        error_estimate=error_estimate,
        throw=throw,
    )


def solve_problem(
    kind: Kind,
    caller: str,
    F: Any,
    x0: PyTree,
    args: tuple[Any, ...],
    *,
    solver: Any = None,
    adjoint: Any = None,
    rtol: PyTree = None,
    atol: PyTree = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    error_estimate: bool = False,
    throw: bool = True,
) -> Solution:
    """Problem, options, the compiled solve, the Solution."""
    problem, theta, x = hoist(kind, caller, F, x0, args, has_aux)
    options = decide(problem, solver, adjoint, max_steps, throw)
    tolerance = tolerances(problem, rtol, atol)
    summary, found = call(_run, problem, options, error_estimate, theta, x, tolerance)
    return conclude(problem, options, summary, found)


class Found(NamedTuple):
    """The arrays that a compiled solve returns."""

    x: Leaves
    aux: Leaves
    outcome: Outcome
    error: Float[Array, ""] | None


def call(
    run: Callable[..., Found], problem: Problem, options: Options, error_estimate: bool, *arrays: Any
) -> tuple[Summary, Found]:
    """`run`, compiled once for this problem and these options, also if it is called from outside `jit`."""
    dynamic, static = eqx.partition(options, eqx.is_array)
    leaves, treedef = jax.tree.flatten(static)
    key = (run, treedef, tuple((type(leaf), leaf) for leaf in leaves), error_estimate)
    if key not in problem.compiled:
        summary = _summary(problem, static)

        @jax.jit
        def compiled(dynamic: Options, *arrays: Any) -> Found:
            return run(problem, eqx.combine(dynamic, static), summary, error_estimate, *arrays)

        problem.compiled[key] = summary, compiled
    summary, compiled = problem.compiled[key]
    return summary, compiled(dynamic, *arrays)


def _summary(problem: Problem, static: Options) -> Summary:
    names = tuple((path, tuple(struct.shape)) for path, struct in zip(problem.paths, problem.x_struct))
    solver, linear_solver = (eqx.tree_pformat(part, width=10**6) for part in (static.solver, static.linear_solver))
    return Summary(problem.caller, solver, linear_solver, names)


def _run(
    problem: Problem,
    options: Options,
    summary: Summary,
    error_estimate: bool,
    theta: Leaves,
    x0: Leaves,
    tolerance: Tolerance,
) -> Found:
    """Solves at a θ that has no derivative, then gives the solution its own."""
    constant, x0 = frozen(theta), frozen(x0)
    if isinstance(options.adjoint, Unrolled):
        return _unroll(problem, options, theta, x0, tolerance)
    if isinstance(options.solver, AbstractSolver):
        outcome = iterate(problem, options.solver, constant, x0, tolerance, options.max_steps)
    else:
        x, nit = foreign.run(problem, options.solver, constant, x0, options.max_steps)
        outcome = judge(problem, constant, x, nit, tolerance, options.linear_solver)
    return attach(problem, options, summary, error_estimate, theta, outcome, tolerance)


def attach(
    problem: Problem,
    options: Options,
    summary: Summary,
    error_estimate: bool,
    theta: Leaves,
    outcome: Outcome,
    tolerance: Tolerance,
) -> Found:
    """The solution with the implicit derivative, whatever found it."""
    outcome, scale = frozen(outcome), frozen(typical_size(outcome.x, tolerance))
    rule = Rule(problem, options.linear_solver, options.throw, summary)
    x, y = differentiable(rule, outcome, scale, theta)
    aux: Leaves = ()
    if problem.aux is not None:
        # What has no derivative, integers and the like, is not in y.
        smooth = iter(y)
        plain = problem.evaluate(outcome.x, frozen(theta))[1]
        aux = tuple(next(smooth) if is_differentiable(leaf) else leaf for leaf in plain)
    error = _error(problem, options, frozen(theta), outcome.x, scale) if error_estimate else None
    return Found(x, aux, outcome, error)


def _error(problem: Problem, options: Options, theta: Leaves, x: Leaves, scale: Leaves) -> Float[Array, ""]:
    """max |A⁻¹ R(x)|, the length of Newton's step from x: the error of x to first order."""
    residual, A = _linear.linearise(lambda x: problem.residual(x, theta), x, options.linear_solver)
    correction, ok = _linear.solve(A, residual, options.linear_solver, scale)
    return jnp.where(ok, _tree.max_norm(correction), jnp.inf)


def _unroll(problem: Problem, options: Options, theta: Leaves, x0: Leaves, tolerance: Tolerance) -> Found:
    """A fixed number of iterations, differentiated as they stand."""
    assert isinstance(options.adjoint, Unrolled)
    method, steps = options.solver, options.adjoint.steps

    def residual_at(x: Leaves) -> Leaves:
        return problem.residual(x, theta)

    @jax.checkpoint
    def step(x: Leaves, _: None) -> tuple[Leaves, None]:
        if isinstance(method, Picard):
            return _tree.axpy(method.damping, residual_at(x), x), None
        linear_solver = method.solver_of_steps()
        residual, A = _linear.linearise(residual_at, x, linear_solver)
        newton = _linear.solve(A, residual, linear_solver, typical_size(x, tolerance))[0]
        return _tree.sub(x, newton), None

    x, _ = jax.lax.scan(step, x0, length=steps)
    outcome = judge(problem, frozen(theta), frozen(x), jnp.asarray(steps), tolerance, options.linear_solver)
    aux = problem.evaluate(x, theta)[1]
    return Found(x, aux, frozen(outcome._replace(nfev=outcome.nfev + steps)), None)


def frozen(values: Any) -> Any:
    """The values without their derivatives."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if is_differentiable(leaf) else leaf, values)


def conclude(problem: Problem, options: Options, summary: Summary, found: Found) -> Solution:
    """The Solution; under `throw=True` an error if it is none."""
    x, aux = found.x, found.aux
    status, nit, nfev, residual, component = found.outcome[1:]
    failed = status != Status.CONVERGED
    if options.throw and isinstance(failed, Tracer):

        def text(failed: Any, *numbers: Any) -> str:
            return f"`{summary.caller}`: {summary.describe(*numbers)}"

        x = raise_where(failed, x, text, status, nit, residual, component)
    sol = Solution(
        x=problem.state.put(x),
        aux=None if problem.aux is None else problem.aux.put(aux),
        status=status,
        nit=nit,
        nfev=nfev,
        residual=residual,
        component=component,
        error=found.error,
        summary=summary,
    )
    if options.throw and not isinstance(failed, Tracer) and failed.any():
        raise ConvergenceError(f"`{summary.caller}`: {sol.message}")
    return sol
