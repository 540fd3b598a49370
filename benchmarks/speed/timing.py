"""Times of programs that are called in turns, so that a slow minute of the machine is slow for all of them."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

SLOW = 0.1  # seconds; of such a program even the first call counts as a repeat


class Timing(NamedTuple):
    """Seconds a call: the median, the least and the largest of `repeats`, each a mean of `calls` calls in a row."""

    median: float
    low: float
    high: float
    repeats: int
    calls: int


def seconds(program: Callable[[], Any], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(program())  # each: a user waits for the answer of each
    return (time.perf_counter() - start) / calls


def interleave(
    programs: dict[str, Callable[[], Any]], repeats: int = 21, batch: float = 5e-3, budget: float = 5.0
) -> dict[str, Timing]:
    """The times of the programs, all of which were called once before.

    A repeat takes `batch` seconds at least. A program of which `repeats` would take more than `budget` seconds has
    fewer, spread over those of the others.
    """
    calls, rounds, found = {}, {}, {}
    for name, program in programs.items():
        once = seconds(program)
        found[name] = [once] if once >= SLOW else []
        once = once if once >= SLOW else min(seconds(program) for _ in range(2))
        calls[name] = max(1, math.ceil(batch / once))
        rounds[name] = max(1 - len(found[name]), min(repeats, int(budget / (once * calls[name]))))
    for i in range(repeats):
        for name, program in programs.items():
            if (i + 1) * rounds[name] // repeats > i * rounds[name] // repeats:
                found[name].append(seconds(program, calls[name]))
    return {
        name: Timing(statistics.median(times), min(times), max(times), len(times), calls[name])
        for name, times in found.items()
    }
