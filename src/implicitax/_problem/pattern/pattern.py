"""Which entries of a matrix may differ from 0."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Pattern(NamedTuple):
    """The positions of a superset of the nonzeros, each once."""

    rows: Int[np.ndarray, " m"]  # int32, by row and then by column
    cols: Int[np.ndarray, " m"]
    shape: tuple[int, int]

    @property
    def entries(self) -> int:
        return len(self.rows)

    def per(self, axis: int) -> Int[np.ndarray, " n"]:
        """How many entries each row (0) or column (1) has."""
        return np.bincount(self.rows if axis == 0 else self.cols, minlength=self.shape[axis])
