"""The pattern of ∂R/∂x: found from the jaxpr of its tangents, and coloured."""

from .colour import Colouring as Colouring
from .colour import colour as colour
from .detect import detect as detect
from .pattern import Pattern as Pattern
