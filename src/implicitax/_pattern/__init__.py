"""The pattern of ∂R/∂x: found from the jaxpr of its tangents, and coloured."""

from .detect import detect as detect
from .pattern import Pattern as Pattern
