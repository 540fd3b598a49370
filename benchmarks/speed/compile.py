"""Seconds to trace and to compile: the reference system, and a long F; and how often F is in the program."""

import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from . import peers
from .measure import Record, compare, find, goal
from .problems import Reference, loss

TITLE = "Tracing and compiling"
TEXT = """The time until a compiled program is there, `jax.jit(f).lower(…).compile()`, with all caches of JAX cleared
and F a new function each time: of the value, and of the gradient of ½|x|² by the parameters. The long F is 1,000
elementwise operations on 2 or on 50 unknowns. "F lowered" is how often F, or a part of its derivative that contains
it, is in the program that JAX hands to XLA; "F compiled" how often after XLA's inlining and simplification. "No fusion
emitters" is with `XLA_FLAGS=--xla_cpu_use_fusion_emitters=false`, which takes XLA's older way to machine code."""
NO_EMITTERS = f"{peers.OURS}, no fusion emitters"
OPERATIONS = 1000  # with 2,500 the gradient by hand took 38 s, with 5,000 the suite would take too long


def long(operations: int) -> Callable[..., Any]:
    """F for vectors of any length, a contraction: many short formulas, as in a model.

    With a barrier now and then, as a matrix product or a table in a model is one: else XLA makes one function of the
    machine of it all, which for 5,000 operations it did not bring to an end.
    """

    def F(x: Any, a: Any) -> Any:
        total = jnp.zeros_like(x)
        for k in range(operations // 10):
            y = jnp.sqrt(1.0 + a * x * x) / (1.5 + k)
            total = total + y / (0.5 + y * y)
            if k % 5 == 4:
                total = jax.lax.optimization_barrier(total)
        return 0.5 * x + total / operations

    return F


def marked(F: Callable[..., Any]) -> Callable[..., Any]:
    """F as a new function, with one `ceil` on which all else depends, so that copies of F can be counted."""
    return lambda x, *args: F(x + 0.0 * jnp.ceil(x), *args)


def program(solve: peers.Solve, F: Callable[..., Any], x0: Any, what: str, count: int) -> Any:
    function = marked(F)
    value = lambda *args: solve(function, x0, *args)
    if what == "value":
        return jax.jit(value)
    return jax.jit(jax.grad(lambda *args: loss(value(*args)), argnums=tuple(range(count))))


def build(make: Callable[[], Any], args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Times and counts of one compilation."""
    jax.clear_caches()
    start = time.perf_counter()
    lowered = make().lower(*args)
    middle = time.perf_counter()
    compiled = lowered.compile(options)
    end = time.perf_counter()
    return {
        "total": end - start,
        "trace": middle - start,
        "compile": end - middle,
        "F lowered": lowered.as_text().count("stablehlo.ceil"),
        "F compiled": len(re.findall(r" ceil\(", compiled.as_text())),
    }


def run(quick: bool) -> list[Record]:
    scalars = jnp.asarray(10.0), jnp.asarray(3.0)
    operations = 50 if quick else OPERATIONS
    cases = [("the reference system", Reference.F, jnp.array([1.5, 3.5]), scalars, 1 if quick else 5)]
    for n in (2,) if quick else (2, 50):
        title = f"F of {operations:,} operations, n = {n}"
        cases.append((title, long(operations), jnp.ones(n), (jnp.asarray(0.9),), 1))
    dropped = "jaxopt AndersonAcceleration", "jaxopt Broyden", peers.NAIVE
    ours = {peers.OURS: peers.ours(), f"{peers.OURS}, throw=True": peers.ours(throw=True), NO_EMITTERS: peers.ours()}
    solvers = ours | peers.small(quick)
    solvers = {who: solve for who, solve in solvers.items() if who not in dropped}
    records = []
    for case, F, x0, args, repeats in cases:
        for what, limit in (("value", 1.3), ("gradient", 1.3)):
            warm = F is Reference.F and not quick  # the very first time a library sets itself up
            found: dict[str, list[dict[str, Any]]] = {who: [] for who in solvers}
            for i in range(repeats + warm):
                for who, solve in solvers.items():
                    options = {"xla_cpu_use_fusion_emitters": False} if who == NO_EMITTERS else {}
                    built = build(partial(program, solve, F, x0, what, len(args)), args, options)
                    if i >= warm:
                        found[who].append(built)
            rows = [record(case, what, who, builds) for who, builds in found.items()]
            compare(rows, peers.OURS, "÷ implicitax")
            ours, hand = find(rows, peers.OURS), find(rows, peers.HAND)
            assert ours is not None
            assert hand is not None
            goal(ours, f"≤ {limit} × by hand", ours["seconds"] / hand["seconds"], limit)
            goal(ours, "F lowered as often as by hand", ours["F lowered"], hand["F lowered"])
            records += rows
    return records


def record(case: str, what: str, who: str, builds: list[dict[str, Any]]) -> Record:
    totals = [built["total"] for built in builds]
    middle = {column: statistics.median(built[column] for built in builds) for column in builds[0]}
    found = {"case": case, "what": what, "who": who, "note": "", "seconds": middle.pop("total")}
    found |= {"low": min(totals), "high": max(totals), "repeats": len(totals), "calls": 1, **middle}
    print(f"  {case:36s} {what:10s} {who:36s} {found['seconds']:.2f} s", flush=True)
    return found
