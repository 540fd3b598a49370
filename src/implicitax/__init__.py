"""Differentiable implicit layers in JAX: `x = F(x, θ)` or `R(x, θ) = 0`, solved and differentiated exactly."""

# ruff: noqa: I001 - in the order in which a reader meets them
import importlib.metadata as _metadata
import pathlib as _pathlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._solve import fixed_point as fixed_point
from ._solve import root as root
from ._solution import Solution as Solution
from ._solution import Status as Status
from ._errors import ConvergenceError as ConvergenceError
from ._errors import words as _words
from ._plan import Auto as Auto
from ._methods import Picard as Picard
from ._methods import Anderson as Anderson
from ._methods import Squarem as Squarem
from ._methods import PseudoTransient as PseudoTransient
from ._methods import Broyden as Broyden
from ._methods import Newton as Newton
from ._methods import Ladder as Ladder
from ._methods import NewtonKrylov as NewtonKrylov
from ._rule import Implicit as Implicit
from ._rule import Neumann as Neumann
from ._rule import OneStep as OneStep
from ._rule import Unrolled as Unrolled
from ._linear import SmallLU as SmallLU
from ._layers import FixedPointLayer as FixedPointLayer
from ._layers import RootLayer as RootLayer
from ._custom import custom_fixed_point as custom_fixed_point
from ._custom import custom_root as custom_root
from ._sweep import sweep as sweep
from ._diagnose import Diagnosis as Diagnosis
from ._diagnose import diagnose as diagnose
from ._diagnose import plot_convergence as plot_convergence
from ._diagnose import plot_structure as plot_structure


if not _TYPE_CHECKING:  # for which there would be every name

    def __getattr__(name: str) -> object:
        raise AttributeError(_words.module_attribute(name, [known for known in globals() if known[0] != "_"]))


def _version() -> str:
    """Of the package that is installed; from a source tree that is not, the one it states."""
    try:
        return _metadata.version("implicitax")
    except _metadata.PackageNotFoundError:
        import tomllib

        stated = _pathlib.Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(stated.read_text())["project"]["version"] if stated.exists() else "unknown"


__version__ = _version()
