"""The problem that is solved: what F computes, and all that it depends on."""

from .call import Call as Call
from .call import Hoisted as Hoisted
from .constraint import Condition as Condition
from .equations import Equations as Equations
from .equations import Kind as Kind
from .equations import Problem as Problem
from .equations import Theta as Theta
from .slopes import Slopes as Slopes
from .trace import hoist as hoist
