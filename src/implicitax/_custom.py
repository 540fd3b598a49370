"""The implicit derivative for somebody else's solver."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar

import jax
from jax.core import Tracer, eval_jaxpr
from jaxtyping import PyTree
from typing_extensions import Unpack

from . import _xla
from ._errors import mistake, needs_value
from ._errors.call import check_decorated, check_own_solver, note_returned
from ._errors.keywords import check_never_unrolled
from ._loop import Limits, judge
from ._plan import JudgedKeywords, Wanted, complete, declares, rule_of, structure_of, tolerances
from ._problem import Call, Kind, hoist
from ._rule import Found, Unrolled, frozen, settle
from ._solve import Inputs, Job, compiled, conclude

P = ParamSpec("P")
X = TypeVar("X")
Solver: TypeAlias = Callable[..., PyTree]
Decorator: TypeAlias = Callable[[Callable[P, X]], Callable[P, X]]  # what is decorated keeps its signature


@declares(JudgedKeywords)
def custom_fixed_point(F: Callable[..., Any], **keywords: Unpack[JudgedKeywords]) -> Decorator[P, X]:
    """Gives your own solver of `x = F(x, *args)` the derivative of the implicit function theorem.

    A decorator for `solve(x0, *args) -> x`. Its body is never differentiated, so it may be any code: a loop, another
    library, NumPy through `jax.pure_callback` (or, outside `jit`, NumPy as it is). What it returns is checked: it must
    meet `|F(x) − x| ≤ atol + rtol·|x|`.

    **Arguments:**

    - `F`: as in `fixed_point`, called as `F(x, *args)` with the args of the solver.
    - `adjoint`, `rtol`, `atol`, `residual_atol`, `constraint`, `sparsity`, `throw`: as in `fixed_point`.

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
    return _decorator("fixed_point", F, keywords)


@declares(JudgedKeywords)
def custom_root(R: Callable[..., Any], **keywords: Unpack[JudgedKeywords]) -> Decorator[P, X]:
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
    return _decorator("root", R, keywords)


def _decorator(kind: Kind, F: Any, keywords: JudgedKeywords) -> Decorator[P, X]:
    call = Call(kind, f"custom_{kind}", F, None, ())
    wanted = complete(call.caller, keywords, JudgedKeywords)._replace(max_steps=0)
    check_decorated(call.function, F)
    check_never_unrolled(call.caller, wanted.adjoint, isinstance(wanted.adjoint, Unrolled))
    return functools.partial(_decorate, call, wanted)


def _decorate(call: Call, wanted: Wanted, *solver: Any) -> Any:
    check_own_solver(call.function, solver)
    return _decorated(call, wanted, *solver)


def _decorated(call: Call, wanted: Wanted, solver: Solver) -> Solver:
    @functools.wraps(solver)
    def solve(*given: Any, **named: Any) -> PyTree:
        """What the solver returns, judged, with its derivative."""
        (x0, *args), own = _by_position(solver, given, named)
        x = _run_opaque(call.caller, own, x0, tuple(args))
        try:
            hoisted = hoist(call._replace(x0=x, args=tuple(args), constraint=wanted.constraint))
        except Exception as error:
            note_returned(call.function, error, x, x0)
            raise
        structure = structure_of(hoisted.problem, wanted, hoisted.theta)
        program = compiled(_judge, hoisted.problem, wanted, structure=structure)
        found = program.run(Inputs(hoisted.theta, hoisted.x0, tolerances(hoisted.problem, wanted)))
        return conclude(hoisted, program, found).x

    return solve


def _by_position(solver: Solver, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Solver]:
    """The arguments that F has too, in their order; what has a keyword only is for the solver alone."""
    if given and not named:
        return given, solver
    bound = inspect.signature(solver).bind(*given, **named)
    bound.apply_defaults()
    return bound.args, functools.partial(solver, **bound.kwargs)


def _judge(job: Job, inputs: Inputs) -> Found:
    problem, options, _ = job
    limits = Limits.of(frozen(inputs.x0), inputs.tolerance)
    outcome = judge(problem, inputs.theta, limits, options.judged_by)
    return settle(rule_of(*job), inputs.theta, outcome, limits, options.asked)


def _run_opaque(caller: str, solver: Solver, x0: PyTree, args: tuple[Any, ...]) -> PyTree:
    """What `solver` returns, with no derivative, neither by its arguments nor by what it closes over."""
    x0, args = frozen((x0, args))
    leaves = jax.tree.leaves((x0, args))
    if not any(isinstance(leaf, Tracer) for leaf in leaves) and not _xla.staged():
        try:
            x = solver(x0, *args)
            if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
                return x
        except jax.errors.JAXTypeError:  # NumPy was given what is traced
            pass
        except ValueError as error:
            if "do not support JVP" not in str(error):  # a callback was
                raise
    # It reads what is being differentiated or mapped: as one function of all that, which then has no derivative.
    try:
        closed, shape = jax.make_jaxpr(lambda *all_: solver(*all_), return_shape=True)(x0, *args)
    except needs_value as error:
        raise TypeError(
            mistake(
                f"{caller}(solve)",
                "a solver that JAX can trace",
                "one that needs the values of its arguments",
                "Inside `jit` or `vmap`, or where it closes over traced parameters, NumPy cannot see the numbers.",
                "Wrap the body in `jax.pure_callback`.",
            )
        ) from error
    return jax.tree.unflatten(jax.tree.structure(shape), eval_jaxpr(closed.jaxpr, frozen(closed.consts), *leaves))
