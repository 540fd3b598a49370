"""`sweep`: many independent problems, cut into chunks, spread over the devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from typing_extensions import Unpack

from .. import _xla
from .._errors import sweep as check
from .._errors.keywords import check_kind, needs_rich
from .._plan import SharedKeywords, box, complete, declares, structure_of, sweeps, tolerances
from .._problem import Call, Kind, Problem, hoist
from .._rule import Found
from .._solution import Solution
from .._solve import Inputs, Program, compiled, conclude
from .._tree import is_dynamic, is_number, is_unknown
from .chunks import Chunked, count_chunks, fitting
from .lanes import Axes, Mapped, choose_mesh, find_lanes

_GROUPS = 100  # reports of a progress bar


@sweeps
@declares(SharedKeywords)
def sweep(
    F: Callable[..., Any],
    x0: PyTree,
    *args: Any,
    in_axes: Any = None,
    kind: Kind = "fixed_point",
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = False,
    **keywords: Unpack[SharedKeywords],
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
      the number of its cores, unless `jax.config.update("jax_num_cpu_devices", n)` is called before JAX is first used;
      and inside of `jit` or a derivative one only, unless XLA has two threads for each (`docs/fast.md`).
    - `progress`: whether to show a bar. Not inside `jit`, `grad` or `vmap`, where Python does not see how far the
      computation is. Needs the extra `cli`.
    - `solver`, `adjoint`, `rtol`, `atol`, `residual_atol`, `max_steps`, `options`, `bounds`, `constraint`, `sparsity`,
      `has_aux`, `error_estimate`, `throw`: as in `fixed_point`, the same for all problems.

    **Returns:** a `Solution` in which every array has the problems along axis 0.

    **Raises:** `ConvergenceError` if one of the solves fails, with the indices of those that did; `ValueError` or
    `TypeError` for wrong arguments. If the linear solve of a derivative fails, the error counts within one chunk;
    under `throw=False`, and on several devices, the derivative of that problem is NaN.

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
    check.check_function(F)
    check_kind("sweep", kind)
    check.check_batch_size(batch_size)
    check.check_not_rows(dict(keywords))
    wanted = complete("sweep", keywords, SharedKeywords)
    lanes, function, guess = find_lanes(F, x0, args, in_axes)
    F_one, args_one = function.one()
    hoisted = hoist(Call(kind, "sweep", F_one, guess.one(), args_one, wanted.has_aux, wanted.constraint))
    problem, theta, x = hoisted[:3]

    all_lanes = _all_lanes(problem, theta, x, function, guess)
    mesh = choose_mesh(mesh, (*all_lanes.theta, *all_lanes.x))
    devices = 1 if mesh is None else mesh.size
    if batch_size is None:
        batch_size = fitting(problem, all_lanes.theta, all_lanes.axes[0], lanes, mesh)
    size, progress = lanes, progress and lanes > 0
    if progress:
        size = -(-lanes // min(_GROUPS, -(-lanes // (devices * batch_size))))
    chunked = Chunked(size, all_lanes.axes, count_chunks(size, devices, batch_size), mesh)
    # What differs between lanes is no known value: its shape is not the one in the problem.
    structure = structure_of(problem, wanted, all_lanes.theta)
    program = compiled(chunked, problem, wanted, apart=False, structure=structure)
    limits = tolerances(problem, wanted)
    inputs = Inputs(all_lanes.theta, all_lanes.x, limits, box(problem, program.options, wanted.bounds))
    if mesh is not None:
        inputs = jax.tree.map(functools.partial(_move, mesh), inputs)
    found = _report(chunked, lanes, program, inputs) if progress else program.run(inputs)
    return conclude(hoisted, program, found, mesh)


class _AllLanes(NamedTuple):
    """theta and x0 of all problems, and the axes along which they have them."""

    theta: Any
    x: Any
    axes: tuple[Axes, Axes]


def _all_lanes(problem: Problem, theta: Any, x: Any, function: Mapped, guess: Mapped) -> _AllLanes:
    """From theta and x of one problem those of all."""
    traced, axes = function.real(is_dynamic)
    if len(traced) != problem.num_traced:
        traced, axes = function.real(lambda leaf: is_dynamic(leaf) and not is_number(leaf))
    closed = theta[problem.num_traced :]
    theta, theta_axes = (*traced, *closed), (*axes, *(None for _ in closed))
    guesses, x_axes = guess.real(is_unknown)
    x = tuple(xi if axis is None else jnp.asarray(xs).astype(xi.dtype) for xi, xs, axis in zip(x, guesses, x_axes))
    return _AllLanes(theta, _xla.varying(x, theta), (theta_axes, x_axes))


def _move(mesh: Mesh, leaf: Any) -> Any:
    """An array that was put on other devices than those of the mesh is copied there."""
    elsewhere = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.committed
    if elsewhere and leaf.sharding.device_set != set(mesh.devices.flat):
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
    return leaf


def _report(chunked: Chunked, lanes: int, program: Program, inputs: Inputs) -> Found:
    """All lanes, group by group, with a bar. The last group overlaps the one before: all are of one shape."""
    trees = inputs.theta, inputs.x0
    check.check_progress(any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees)))
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError as error:
        raise needs_rich("sweep") from error

    def part(start: int, leaf: Any, axis: int | None) -> Any:
        return leaf if axis is None else jax.lax.dynamic_slice_in_dim(leaf, start, chunked.lanes, axis)

    found = []
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sweep", total=lanes)
        for first in range(0, lanes, chunked.lanes):
            start = min(first, lanes - chunked.lanes)
            theta, x0 = (
                tuple(part(start, *pair) for pair in zip(tree, axes)) for tree, axes in zip(trees, chunked.axes)
            )
            new = jax.block_until_ready(program.run(inputs._replace(theta=theta, x0=x0)))
            found.append(jax.tree.map(lambda leaf, skip=first - start: leaf[skip:], new))
            bar.update(task, completed=first + chunked.lanes)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
