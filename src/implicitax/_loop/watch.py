"""Looking on while the loop runs: a history of bounded length, and a bar."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._solution import History
from .._tree import Layout, Leaves
from .verdict import Outcome

CAPACITY = 1000  # entries of a history; when it is full every second is dropped, and from then on not recorded
_NOTHING = -1  # no entry. Not NaN, of which `jax_debug_nans` would say that something is wrong


class Seen(NamedTuple):
    """What there is to see of one evaluation, one value a row in a batch."""

    residual: Float[Array, "*rows"]  # max |R|, infinite if it is not finite
    error: Float[Array, "*rows"]  # the same in units of the tolerance
    step: Float[Array, "*rows"]  # to the point evaluated next

    @classmethod
    def of(cls, x: Leaves, following: Leaves, residual: Leaves, error: Array) -> "Seen":
        bounded = lambda size: _xla.where(jnp.isfinite(size), size, jnp.inf)
        return cls(bounded(_tree.max_norm(residual)), error, bounded(_tree.max_norm(_tree.sub(following, x))))


class At(NamedTuple):
    """One evaluation, as a callback is told of it: NumPy arrays; of a batch `residual` and `error` have the rows."""

    x: Any  # a pytree like x0
    nfev: int  # which one, from 1
    residual: Any  # max |F(x) − x|, or max |R(x)|
    error: Any  # the same in units of the tolerance

    def __str__(self) -> str:
        sizes = (np.max(size, initial=0) for size in (self.residual, self.error))
        return "evaluation {}: max|residual| {:.3g}, {:.3g} tolerances".format(self.nfev, *sizes)


class Watch(NamedTuple):
    """What the user wants to see of a solve."""

    caller: str = ""
    max_steps: int = 0
    history: bool = False
    progress: bool = False
    callback: Callable[[At], Any] | None = None
    state: Layout | None = None  # how x is put together

    def __bool__(self) -> bool:
        return self.history or self.progress or self.callback is not None

    def start(self, dtype: Any, rows: int | None, earlier: Outcome | None) -> "Record | None":
        """An empty record, or that of what was done earlier; None if nobody looks."""
        if not self:
            return None
        nfev = jnp.zeros((), jnp.int32) if earlier is None else earlier.nfev
        if earlier is not None and earlier.history is not None:
            seen = Seen(earlier.history.residual, earlier.history.error, earlier.history.step)
            return Record(nfev, earlier.history.every, seen)
        length = min(self.max_steps + 1, CAPACITY) if self.history else 0
        empty = jnp.full((length,) if rows is None else (rows, length), _NOTHING, dtype)
        return Record(nfev, jnp.ones((), jnp.int32), Seen(empty, empty, empty))

    def look(self, record: "Record | None", seen: Seen, x: Leaves) -> "Record | None":
        """What is seen at x, recorded, shown and told."""
        if record is None:
            return None
        if self.callback is not None:
            jax.debug.callback(self._tell, x, record.nfev, seen.residual, seen.error)
        if self.progress:
            worst = [_xla.largest_of_lanes(jnp.max(value)) for value in (record.nfev, seen.residual, seen.error)]
            jax.debug.callback(self._show, *worst)
        if self.history:
            record = _write(record, seen)
        return record._replace(nfev=record.nfev + 1)

    def end(self, record: "Record | None") -> History | None:
        if record is None:
            return None
        if self.progress:
            jax.debug.callback(self._close, _xla.largest_of_lanes(record.nfev))
        return History(*record.entries, record.every) if self.history else None

    def _tell(self, x: Any, nfev: Any, residual: Any, error: Any) -> None:
        assert self.callback is not None
        assert self.state is not None
        x, residual, error = jax.tree.map(np.asarray, (x, residual, error))
        self.callback(At(self.state.put(x), int(nfev) + 1, residual, error))

    def _show(self, nfev: Any, residual: Any, error: Any) -> None:
        _BAR.show(self.caller, int(nfev), float(residual), float(error))

    def _close(self, nfev: Any) -> None:
        _BAR.close()


class Record(NamedTuple):
    """What the loop carries for a `Watch`."""

    nfev: Int[Array, ""]
    every: Int[Array, ""]  # of how many evaluations one has an entry
    entries: Seen  # with the entries of the history along the last axis


def _write(record: Record, seen: Seen) -> Record:
    full = record.nfev >= CAPACITY * record.every
    record = _xla.if_any(full, lambda: _thin(full, record), lambda: record)
    # An index beyond the end is dropped: so are the evaluations between two entries.
    kept = record.nfev % record.every == 0
    index = _xla.where(kept, record.nfev // record.every, CAPACITY)
    entries = jax.tree.map(lambda old, new: old.at[..., index].set(new, mode="drop"), record.entries, seen)
    return record._replace(entries=entries)


def _thin(full: Bool[Array, ""], record: Record) -> Record:
    """Half as many entries, each for twice as many evaluations, where it is full."""

    def halve(old: Array) -> Array:
        kept = old[..., ::2]
        rest = jnp.full((*old.shape[:-1], old.shape[-1] - kept.shape[-1]), _NOTHING, old.dtype)
        return _xla.where(full, jnp.concatenate([kept, rest], axis=-1), old)

    every = _xla.where(full, 2 * record.every, record.every)
    return record._replace(every=every, entries=jax.tree.map(halve, record.entries))


class _Bar:
    """One bar on the terminal, full when the residual meets the tolerance: the scale is logarithmic."""

    def __init__(self) -> None:
        self.live: Any = None
        self.first = self.done = 0.0

    def show(self, caller: str, nfev: int, residual: float, error: float) -> None:
        if self.live is None or nfev == 0:
            self.close()
            self.live, self.first, self.done = self.open(caller), math.inf, 0.0
        if not math.isfinite(self.first):
            self.first = error
        if math.isfinite(error) and self.first > 1:
            self.done = max(self.done, 1 - math.log(max(error, 1)) / math.log(self.first))
        self.live.update(self.live.task_ids[0], completed=self.done, nfev=nfev + 1, residual=f"{residual:.1e}")

    def open(self, caller: str) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        text = TextColumn("evaluation {task.fields[nfev]}, max|residual| {task.fields[residual]}")
        name = TextColumn("{task.description}")
        live = Progress(name, BarColumn(), text, TimeElapsedColumn(), console=Console(stderr=True))
        live.add_task(caller, total=1.0, nfev=0, residual="")
        live.start()
        return live

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


_BAR = _Bar()  # the terminal has room for one
