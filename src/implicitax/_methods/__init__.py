"""One method a file: where to evaluate next."""

from .anderson import Anderson as Anderson
from .bracket import Bracket as Bracket
from .broyden import Broyden as Broyden
from .contract import AbstractMethod as AbstractMethod
from .contract import Evaluation as Evaluation
from .contract import Given as Given
from .contract import Needs as Needs
from .contract import Proposal as Proposal
from .contract import Tolerance as Tolerance
from .contract import around as around
from .contract import ratio as ratio
from .contract import row_weights as row_weights
from .contract import size_of_each as size_of_each
from .contract import typical_size as typical_size
from .contract import wants as wants
from .contract import wants_matrix as wants_matrix
from .ladder import Ladder as Ladder
from .newton import Newton as Newton
from .newton_krylov import NewtonKrylov as NewtonKrylov
from .picard import Picard as Picard
from .pseudo_transient import PseudoTransient as PseudoTransient
from .squarem import Squarem as Squarem
