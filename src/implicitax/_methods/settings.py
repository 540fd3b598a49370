"""The settings of `Anderson`, in the order in which they are tried, and where each begins."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import _tree
from .._tree import Leaves
from .contract import around

_GUESS, _BEST, _AROUND = range(3)  # the last and all numbers above it: places around the guess
_PATIENT = 1_000_000  # steps of plain iteration: as many as it takes


class Setting(NamedTuple):
    """How much it remembers, its damping, how many steps of plain iteration come first, and where it begins."""

    memory: int  # 0: plain iteration, damped
    damping: float | Array
    plain: int
    start: int = _GUESS


class Settings(NamedTuple):
    each: tuple[Setting, ...]

    @classmethod
    def of(cls, first: Setting, retries: tuple[tuple[int, float], ...], restarts: int) -> "Settings":
        """The first, then those that are tried where it has failed: plain iteration is judged by what it does from x0,
        and so begins there."""
        tried = (
            Setting(memory, damping, 0, _BEST) if memory else Setting(0, damping, _PATIENT)
            for memory, damping in retries
        )
        return cls((first, *tried, *(first._replace(plain=0, start=_AROUND + i) for i in range(restarts))))

    @property
    def memory(self) -> int:
        """The longest of all."""
        return max(each.memory for each in self.each)

    def column(self, name: str, setting: Int[Array, ""], dtype: Any = jnp.int32) -> Array:
        """What the table has for one of them."""
        return jnp.stack([jnp.asarray(getattr(each, name), dtype) for each in self.each])[setting]

    def start(self, setting: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
        where = self.column("start", setting)
        scattered = any(each.start >= _AROUND for each in self.each)
        elsewhere = around(x0, best, where - _AROUND) if scattered else x0
        return _tree.where(where == _BEST, best, _tree.where(where == _GUESS, x0, elsewhere))
