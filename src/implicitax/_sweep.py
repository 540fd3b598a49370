"""`sweep`: many independent problems, cut into chunks, spread over the devices."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from . import _tree
from ._adjoints import AbstractAdjoint
from ._errors import mistake
from ._lanes import Axes, check_keywords, check_mesh, find_lanes
from ._layout import is_dynamic, is_number, is_unknown
from ._limits import box, tolerances
from ._options import Options
from ._problem import Kind, Problem, hoist
from ._run import Found, run
from ._solution import Solution, Status, Summary
from ._solve import conclude, planned
from ._watch import needs_rich

# What the lanes of a chunk may take. Measured on 2026-11-25, JAX 0.10.2, float64, two busy cores of an AMD EPYC, 1 MB
# of L2 cache each: the time relative to one `vmap` over all lanes, medians of interleaved runs, by lanes in a chunk.
#   2 unknowns, 2 parameters, 10^6 lanes          512    1024   2048   4096   8192
#     value, on one device                        0.38   0.33   0.30   0.29   0.32
#     value and gradient, on one device           0.34   0.32   0.29   0.32   0.41
#     value, on two                               0.36   0.33   0.31   0.28   0.37
#     value and gradient, on two                  0.39   0.33   0.29   0.27   0.33
#   x = tanh(Wx + b), value and gradient           16     64     256    1024   4096
#     20 unknowns, 20,000 lanes                   0.94   0.69   0.57   0.65   0.78
#     100 unknowns, 2,000 lanes                   0.58   0.52   0.65   0.86
# The rule of `_fitting` takes 4096, 256 and 64 lanes.
_CACHE = 2**20
_DEVICE = 2**30  # elsewhere there is no such cache, and a device wants all the lanes it can get (not measured)
_GROUPS = 100  # reports of a progress bar


class _Keywords(NamedTuple):
    """Those of `fixed_point` that mean something here."""

    solver: Any = None
    adjoint: AbstractAdjoint | None = None
    rtol: PyTree = None
    atol: PyTree = None
    max_steps: int | None = None
    bounds: Any = None
    has_aux: bool = False
    error_estimate: bool = False
    throw: bool = True


def sweep(
    F: Callable[..., Any],
    x0: PyTree,
    *args: Any,
    in_axes: Any = None,
    kind: Kind = "fixed_point",
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    **keywords: Any,
) -> Solution:
    r"""Solves many independent problems `xᵢ = F(xᵢ, *argsᵢ)`, or `F(xᵢ, *argsᵢ) = 0`, with exact derivatives.

    What it returns is what `jax.vmap` of `fixed_point` or `root` returns, but sooner: the problems are cut into chunks
    that fit into the cache, each of which ends when its own problems have, and the chunks are spread over the devices,
    none of which waits for another.

    **Arguments:**

    - `F`, `x0`, `args`: as in `fixed_point` for one problem, but the arrays that differ have an additional axis, of
      the same length in all of them, with an entry for each problem.
    - `in_axes`: that axis, as in `jax.vmap` of a function of (F, x0, \*args): an integer, or a tuple with an entry for
      each of them, an integer, None for what is the same in all problems, or a pytree prefix of those. By default F and
      x0 are the same in all problems, and every one of args has the problems along axis 0.
    - `kind`: `"fixed_point"` or `"root"`.
    - `batch_size`: the most problems in a chunk. By default as many as fit into 1 MB with what a solve needs: 4096 for
      two unknowns and two parameters in float64.
    - `mesh`: the devices, as a `jax.sharding.Mesh`, over all axes of which the problems are split. By default all
      devices of this process, or those on which the arrays have been put. On CPU there is one device, whatever
      the number of its cores, unless `jax.config.update("jax_num_cpu_devices", n)` is called before JAX is first used
      (see `docs/fast.md` about the threads that XLA then needs).
    - `progress`: whether to show a bar. Not inside `jit`, `grad` or `vmap`, where Python does not see how far the
      computation is. Needs the extra `cli`.
    - `solver`, `adjoint`, `rtol`, `atol`, `max_steps`, `bounds`, `has_aux`, `error_estimate`, `throw`: as in
      `fixed_point`, the same for all problems.

    **Returns:** a `Solution` in which every array has the problems along axis 0.

    **Raises:** `ConvergenceError` if one of the solves fails, with the indices of those that did; `ValueError` or
    `TypeError` for wrong arguments. If the linear solve of a derivative fails, the error counts within one chunk;
    under `throw=False` the derivative of that problem is NaN. On several devices only a call outside of `jit` can
    raise: inside, and in the derivative, x and the derivative of what has failed are NaN in its place.

    **Cost:** that of the solves. Beside what goes in and out, memory for one chunk on each device; a gradient keeps
    what went in and x. A chunk goes on until its slowest problem has ended.

    **Fails:** where the problems are coupled, for which there is `fixed_point(batch_axis=...)`.

    ```python
    >>> import jax, jax.numpy as jnp, implicitax as ix
    >>> solve = lambda a: ix.sweep(lambda x, a: jnp.exp(-a * x), 0.5, a).x
    >>> a = jnp.linspace(1.0, 2.0, 5000)
    >>> print(solve(a).shape, round(float(solve(a)[0]), 3), round(float(jax.grad(lambda a: solve(a)[0])(a)[0]), 3))
    (5000,) 0.567 -0.205

    ```
    """
    check_keywords(F, kind, batch_size, keywords, _Keywords._fields)
    wanted = _Keywords(**keywords)
    lanes, function, guess = find_lanes(F, x0, args, in_axes)
    F_one, args_one = function.one()
    problem, theta, x = hoist(kind, "sweep", F_one, guess.one(), args_one, wanted.has_aux)

    # theta and x are those of one problem so far.
    traced, axes = function.real(is_dynamic)
    if len(traced) != problem.num_traced:
        traced, axes = function.real(lambda leaf: is_dynamic(leaf) and not is_number(leaf))
    closed = theta[problem.num_traced :]
    theta, theta_axes = (*traced, *closed), (*axes, *(None for _ in closed))
    guesses, x_axes = guess.real(is_unknown)
    x = tuple(xi if axis is None else jnp.asarray(xs).astype(xi.dtype) for xi, xs, axis in zip(x, guesses, x_axes))
    x = _tree.varying(x, theta)

    mesh = check_mesh(mesh, (*theta, *x))
    devices = 1 if mesh is None else mesh.size
    if batch_size is None:
        batch_size = _fitting(problem, theta, theta_axes, lanes, mesh)
    size = lanes
    progress = progress and lanes > 0
    if progress:
        size = -(-lanes // min(_GROUPS, -(-lanes // (devices * batch_size))))
    chunked = _Chunked(size, (theta_axes, x_axes), _count_chunks(size, devices, batch_size), mesh)
    plan = planned(
        chunked, problem, wanted.error_estimate, wanted.solver, wanted.adjoint, wanted.max_steps, wanted.throw
    )
    limits = tolerances(problem, wanted.rtol, wanted.atol), box(problem, plan.options, wanted.bounds)
    if mesh is not None:
        theta, x, limits = jax.tree.map(functools.partial(_move, mesh), (theta, x, limits))
    solve = lambda theta, x: plan.compiled(plan.arrays, theta, x, *limits)
    found = _report(chunked, lanes, solve, theta, x) if progress else solve(theta, x)
    if mesh is not None and wanted.throw and isinstance(found.outcome.status, Tracer):
        plan, found = plan._replace(options=plan.options._replace(throw=False)), _spoil(found)
    return conclude(problem, plan, found)


@dataclasses.dataclass(frozen=True)
class _Chunked:
    """The compiled program: on each device a loop over chunks, in each chunk a `vmap` over lanes."""

    lanes: int
    axes: tuple[Axes, Axes]  # of theta and of x0
    chunks: int  # on each device
    mesh: Mesh | None

    def __call__(
        self, problem: Problem, options: Options, summary: Summary, error_estimate: bool, *values: Any
    ) -> Found:
        if self.total > 1:
            summary = dataclasses.replace(summary, noun="solves in one chunk of the sweep")
        if self.mesh is not None:
            options = options._replace(throw=False)  # see `_spoil`
        arrays, static = eqx.partition(options, eqx.is_array)
        leaves, treedef = jax.tree.flatten((values, arrays))
        axes = (*self.axes[0], *self.axes[1])
        axes = (*axes, *(None for _ in leaves[len(axes) :]))

        def one(mapped: list[Any], shared: list[Any]) -> Found:
            pieces = iter(mapped), iter(shared)
            values, arrays = jax.tree.unflatten(treedef, [next(pieces[axis is None]) for axis in axes])
            return run(problem, eqx.combine(arrays, static), summary, error_estimate, *values)

        def many(mapped: list[Any], shared: list[Any]) -> Found:
            chunk = lambda mapped: jax.vmap(one, in_axes=(0, None))(mapped, shared)
            if self.chunks > 1:
                return jax.lax.map(chunk, mapped)
            return jax.tree.map(lambda leaf: leaf[None], chunk([leaf[0] for leaf in mapped]))

        if self.mesh is not None:
            split = PartitionSpec(self.mesh.axis_names)
            # All that a solve reads is an argument here: JAX need not find out what differs from device to device.
            many = jax.shard_map(
                many, mesh=self.mesh, in_specs=(split, PartitionSpec()), out_specs=split, check_vma=False
            )
        mapped = [self._cut(leaf, axis) for leaf, axis in zip(leaves, axes) if axis is not None]
        shared = [leaf for leaf, axis in zip(leaves, axes) if axis is None]
        found = many(mapped, shared)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: self.lanes], found)

    @property
    def total(self) -> int:
        return self.chunks * (1 if self.mesh is None else self.mesh.size)

    def _cut(self, leaf: Any, axis: int) -> Any:
        """The lanes of a leaf as (chunks, lanes of one); the last lane is repeated where some are missing.

        A repeated lane takes no longer than the last, and its results are cut off: its cotangent is 0.
        """
        leaf = jnp.moveaxis(leaf, axis, 0)
        size = -(-self.lanes // self.total)
        missing = self.total * size - self.lanes
        if missing:
            leaf = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
        return leaf.reshape(self.total, size, *leaf.shape[1:])


@functools.lru_cache
def _count_chunks(lanes: int, devices: int, batch_size: int) -> int:
    """Chunks on each device: a few more than needed if then none has to be filled up, which copies everything."""
    fewest = max(1, -(-lanes // (devices * batch_size)))
    exact = (chunks for chunks in range(fewest, fewest + fewest // 4 + 1) if lanes % (devices * chunks) == 0)
    return next(exact, fewest)


def _fitting(problem: Problem, theta: Any, axes: Axes, lanes: int, mesh: Mesh | None) -> int:
    """How many lanes have room in the cache: a power of 2."""
    n, itemsize = problem.size, _tree.work_dtype(problem.x_struct).itemsize
    parameters = sum(np.size(leaf) // max(lanes, 1) for leaf, axis in zip(theta, axes) if axis is not None)
    # The state comes with its residual, step, best point and temporaries; matrices are taken lane by lane.
    words = 8 * (n + parameters)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    room = (_CACHE if platform == "cpu" else _DEVICE) // (words * itemsize)
    return 2 ** max(room.bit_length() - 1, 0)


def _spoil(found: Found) -> Found:
    """x with NaN where the solve has failed, and then its derivative is NaN too.

    In place of an exception: it would end the program on one device while the others wait for what that has to send.
    """
    spoilt = jnp.where(found.outcome.status == Status.CONVERGED, 0, jnp.nan)
    each = lambda leaf: leaf + spoilt.astype(leaf.dtype).reshape(-1, *(1 for _ in leaf.shape[1:]))
    return found._replace(x=tuple(map(each, found.x)))


def _move(mesh: Mesh, leaf: Any) -> Any:
    """An array that was put on other devices than those of the mesh is copied there."""
    elsewhere = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.committed
    if elsewhere and leaf.sharding.device_set != set(mesh.devices.flat):
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
    return leaf


def _report(chunked: _Chunked, lanes: int, solve: Callable[..., Found], *trees: tuple[Any, ...]) -> Found:
    """All lanes, group by group, with a bar. The last group overlaps the one before: all are of one shape."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees)):
        raise ValueError(
            mistake(
                "sweep(progress=...)",
                "False inside `jit`, `grad` and `vmap`",
                "True",
                "There the sweep is a part of a larger computation, and Python does not see how far that is.",
                "Leave it out, or show a bar of your own around calls for a part of the problems.",
            )
        )
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError as error:
        raise ImportError(needs_rich("sweep")) from error

    def part(start: int, leaf: Any, axis: int | None) -> Any:
        return leaf if axis is None else jax.lax.dynamic_slice_in_dim(leaf, start, chunked.lanes, axis)

    found = []
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sweep", total=lanes)
        for first in range(0, lanes, chunked.lanes):
            start = min(first, lanes - chunked.lanes)
            group = [tuple(part(start, *pair) for pair in zip(tree, axes)) for tree, axes in zip(trees, chunked.axes)]
            new = jax.block_until_ready(solve(*group))
            found.append(jax.tree.map(lambda leaf, skip=first - start: leaf[skip:], new))
            bar.update(task, completed=first + chunked.lanes)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
