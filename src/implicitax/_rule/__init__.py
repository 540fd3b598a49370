"""The derivative of a solution: the rule, the user's choice of it, and rows that failed."""

from .adjoints import AbstractAdjoint as AbstractAdjoint
from .adjoints import Implicit as Implicit
from .adjoints import Neumann as Neumann
from .adjoints import OneStep as OneStep
from .adjoints import Unrolled as Unrolled
from .attach import Asked as Asked
from .attach import correct as correct
from .attach import frozen as frozen
from .attach import settle as settle
from .attach import unroll as unroll
from .block import Rule as Rule
from .implicit import Found as Found
from .implicit import differentiable as differentiable
from .rows import RowKrylov as RowKrylov
