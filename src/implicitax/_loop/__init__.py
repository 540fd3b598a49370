"""The iteration: what every method has in common."""

from .attempt import Attempt as Attempt
from .attempt import attempt as attempt
from .bounds import Bounds as Bounds
from .bounds import Limits as Limits
from .judge import compare as compare
from .judge import confirm as confirm
from .judge import constrain as constrain
from .judge import judge as judge
from .loop import Search as Search
from .loop import iterate as iterate
from .persist import InTurn as InTurn
from .persist import bracket as bracket
from .persist import persist as persist
from .row import Outcome as Outcome
from .watch import Watch as Watch
