"""Linear algebra: A = ∂R/∂x, and solves with it and its transpose."""

from . import trust as trust
from .dense import DenseLU as DenseLU
from .gmres import gmres as gmres
from .krylov import Krylov as Krylov
from .linearise import Linear as Linear
from .linearise import Wanted as Wanted
from .linearise import is_matrix as is_matrix
from .linearise import linearise as linearise
from .linearise import linearise_rows as linearise_rows
from .linearise import linearise_transposed as linearise_transposed
from .neumann import NeumannSeries as NeumannSeries
from .small_lu import SMALL as SMALL
from .small_lu import SmallLU as SmallLU
from .solve import Certified as Certified
from .solve import LinearSolver as LinearSolver
from .solve import certify as certify
from .solve import correct as correct
from .solve import factoriser as factoriser
from .solve import is_dense as is_dense
from .solve import solve as solve
from .solve import solve_bare as solve_bare
from .solve import solve_dense as solve_dense
from .solve import wanted as wanted
from .structure import Structure as Structure
from .structure import StructuredLU as StructuredLU
