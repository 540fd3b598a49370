"""Times of programs beside each other: these machines are shared, so one is not run after the other."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


def medians(programs: Sequence[Callable[..., Any]], *args: Any, repeats: int) -> list[float]:
    """The median time of each, in microseconds, after a first call that may compile."""
    times: list[list[float]] = [[] for _ in programs]
    for program in programs:
        jax.block_until_ready(program(*args))
    for _ in range(repeats):
        for program, found in zip(programs, times):
            start = time.perf_counter()
            jax.block_until_ready(program(*args))
            found.append(time.perf_counter() - start)
    return [float(np.median(found)) * 1e6 for found in times]
