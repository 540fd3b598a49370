"""What is decided before anything runs: the keywords of a solve, its defaults, and every choice of `Auto`."""

from .auto import LEAST as LEAST
from .auto import Auto as Auto
from .auto import structure_of as structure_of
from .keywords import DiagnosedKeywords as DiagnosedKeywords
from .keywords import JudgedKeywords as JudgedKeywords
from .keywords import Keywords as Keywords
from .keywords import SharedKeywords as SharedKeywords
from .keywords import Wanted as Wanted
from .keywords import complete as complete
from .keywords import declares as declares
from .keywords import names_of as names_of
from .limits import box as box
from .limits import tolerances as tolerances
from .plan import Options as Options
from .plan import decide as decide
from .plan import rule_of as rule_of
from .plan import summarise as summarise
from .typed import Number as Number
from .typed import solves as solves
from .typed import sweeps as sweeps
