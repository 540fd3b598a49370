"""`small.c`, compiled into a folder that is gone with the process."""

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Without errno a square root is one instruction; nothing else is relaxed.
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-shared", "-fPIC")

# The functions of the file, and how they are called here.
NAMES = {
    "picard": "C, plain iteration, adaptive",
    "adaptive": "C, Newton, adaptive",
    "vectorised": "C, Newton, fixed count, vectorised",
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """None where there is no compiler."""
    if (gcc := shutil.which("gcc")) is None:
        return None
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    target = Path(folder.name) / "small.so"
    subprocess.run([gcc, *FLAGS, str(Path(__file__).with_name("small.c")), "-o", str(target), "-lm"], check=True)
    return ctypes.CDLL(str(target))


def program(
    name: str, tolerance: float, alpha: np.ndarray, beta: np.ndarray, gradient: bool
) -> Callable[[], tuple[np.ndarray, ...]]:
    """Calls the function on these arrays: x, and if it is asked for the gradient; the same memory at every call."""
    found = library()
    assert found is not None
    x, da, db = np.empty((2, alpha.size)), np.empty(alpha.size), np.empty(alpha.size)
    arrays: list[Any] = [alpha, beta, x, da if gradient else None, db if gradient else None]
    addresses = [ctypes.c_void_p(None if array is None else array.ctypes.data) for array in arrays]
    size, limit, function = ctypes.c_long(alpha.size), ctypes.c_double(tolerance), getattr(found, name)
    result = (x, da, db) if gradient else (x,)

    def call() -> tuple[np.ndarray, ...]:
        function(size, limit, *addresses)
        return result

    return call
