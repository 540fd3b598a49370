"""The pattern of ∂R/∂x: found from the jaxpr of its tangents, or given; and coloured."""

from .colour import Colouring as Colouring
from .colour import colour as colour
from .detect import detect as detect
from .given import Given as Given
from .given import Sparsity as Sparsity
from .given import pattern_of as pattern_of
from .given import read as read
from .pattern import Pattern as Pattern
