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
from .._problem import Call, Kind, Problem, hoist
from .._problem.pattern import Sparsity
from .._rule import Found
from .._solution import Ending, Status, Summary
from .._solve import Inputs, Program, compiled, run
from .._tree import Layout, Leaves, is_differentiable, is_dynamic, is_number, path_names
from .record import Attempt

_RUNS = 3  # of which the median time is taken


class Case(NamedTuple):
    """What is diagnosed."""

    problem: Problem
    theta: Leaves
    names: tuple[str, ...]  # one a leaf of theta
    x0: Leaves
    tolerance: Tolerance
    batch_axis: int | None
    pure: bool  # whether F has returned the same for the same, when it was run twice
    sparsity: Sparsity = None  # of the user's

    @classmethod
    def of(cls, kind: Kind, F: Any, x0: Any, args: tuple[Any, ...], wanted: Wanted) -> "Case":
        check_kind("diagnose", kind)
        call = Call(kind, "diagnose", F, x0, args, constraint=wanted.constraint, again=False)
        problem, theta, x, *_ = hoist(call)
        other, again, *_ = hoist(call)
        values = [np.asarray(_tree.ravel(p.residual(x, t))) for p, t in ((problem, theta), (other, again))]
        names = _names(F, args, problem.num_traced)
        names += tuple(f"closure[{i}]" for i in range(len(theta) - len(names)))
        tolerance = tolerances(problem, wanted).sized(x, wanted.batch_axis)
        pure = np.array_equal(*values, equal_nan=True)
        return cls(
            problem, tuple(map(jnp.asarray, theta)), names, x, tolerance, wanted.batch_axis, pure, wanted.sparsity
        )

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


def _names(F: Any, args: tuple[Any, ...], count: int) -> tuple[str, ...]:
    """Those of the arrays that F and args hold, one a real leaf."""
    for dynamic in (is_dynamic, lambda leaf: is_dynamic(leaf) and not is_number(leaf)):
        layout, leaves = Layout.take((F, args), dynamic)
        if len(leaves) == count:
            break
    return layout.repeat(path_names(F, "F") + path_names(args, "args"))
