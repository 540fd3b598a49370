"""Every test runs in float64 unless it asks otherwise; doctests run as a user's first session does, in float32."""

import gc
from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def precision(request: pytest.FixtureRequest) -> Iterator[None]:
    doctest = type(request.node).__name__ == "DoctestItem"
    x64 = not doctest and request.node.get_closest_marker("float32") is None
    with jax.enable_x64(x64):
        yield


@pytest.fixture(autouse=True, scope="module")
def compiled_programs() -> Iterator[None]:
    """Programs are forgotten after each file.

    Each keeps some memory mappings, and a process may have 65,530 of them (`vm.max_map_count`); XLA crashes beyond.
    """
    yield
    jax.clear_caches()
    gc.collect()
