"""Every test runs in float64 unless it asks otherwise; doctests run as a user's first session does, in float32.

Nearly all the time of the tests is XLA's, which optimises programs that run once. So they are compiled with the flags
below, also in the processes that tests start, unless `IMPLICITAX_XLA_DEFAULTS=1` (`make test-default-flags`).
"""

import gc
import os
from collections.abc import Iterator

import jax
import pytest

import scripts

# Before JAX makes its backend, which reads them. What the user has set comes last, and so it holds.
if os.environ.get("IMPLICITAX_XLA_DEFAULTS", "0") == "0" and scripts.QUICK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{scripts.QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

# Where each operation of a program stands in Python, which a message of XLA's could say, takes time to write down.
jax.config.update("jax_traceback_in_locations_limit", 0)

# Files that take longest, so that no worker is left with one of them at the end (`--dist loadfile`).
LONGEST = (
    "docs",
    "peers",
    "faults",
    "adjoint",
    "roots",
    "batch",
    "sweep",
    "cli_diagnose",
    "reference",
    "diagnose",
    "methods",
)


# A pass of the garbage collector visits all that JAX keeps, many times in each test: a tenth of the time of all.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in LONGEST]
    rank = lambda item: names.index(item.path.stem) if item.path.stem in names else len(names)
    items.sort(key=rank)
    gc.freeze()


@pytest.fixture(autouse=True)
def precision(request: pytest.FixtureRequest) -> Iterator[None]:
    doctest = type(request.node).__name__ == "DoctestItem"
    x64 = not doctest and request.node.get_closest_marker("float32") is None
    with jax.enable_x64(x64):
        yield


@pytest.fixture(autouse=True, scope="module")
def compiled_programs() -> Iterator[None]:
    """Programs are forgotten after each file, and the garbage is collected.

    Each keeps some memory mappings, and a process may have 65,530 of them (`vm.max_map_count`); XLA crashes beyond.
    """
    yield
    jax.clear_caches()
    gc.collect()
