"""Whether an answer is right, and its gradient, in words, numbers and figures."""

from .convergence import plot_convergence as plot_convergence
from .diagnose import diagnose as diagnose
from .diagnosis import Diagnosis as Diagnosis
from .pattern import plot_structure as plot_structure
