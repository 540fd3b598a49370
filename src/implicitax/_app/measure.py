"""What a computation costs: compile time, run time and memory, each apart."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

_FEWEST_RUNS, _TIMING_SECONDS = 11, 0.05


class Cost(NamedTuple):
    """Times in seconds; memory in bytes, None where the backend does not tell."""

    compiling: float
    running: float
    memory: int | None


def measure(run: Callable[..., Any], *args: Any) -> tuple[Any, Cost]:
    """What `run(*args)` returns, and its cost: the time to trace and compile, and the median time of many runs.

    The memory is that of the temporaries of the compiled program. The compiler has laid them out in advance, so it is
    the exact peak, the same in every run.
    """
    start = time.perf_counter()
    compiled = jax.jit(run).lower(*args).compile()
    compiling = time.perf_counter() - start
    value = jax.block_until_ready(compiled(*args))
    times: list[float] = []
    while len(times) < _FEWEST_RUNS or sum(times) < _TIMING_SECONDS:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    analysis = compiled.memory_analysis()
    memory = None if analysis is None else analysis.temp_size_in_bytes
    return value, Cost(compiling, statistics.median(times), memory)


def duration(seconds: float) -> str:
    """A time with its unit: `1.46 s`, `634 µs`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 1e-2 else f"{seconds * 1e6:.0f} µs"


def size(count: int | None) -> str:
    """A number of bytes with its unit: `1.2 kB`."""
    if count is None:
        return "unknown"
    for unit, factor in (("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
