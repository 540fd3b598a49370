"""What a solve returns, and every text about how it ended."""

from .advice import Run as Run
from .solution import History as History
from .solution import Solution as Solution
from .status import Status as Status
from .summary import Ending as Ending
from .summary import Signs as Signs
from .summary import Summary as Summary
