"""The problem to be looked at, its parameters by name, and solves of it that do not raise."""

import time
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .. import _tree
from .._errors import mistake
from .._layout import Layout, is_differentiable, is_dynamic, is_number, path_names
from .._limits import tolerances
from .._methods import AbstractSolver, Tolerance
from .._problem import Kind, Problem, hoist
from .._run import Found, run
from .._solution import Status, Summary
from .._solve import Plan, planned
from .._tree import Leaves
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

    @classmethod
    def of(cls, kind: Kind, F: Any, x0: Any, args: tuple[Any, ...], rtol: Any, atol: Any, batch_axis: Any) -> "Case":
        if kind not in get_args(Kind):
            raise ValueError(
                mistake(
                    "diagnose(kind=...)",
                    '"fixed_point" or "root"',
                    repr(kind),
                    "It says whether x = F(x) or F(x) = 0 is solved.",
                    "Leave it out for a fixed point.",
                )
            )
        problem, theta, x = hoist(kind, "diagnose", F, x0, args, False)
        names = _names(F, args, problem.num_traced)
        names += tuple(f"closure[{i}]" for i in range(len(theta) - len(names)))
        return cls(problem, tuple(map(jnp.asarray, theta)), names, x, tolerances(problem, rtol, atol), batch_axis)

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

    def plan(self, solver: Any, max_steps: int | None = None, adjoint: Any = None, history: bool = False) -> Plan:
        return planned(run, self.problem, False, solver, adjoint, max_steps, False, self.batch_axis, history, False)

    def solve(self, plan: Plan, theta: Leaves, x0: Leaves) -> Found:
        return plan.compiled(plan.arrays, theta, x0, self.tolerance, None)

    def attempt(self, name: str, solver: Any, max_steps: int | None = None) -> tuple[Attempt, Found]:
        """How a solver fares from x0, and how long it takes once it is compiled."""
        plan = self.plan(solver, max_steps)
        found = self.solve(plan, self.theta, self.x0)
        status, nit, nfev, residual, component, _ = found.outcome[1:]
        values = self.problem.residual(found.x, self.theta)
        seen = np.asarray(_tree.ravel(values))
        worst = self.locate(int(np.argmax(np.where(np.isnan(seen), np.inf, np.abs(seen))))) if seen.size else "nothing"
        return Attempt(
            name=name,
            success=bool(np.all(np.asarray(status) == Status.CONVERGED)),
            message=plan.summary.describe(status, nit, residual, component),
            nit=int(np.max(np.asarray(nit), initial=0)),
            nfev=int(np.max(np.asarray(nfev), initial=0)),
            residual=float(np.max(np.asarray(residual), initial=0)),
            worst=worst,
            failed_rows=() if self.batch_axis is None else tuple(np.flatnonzero(np.asarray(status)).tolist()),
            history=None,
            seconds=self._seconds(plan),
        ), found

    def history(self, solver: Any, max_steps: int | None) -> np.ndarray | None:
        """max |R| of each evaluation, in a batch of each row and evaluation; None of a solver that is not ours."""
        if not isinstance(solver, AbstractSolver):
            return None
        found = self.solve(self.plan(solver, max_steps, history=True), self.theta, self.x0)
        assert found.outcome.history is not None
        sizes = np.asarray(found.outcome.history.residual)
        taken = np.any(~np.isnan(sizes), axis=tuple(range(sizes.ndim - 1)))
        return sizes[..., : int(taken.sum())]

    def _seconds(self, plan: Plan) -> float:
        jax.block_until_ready(self.solve(plan, self.theta, self.x0))
        times = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            jax.block_until_ready(self.solve(plan, self.theta, self.x0))
            times.append(time.perf_counter() - start)
        return sorted(times)[_RUNS // 2]


def _names(F: Any, args: tuple[Any, ...], count: int) -> tuple[str, ...]:
    """Those of the arrays that F and args hold, one a real leaf."""
    for dynamic in (is_dynamic, lambda leaf: is_dynamic(leaf) and not is_number(leaf)):
        layout, leaves = Layout.take((F, args), dynamic)
        if len(leaves) == count:
            break
    return layout.repeat(path_names(F, "F") + path_names(args, "args"))
