"""`fixed_point` and `root`: the whole flow on one screen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
from typing_extensions import Unpack

from ._errors import raise_where
from ._linear import Structure
from ._loop import Bounds, InTurn, Limits, Outcome, Search, attempt, bracket, confirm, judge, persist
from ._methods import AbstractMethod, Tolerance, foreign
from ._plan import (
    Keywords,
    Options,
    Wanted,
    box,
    complete,
    decide,
    declares,
    rule_of,
    solves,
    structure_of,
    summarise,
    tolerances,
)
from ._problem import Call, Hoisted, Problem, Theta, hoist
from ._rule import Found, Rule, Unrolled, correct, differentiable, frozen, settle, unroll
from ._solution import Solution, Summary
from ._tree import Leaves


@solves
@declares(Keywords)
def fixed_point(F: Callable[..., Any], x0: PyTree, *args: Any, **keywords: Unpack[Keywords]) -> Solution:
    r"""Solves the fixed point `x = F(x, *args)`, with exact derivatives.

    The derivative is that of the implicit function theorem, `(I − ∂F/∂x) ẋ = ∂F/∂θ θ̇`, at the solution; θ is every
    array F depends on: leaves of F itself (an Equinox module, a bound method, a `Partial`), `args`, and arrays or
    tracers that F closes over. Nothing has to be named. x0 has the derivative 0.

    **Arguments:**

    - `F`: a function `F(x, *args)` that returns a pytree like x, of the same structure, shapes and dtypes. Outside
      `jit` it is traced in each call. Without a derivative (`jax.pure_callback`) it is solved all the same; with a rule
      for reverse mode only (`jax.custom_vjp`) that serves both modes.
    - `x0`: the guess; any pytree of real or complex arrays, in the units of the model. Python numbers take the dtype
      that F returns. It may depend on θ, and often should; where F is not finite there `Auto` tries points around it.
    - `args`: passed on to F.
    - `solver`: `Auto()` (default), `Picard`, `Anderson`, `Squarem`, `PseudoTransient`, `Broyden`, `Newton`, `Ladder`,
      `NewtonKrylov`, or an Optimistix solver, with its `options`, a dict; `lower` and `upper` are prefixes of x0.
    - `adjoint`: `Implicit()` (default), `OneStep()`, `Neumann(terms)`, `Unrolled(steps)`.
    - `rtol`, `atol`: the solve stops where every component has `|F(x) − x| ≤ atol + rtol·|x|`; numbers, or pytree
      prefixes of x0. By default rtol is eps^(2/3) of the dtype, 3.7e-11 in float64 and 2.4e-5 in float32, and atol is
      `rtol·max|x| + 4·eps·σ`, by leaf (in a batch, of the row): so the units of x do not matter. σ is the size of x0,
      `max|x0|`, or of the first step where that is 0. An atol that is given is absolute.
    - `residual_atol`: a number, or a pytree prefix of x0: the solve stops, too, where every `|F(x) − x|`, or `|R|`, is
      at most this, in its own units. By default there is no such limit.
    - `max_steps`: bound on the iterations; by default that of the solver.
    - `batch_axis`: the axis along which every leaf of x0 has the rows of a batch, where F is written for a batch. The
      rows may be weakly coupled. Each has its own acceleration, stopping, best point and status; one that has ended is
      frozen, and goes on if at the end its neighbours have moved it out of the tolerance. The derivative keeps every
      coupling among the rows that were solved; one that failed is held constant, at its best point, or, if a component
      of its residual is hardly smaller there than at its guess, at its guess. For rows that are independent and an F
      written for one, use `jax.vmap`.
    - `bounds`: a pair (lower, upper), each None, a number, or a pytree prefix of x0. F is evaluated strictly inside
      only: a step is shortened in the components that it would take out. x0 must be inside.
    - `constraint`: a function `c(x, *args)` of one number or more, 0 at the fixed point that is meant, where F leaves
      that undetermined: it keeps a total (atoms, people, mass), or adds to its value what is added to x. Solved is
      `x = F(x, *args) − L c(x, *args)`, with `L = Cᵀ(C Cᵀ)⁻¹`, `C = ∂c/∂x`; whether c is 0 there is looked at, and
      whether it stays so in the derivative. Arrays that c reads have derivatives. Not with `batch_axis`, not for roots.
    - `sparsity`: which entries of ∂F/∂x, of a root of ∂R/∂x, may differ from 0: as SciPy's `jac_sparsity` a matrix of
      `scipy.sparse` or a 2-D array, with a row and a column for each real unknown of all leaves in their order, each
      raveled, of a complex leaf all real parts and then all imaginary ones; a band `(lower, upper)`; or `"dense"`. By
      default the pattern is found from F above 200 unknowns. Steps and derivatives take it where it has a form that
      serves (`docs/structure.md`), if they have no linear solver of their own. An entry left out is an error.
    - `has_aux`: whether F returns a pair `(value, aux)`. `Solution.aux` is then `aux` at x, with derivatives.
    - `error_estimate`: whether to compute `Solution.error`.
    - `history`: whether to record the residual, the error in units of the tolerance and the step of each evaluation in
      `Solution.history`, at most 1000 entries. Slower: without the first attempt that simple problems begin with.
      `plot_convergence` draws it; of a solve that fails it is there under `throw=False`.
    - `progress`: whether to show a bar on stderr, which is full when the residual meets the tolerance. Works inside
      `jit`; under `vmap` it shows the worst lane. Needs the extra `cli`.
    - `callback`: a function that is called with each evaluation, a record with `x`, `nfev`, `residual` and `error` (in
      units of the tolerance); `print` will do. Give the same function each time: another one is compiled anew.
    - `throw`: whether a failure raises. If not, it is in `Solution.status`, and the derivative is NaN. Inside `jit` the
      check is a callback behind a branch. It costs next to nothing (`docs/fast.md`), but is in the way of export, of
      persistent compilation caches, of `shard_map`, and of arrays that are split over devices or processes, of which an
      error ends one and leaves the others waiting (`sweep` sees to that); use `throw=False` and `Solution.success`.

    **Returns:** a `Solution`.

    **Raises:** `ConvergenceError` if the solve, or its derivative, fails (inside `jit`: JAX's runtime error with the
    same text); `ValueError` or `TypeError` for wrong arguments; `TypeError` for a derivative that F has not.

    **Cost:** `Solution.nfev` evaluations of F, one more each for `aux` and `error_estimate`, for each tangent or
    cotangent one linear solve with I − ∂F/∂x, two without a matrix (`Implicit`); no memory for the iterations.

    **Fails:** where I − ∂F/∂x is singular (see `constraint`), where F jumps across the diagonal, or where it is not
    finite near x0.

    **Source:** the rule: Krantz and Parks, The Implicit Function Theorem (2002), doi:10.1007/978-1-4614-5981-1.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> F = lambda x, a: jnp.exp(-a * x)
    >>> solve = lambda a: ix.fixed_point(F, 0.5, a).x
    >>> print(round(float(solve(1.0)), 3), round(float(jax.grad(solve)(1.0)), 3))
    0.567 -0.205

    ```
    """
    return solve(Call("fixed_point", "fixed_point", F, x0, args), keywords)


@solves
@declares(Keywords)
def root(R: Callable[..., Any], x0: PyTree, *args: Any, **keywords: Unpack[Keywords]) -> Solution:
    """Solves `R(x, *args) = 0`, with exact derivatives: `∂R/∂x ẋ = −∂R/∂θ θ̇` at the solution.

    Arguments, errors and what is returned are those of `fixed_point`, except:

    - `R`: a function `R(x, *args)` that returns one residual for each unknown, in a pytree like x; or more, in any
      pytree. Then the steps are those of Gauss and Newton, with a dense ∂R/∂x; a root is where all are 0, and its
      derivative is by the pseudo-inverse, `ẋ = −(∂R/∂x)⁺ ∂R/∂θ θ̇`, which is that of the least squares where the
      equations hold at these parameters only. A second derivative is refused there. Not with `batch_axis` or
      `residual_atol`.
    - `solver`: `Auto()` (default), `Newton`, `Ladder`, `Broyden`, `NewtonKrylov`, or an Optimistix root finder,
      least-squares solver or minimiser. Of whatever solver, it is R = 0 that is judged, and differentiated.
    - `bounds`: as for `fixed_point`; for one unknown between two bounds at which R has different signs a root is
      found, by `Auto`: Newton's steps, and bisection where they get nowhere.
    - `rtol`, `atol`: the solve stops where every component of Newton's correction has `|A⁻¹R| ≤ atol + rtol·|x|`, and R
      is as good as linear there: between this x and the one before, or over a distance of the tolerance, which takes
      one more evaluation of R. Neither the units of R and of x nor the mixing of equations matter, and a small R
      proves nothing. Where no x can be shown to be a root (a double root that rounding hides, an R too rough for the
      tolerance) `residual_atol` is the way to accept one.

    **Cost:** `Solution.nfev` evaluations of R, with Newton's method each together with n of its tangents.

    **Fails:** at a double root, where ∂R/∂x is singular, from a guess whose basin holds no root, or where more
    equations than unknowns do not agree.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> R = lambda x, a: {"p": x["p"] * x["q"] - a, "q": x["p"] - x["q"] ** 2}
    >>> solve = lambda a: ix.root(R, {"p": 1.0, "q": 1.0}, a).x["q"]
    >>> print(round(float(solve(8.0)), 3), round(float(jax.grad(solve)(8.0)), 3))
    2.0 0.083

    ```
    """
    return solve(Call("root", "root", R, x0, args), keywords)


class Inputs(NamedTuple):
    """The arrays that a compiled solve reads."""

    theta: Theta
    x0: Leaves
    tolerance: Tolerance
    bounds: Bounds | None = None


class Job(NamedTuple):
    """What a solve is compiled for."""

    problem: Problem
    options: Options
    summary: Summary


class Program(NamedTuple):
    """A compiled solve."""

    options: Options
    arrays: Options  # those that the options hold
    summary: Summary
    rule: Rule
    compiled: Callable[[Options, Inputs], Found]
    structures: dict[Any, Any]  # of its Solutions, by those of what is in them
    apart: bool  # whether the derivative is not in the compiled solve

    def run(self, inputs: Inputs) -> Found:
        """Solves at a θ that has no derivative, then gives the solution its own."""
        if not self.apart:
            return self.compiled(self.arrays, inputs)
        return differentiable(self.rule, self.compiled, self.arrays, inputs)


def solve(call: Call, keywords: Any) -> Solution:
    """Problem, plan, the compiled solve, the Solution."""
    wanted = complete(call.caller, keywords)
    hoisted = hoist(call._replace(has_aux=wanted.has_aux, constraint=wanted.constraint))
    problem = hoisted.problem
    program = compiled(run, problem, wanted, structure=structure_of(problem, wanted, hoisted.theta))
    limits = tolerances(problem, wanted), box(problem, program.options, wanted.bounds)
    found = program.run(Inputs(hoisted.theta, hoisted.x0, *limits))
    return conclude(hoisted, program, found)


def run(job: Job, inputs: Inputs) -> Found:
    """Solves at a θ that has no derivative."""
    problem, options, _ = job
    limits = Limits.of(frozen(inputs.x0), inputs.tolerance, inputs.bounds, options.batch_axis)
    rule, asked = rule_of(*job), options.asked
    if isinstance(options.adjoint, Unrolled):
        found = unroll(rule, options.solver, options.adjoint.steps, inputs.theta, limits)
        if asked.error_estimate:
            error = correct(rule, frozen(inputs.theta), found.outcome, limits, asked.linear_solver)[1]
            found = found._replace(error=error)
        return found
    return settle(rule, inputs.theta, find(problem, options, inputs.theta, limits), limits, asked)


def find(problem: Problem, options: Options, theta: Theta, limits: Limits) -> Outcome:
    """The solution: by a first attempt where there is one, by the method, or by a solver of Optimistix."""
    method = options.solver
    if not isinstance(method, AbstractMethod):
        x, nit = foreign.run(problem, method, options.given, theta, limits.x0)
        return judge(problem, theta, limits._replace(x0=x), options.judged_by)._replace(nit=nit)
    watch, by_column, later = options.watch, options.by_column, options.later
    search = Search(problem, method, options.max_steps, options.batch_axis, watch, by_column, later, options.points)
    # The attempt knows no bounds, and shows nothing of its iterations.
    alone = limits.bounds is None and options.batch_axis is None and not options.watch
    if alone and options.attempt is not None:
        return attempt(search, options.attempt, theta, limits)
    if options.auto and problem.kind == "root" and problem.size == 1 and limits.bounds and options.batch_axis is None:
        return bracket(search, theta, limits)
    outcome = persist(search, theta, limits)
    # Without Newton's correction no method can say of a root that it is one.
    if problem.kind == "root" and not method.corrects:
        return confirm(search, outcome, theta, limits, options.judged_by)
    return outcome


def compiled(
    function: Callable[[Job, Inputs], Found],
    problem: Problem,
    wanted: Wanted,
    apart: bool = True,
    *,
    structure: Structure | None = None,
) -> Program:
    """The program for these keywords, made once for a problem. `apart`: whether the derivative is none of its matter,
    and so outside `jit` a program of its own, of which Python sees whether it failed."""
    key = (
        function,
        apart,
        structure,
        *wanted._replace(rtol=None, atol=None, residual_atol=None, bounds=None, constraint=None),
    )
    try:
        return problem.plans[key]
    except TypeError:  # a solver that holds arrays cannot be looked up, nor need it be the same in the next call
        return _compile(function, problem, decide(problem, wanted, structure), apart)
    except KeyError:
        options = decide(problem, wanted, structure)
        return problem.plans.setdefault(key, _compile(function, problem, options, apart))


def _compile(function: Callable[[Job, Inputs], Found], problem: Problem, options: Options, apart: bool) -> Program:
    arrays, static = eqx.partition(options, eqx.is_array)
    leaves, treedef = jax.tree.flatten(static)
    key = (function, treedef, tuple((type(leaf), leaf) for leaf in leaves))
    if key not in problem.compiled:
        summary = summarise(problem, static)

        @jax.jit
        def whole(arrays: Options, inputs: Inputs) -> Found:
            return function(Job(problem, eqx.combine(arrays, static), summary), inputs)

        def first(arrays: Options, inputs: Inputs) -> Found:
            return function(Job(problem, eqx.combine(arrays, static)._replace(later=None), summary), inputs)

        run = whole if static.later is None or static.watch else InTurn(jax.jit(first), whole)
        problem.compiled[key] = summary, run, rule_of(problem, static, summary), {}
    summary, program, rule, structures = problem.compiled[key]
    apart = apart and not isinstance(options.adjoint, Unrolled)
    return Program(options, arrays, summary, rule, program, structures, apart)


def conclude(hoisted: Hoisted, program: Program, found: Found, mesh: Mesh | None = None) -> Solution:
    """The Solution; under `throw=True` an error if it is none. `mesh`: over which the solves are split."""
    x, aux, summary = found.x, found.aux, program.summary
    status, nit, nfev, residual, component, history = found.outcome[1:]
    if program.options.throw:
        x, aux = raise_where(status, (x, aux), summary.of_failure, nit, residual, component, mesh=mesh)
    aux = None if hoisted.aux is None else hoisted.aux.put(aux)
    fields = hoisted.state.put(x), aux, status, nit, nfev, residual, component, found.error, summary, history
    leaves, structure = jax.tree.flatten(fields)
    if structure in program.structures:  # cheaper than the constructor of a module, which one would notice
        sol = jax.tree.unflatten(program.structures[structure], leaves)
    else:
        sol = Solution(*fields)
        program.structures[structure] = jax.tree.structure(sol)
    return sol
