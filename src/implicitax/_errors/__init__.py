"""What can be wrong: the arguments of a call, found before anything runs, and failures of a computation that runs."""

from .raising import ConvergenceError as ConvergenceError
from .raising import mistake as mistake
from .raising import needs_value as needs_value
from .raising import raise_where as raise_where
