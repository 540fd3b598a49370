"""A million small systems with parameters of their own: nanoseconds a system, value, and value with gradient."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import implicitax as ix

from . import native, peers
from .measure import Candidate, Record, beat_the_best, find, goal, measure
from .problems import Reference, gradient_error, loss

TITLE = "A million small systems"
TEXT = """The reference system for a million pairs of α and β, at random within 5% of 10 and 3: x, and x with the
gradient of ½|x|² by both parameters of every system. `vmap` is `jit` of `vmap`; "in chunks" is `jax.lax.map` with
`batch_size=4096`, "on all cores" is that in a `shard_map` over two CPU devices; or, since Optimistix does not run in
a `shard_map`, `vmap` of arrays that are sharded. C uses both cores by OpenMP. Times are a system; a solver with a
note solves fewer systems, since the million would take it too long or too much memory."""
LANES, CHUNK = 1_000_000, 4096
FEWER = {"jaxopt AndersonAcceleration": 20_000, "jaxopt Broyden": 4096, peers.HAND: 100_000, peers.NAIVE: 4096}
BEST = "jaxopt FixedPointIteration", "Optimistix FixedPointIteration"  # in chunks too


def lane(solve: peers.Solve, what: str) -> Callable[..., Any]:
    """For one pair: x, or x and the gradient."""
    x0 = jnp.array([1.5, 3.5])

    def value(alpha: Any, beta: Any) -> tuple[Any, ...]:
        return (solve(Reference.F, x0, alpha, beta),)

    return value if what == "value" else with_gradient(value)


def with_gradient(value: Callable[..., Any]) -> Callable[..., Any]:
    def of_x(alpha: Any, beta: Any) -> Any:
        (x,) = value(alpha, beta)
        return loss(x), x

    def both(alpha: Any, beta: Any) -> tuple[Any, ...]:
        (_, x), gradient = jax.value_and_grad(of_x, argnums=(0, 1), has_aux=True)(alpha, beta)
        return (x, *gradient)

    return both


def in_chunks(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: jax.lax.map(lambda pair: function(*pair), args, batch_size=CHUNK)


def on_all_cores(function: Callable[..., Any], mesh: Any) -> Callable[..., Any]:
    lanes = PartitionSpec("lanes")
    return jax.shard_map(function, mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False)


def sweep(what: str) -> Callable[..., Any]:
    # The attribute by its name: it is not in every version.
    x0, run_sweep = np.array([1.5, 3.5]), getattr(ix, "sweep")  # noqa: B009
    value = lambda alpha, beta: (run_sweep(Reference.F, x0, alpha, beta, throw=False).x,)
    return value if what == "value" else with_gradient(value)


def run(quick: bool) -> list[Record]:
    lanes = 4096 if quick else LANES
    rng = np.random.default_rng(0)
    alpha, beta = (p * (1 + 0.05 * rng.uniform(-1, 1, lanes)) for p in (10.0, 3.0))
    mesh = jax.make_mesh((jax.device_count(),), ("lanes",))
    spread = [jax.device_put(p, NamedSharding(mesh, PartitionSpec("lanes"))) for p in (alpha, beta)]
    solvers = {peers.OURS: peers.ours()} | peers.small(quick)
    records, exact = [], functools.cache(lambda size: Reference(alpha[:size], beta[:size]).gradient())
    for what in ("value", "value and gradient")[int(quick) :]:
        candidates: list[Candidate] = []

        def add(
            who: str,
            program: Any,
            size: int = lanes,
            args: Any = None,
            lanes_first: bool = True,
            candidates: list[Candidate] = candidates,
        ) -> None:
            problem = Reference(alpha[:size], beta[:size])
            pair = [jnp.asarray(p) for p in problem.args] if args is None else args

            def judge(found: Any) -> dict[str, float]:
                x, *gradient = found
                result = {"residual": problem.residual(np.asarray(x).T if lanes_first else x)}
                return result | ({"gradient error": gradient_error(gradient, exact(size))} if gradient else {})

            note = "" if size == lanes else f"{size:,} systems"
            candidates.append(Candidate(who, lambda: program(*pair), judge, size, note))

        if hasattr(ix, "sweep"):
            add(peers.OURS, sweep(what))
            add(f"{peers.OURS} sweep in jit", jax.jit(sweep(what)))
        for who, solve in solvers.items():
            one = lane(solve, what)
            named = f"{who}, vmap" if who == peers.OURS and hasattr(ix, "sweep") else who
            add(named, jax.jit(jax.vmap(one)), min(lanes, FEWER.get(who, lanes)))
            if who in (peers.OURS, *(BEST[:1] if quick else BEST)):
                add(f"{who}, in chunks", jax.jit(in_chunks(one)))
                many = jax.vmap(one) if who.startswith("Optimistix") else on_all_cores(in_chunks(one), mesh)
                add(f"{who}, on all cores", jax.jit(many), args=spread)
        for name, who in native.NAMES.items() if native.library() else ():
            program = native.program(name, peers.TOLERANCE, alpha, beta, what != "value")
            add(who, lambda *_, program=program: program(), lanes_first=False)
        rows = measure(f"{lanes:,} systems", what, candidates, repeats=2 if quick else 9, budget=3.0)
        ours, c = find(rows, peers.OURS), find(rows, native.NAMES["adaptive"])
        if ours and c:
            limit = c["seconds"] * 1e9
            goal(ours, f"≤ the {limit:.0f} ns of C, adaptive", ours["seconds"] * 1e9, limit)
        others = [r for r in rows if not r["who"].startswith((peers.OURS, "C,"))]
        plain = [r for r in others if r["who"] in solvers]
        beat_the_best(ours, plain, "≤ 1/5 of the best peer under vmap", 0.2)
        beat_the_best(ours, others, "≤ 1/5 of the best peer in any way", 0.2)
        records += rows
    return records
