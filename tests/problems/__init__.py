"""Problems with known solutions: those of the demonstration, systems of the literature, and maps drawn at random.

All arrays of a record are of NumPy, in float64, and its functions take those of JAX: so that nothing depends on the
precision that JAX had when a module was imported.
"""

from .reference import X0 as X0
from .reference import X_STAR as X_STAR
from .reference import AsPrinted as AsPrinted
from .reference import Parameters as Parameters
from .reference import Reference as Reference
from .reference import closed_form as closed_form
from .reference import closed_form_hessian as closed_form_hessian
from .reference import reference as reference
from .reference import sister as sister
from .reference import unrolled as unrolled
