"""The problem to be looked at, its parameters by name, and solves of it that do not raise."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._errors.keywords import check_kind
from .._methods import AbstractMethod, Tolerance
from .._plan import Wanted, structure_of, tolerances
from .._problem import Call, Problem, hoist
from .._problem.pattern import Sparsity
from .._rule import Found
from .._solution import Ending, Status, Summary
from .._solve import Inputs, Program, compiled, run
from .._tree import Layout, Leaves, is_differentiable, is_dynamic, is_number, path_names
from .record import Attempt

_RUNS = 3  # of which the median time is taken
_MOST_NUMBERS = 20  # of Python that are tried as arrays
_BESIDE = 0.01  # of its size, the distance from x0 at which F is run twice, too


class Case(NamedTuple):
    """What is diagnosed."""

    problem: Problem
    theta: Leaves
    names: tuple[str, ...]  # one a leaf of theta
    x0: Leaves
    tolerance: Tolerance
    batch_axis: int | None
    pure: bool  # whether F has returned the same for the same, when it was run twice
    kept: tuple[int, ...] = ()  # which leaves of F and args are Python numbers that F needs as such
    sparsity: Sparsity = None  # of the user's

    @classmethod
    def of(cls, call: Call, wanted: Wanted) -> "Case":
        check_kind("diagnose", call.kind)
        call, kept = _with_arrays(call)
        problem, theta, x, *_ = hoist(call)
        names = _names(call.F, call.args, problem.num_traced)
        names += tuple(f"closure[{i}]" for i in range(len(theta) - len(names)))
        tolerance = tolerances(problem, wanted).sized(x, wanted.batch_axis)
        theta = tuple(map(jnp.asarray, theta))
        pure = _is_pure(call, problem, theta, x)
        return cls(problem, theta, names, x, tolerance, wanted.batch_axis, pure, kept, wanted.sparsity)

    @property
    def smooth(self) -> tuple[int, ...]:
        """The leaves of theta that can have a derivative."""
        return tuple(i for i, leaf in enumerate(self.theta) if is_differentiable(leaf) and leaf.size)

    def locate(self, index: int) -> str:
        """The name of one real unknown."""
        names = tuple((path, struct.shape) for path, struct in zip(self.problem.paths, self.problem.x_struct))
        return Summary("diagnose", "", "", names).locate(index)

    def with_rows(self, values: Leaves) -> Any:
        """max |vᵢ|, of each row in a batch."""
        if self.batch_axis is None:
            return _tree.max_norm(values)
        return jax.vmap(_tree.max_norm)(_tree.rows_first(values, self.batch_axis))

    def each_row(self, good: Any) -> Leaves:
        """1 in the rows that are good, else 0, shaped like x."""

        def each(struct: Any) -> jax.Array:
            shape = [1] * len(struct.shape)
            if self.batch_axis is not None:
                shape[self.batch_axis] = struct.shape[self.batch_axis]
            return jnp.broadcast_to(jnp.asarray(good).reshape(shape), struct.shape).astype(struct.dtype)

        return tuple(map(each, self.problem.x_struct))

    def program(self, solver: Any, max_steps: int | None = None, **keywords: Any) -> Program:
        wanted = Wanted(
            solver=solver,
            max_steps=max_steps,
            batch_axis=self.batch_axis,
            sparsity=self.sparsity,
            throw=False,
            **keywords,
        )
        structure = structure_of(self.problem, wanted, self.theta)
        return compiled(run, self.problem, wanted, structure=structure)

    def solve(self, program: Program, theta: Leaves, x0: Leaves) -> Found:
        return program.run(Inputs(theta, x0, self.tolerance))

    def attempt(self, name: str, solver: Any, max_steps: int | None = None) -> tuple[Attempt, Found]:
        """How a solver fares from x0, and how long it takes once it is compiled."""
        program = self.program(solver, max_steps)
        found = self.solve(program, self.theta, self.x0)
        status, nit, nfev, residual, component, _ = found.outcome[1:]
        values = self.problem.residual(found.x, self.theta)
        seen = np.asarray(_tree.ravel(values))
        worst = self.locate(int(np.argmax(np.where(np.isnan(seen), np.inf, np.abs(seen))))) if seen.size else "nothing"
        return Attempt(
            name=name,
            success=bool(np.all(np.asarray(status) == Status.CONVERGED)),
            message=program.summary.describe(Ending(status, nit, residual, component)),
            nit=int(np.max(np.asarray(nit), initial=0)),
            nfev=int(np.max(np.asarray(nfev), initial=0)),
            residual=float(np.max(np.asarray(residual), initial=0)),
            worst=worst,
            failed_rows=() if self.batch_axis is None else tuple(np.flatnonzero(np.asarray(status)).tolist()),
            history=None,
            seconds=self._seconds(program),
        ), found

    def history(self, solver: Any, max_steps: int | None) -> np.ndarray | None:
        """max |R| of each evaluation, in a batch of each row and evaluation; None of a solver that is not ours."""
        if not isinstance(solver, AbstractMethod):
            return None
        found = self.solve(self.program(solver, max_steps, history=True), self.theta, self.x0)
        assert found.outcome.history is not None
        sizes = np.asarray(found.outcome.history.residual)
        taken = np.any(sizes >= 0, axis=tuple(range(sizes.ndim - 1)))
        return sizes[..., : int(taken.sum())]

    def _seconds(self, program: Program) -> float:
        jax.block_until_ready(self.solve(program, self.theta, self.x0))
        times = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            jax.block_until_ready(self.solve(program, self.theta, self.x0))
            times.append(time.perf_counter() - start)
        return sorted(times)[_RUNS // 2]


def _is_pure(call: Call, problem: Problem, theta: Leaves, x: Leaves) -> bool:
    """Whether F gives the same twice, traced once more, at x and beside it: at x itself what differs may be times 0."""
    other, again, *_ = hoist(call)
    again = tuple(map(jnp.asarray, again))
    beside = tuple(leaf * (1 + _BESIDE) + _BESIDE * (leaf == 0) for leaf in x)
    first, second = jax.jit(problem.residual), jax.jit(other.residual)
    for at in (x, tuple(b.astype(leaf.dtype) for b, leaf in zip(beside, x))):
        values = np.asarray(_tree.ravel(first(at, theta))), np.asarray(_tree.ravel(second(at, again)))
        if not np.array_equal(*values, equal_nan=True):
            return False
    return True


def _with_arrays(call: Call) -> tuple[Call, tuple[int, ...]]:
    """Python numbers as arrays, if F needs one as a number: else none would be traced. And which it does need so."""
    leaves, treedef = jax.tree.flatten((call.F, call.args))
    numbers = [i for i, leaf in enumerate(leaves) if is_number(leaf)]
    problem, *_ = hoist(call)
    if not numbers or _layout(call.F, call.args, problem.num_traced)[1] is is_dynamic:
        return call, ()
    kept = []
    for i in numbers[:_MOST_NUMBERS]:
        tried = [jnp.asarray(leaf) if i == j else leaf for j, leaf in enumerate(leaves)]
        F, args = jax.tree.unflatten(treedef, tried)
        try:
            hoist(call._replace(F=F, args=args))
        except TypeError:
            kept.append(i)
        else:
            leaves = tried
    F, args = jax.tree.unflatten(treedef, leaves)
    return call._replace(F=F, args=args), tuple(kept)


def _layout(F: Any, args: tuple[Any, ...], count: int) -> tuple[Layout, Any]:
    """That of F and args by which so many leaves were traced, and which of them count as such."""
    dynamic = is_dynamic
    layout, leaves = Layout.take((F, args), dynamic)
    if len(leaves) != count:
        dynamic = lambda leaf: is_dynamic(leaf) and not is_number(leaf)
        layout, _ = Layout.take((F, args), dynamic)
    return layout, dynamic


def _names(F: Any, args: tuple[Any, ...], count: int) -> tuple[str, ...]:
    """Those of the arrays that F and args hold, one a real leaf."""
    return _layout(F, args, count)[0].repeat(path_names(F, "F") + path_names(args, "args"))
