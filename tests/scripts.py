"""Scripts, each in a process of its own: forked from one that has imported JAX and implicitax, which takes seconds."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

# Flags of XLA under which a program that runs once, and a test is one, takes least time.
QUICK = "--xla_backend_optimization_level=0"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"  # the other cores have tests of their own
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    # XLA ends a process in which it meets a flag that it does not know, as that of jaxlib 0.11 does not.
    QUICK += " --xla_cpu_use_fusion_emitters=false"

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["implicitax"])


class Done(NamedTuple):
    """How a script ended and what it has said, as of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str


def run(path: Path, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Done:
    """As `python -W error path arguments` in this folder. JAX has no devices yet where it begins."""
    with tempfile.TemporaryDirectory() as name:
        said = Path(name, "stdout"), Path(name, "stderr")
        process = PROCESSES.Process(target=_run, args=(said, path, folder, arguments, environment or {}))
        process.start()
        process.join(900)
        process.kill()  # nothing where it has ended
        process.join()
        return Done(process.exitcode, *(file.read_text() for file in said))


def _run(
    said: tuple[Path, Path], path: Path, folder: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    for descriptor, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(path), *arguments]
    warnings.simplefilter("error")
    runpy.run_path(str(path), run_name="__main__")
