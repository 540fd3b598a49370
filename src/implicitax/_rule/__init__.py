"""The derivative of a solution: the rule, the user's choice of it, and rows that failed."""

from .adjoints import AbstractAdjoint as AbstractAdjoint
from .adjoints import Implicit as Implicit
from .adjoints import Neumann as Neumann
from .adjoints import OneStep as OneStep
from .adjoints import Unrolled as Unrolled
from .attach import Asked as Asked
from .attach import Found as Found
from .attach import attach as attach
from .attach import correct as correct
from .attach import frozen as frozen
from .attach import unroll as unroll
from .implicit import Rule as Rule
from .rows import RowKrylov as RowKrylov
