"""One method a file: where to evaluate next."""

from .anderson import RETRIES as RETRIES
from .anderson import Anderson as Anderson
from .auto import Auto as Auto
from .base import AbstractSolver as AbstractSolver
from .base import Evaluation as Evaluation
from .base import Proposal as Proposal
from .base import Tolerance as Tolerance
from .base import ratio as ratio
from .base import typical_size as typical_size
from .broyden import Broyden as Broyden
from .ladder import Ladder as Ladder
from .newton import Newton as Newton
from .newton_krylov import NewtonKrylov as NewtonKrylov
from .picard import Picard as Picard
from .pseudo_transient import PseudoTransient as PseudoTransient
