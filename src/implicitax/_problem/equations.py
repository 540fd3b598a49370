"""The residual as a pure function of the state and of every array that F depends on."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr

from .. import _tree
from .._tree import Layout, Leaves, from_real
from .constraint import Condition
from .pattern import Given, Pattern, detect, pattern_of
from .slopes import Slopes, has_derivative, slopes_of, unusual, with_slopes

Kind = Literal["fixed_point", "root"]
_PATTERNS = 8  # that are kept of a problem

Make: TypeAlias = Callable[[Pattern, Kind], Any]
Theta: TypeAlias = tuple[Any, ...]  # arrays, but outside of `jit` also NumPy's and Python's numbers, as they were given


@runtime_checkable
class Equations(Protocol):
    """What the loop needs to know of a problem."""

    @property
    def kind(self) -> Kind: ...

    @property
    def size(self) -> int: ...

    def residual(self, x: Leaves, theta: Any) -> Leaves: ...


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A fixed point `x = F(x, theta)` or a root `R(x, theta) = 0`, over real leaves."""

    kind: Kind
    caller: str  # the public function, for messages
    jaxpr: Any  # (x, theta) -> (F(x) or R(x), aux, condition); theta beyond `num_traced` enters as its constants
    num_traced: int
    complex_closed: tuple[bool, ...]
    state: Layout  # without the leaves that are not arrays, which may be others in each call
    x_struct: tuple[jax.ShapeDtypeStruct, ...]
    paths: tuple[str, ...]  # one a real leaf of the state
    has_aux: bool = False  # whether F returns a pair (value, aux)
    constrained: bool = False  # whether a condition has to hold, too: a constraint, or that R is 0
    excess: int | None = None  # numbers that R returns, if more than the unknowns (`overdetermined.py`)
    # What `_solve.py` has decided about this problem, and compiled for it.
    plans: dict[Any, Any] = field(default_factory=dict)
    compiled: dict[Any, Any] = field(default_factory=dict)
    derivatives: dict[Any, bool] = field(default_factory=dict)  # whether F has them, by what moves and by mode
    patterns: dict[Any, Any] = field(default_factory=dict)  # what was made of that of ∂R/∂x, by the values it is for

    def __repr__(self) -> str:
        # JAX prints what it holds, to name functions in its messages: `jacrev` does so in every call.
        return f"<{self.kind} of {self.size} unknowns>"

    @property
    def size(self) -> int:
        return _tree.size(self.x_struct)

    @property
    def operations(self) -> int:
        """How many operations F has, those of inner functions too."""
        return _operations(self.jaxpr)

    @property
    def entries(self) -> int:
        """How many numbers F reads and writes."""
        return _entries(self.jaxpr)

    def evaluate(self, x: Leaves, theta: Theta) -> tuple[Leaves, tuple[Any, ...]]:
        """One evaluation of F: the residual `F(x) − x`, or `R(x)`, and the auxiliary output."""
        return with_slopes(self._evaluate, self.slopes)(x, theta)

    def _evaluate(self, x: Leaves, theta: Theta) -> tuple[Leaves, tuple[Any, ...]]:
        out = self._outputs(x, theta)
        value, aux = out[: len(x)], out[len(x) : -2 if self.constrained else None]
        if self.kind == "fixed_point":
            return _tree.sub(value, x), aux
        return tuple(vi.astype(xi.dtype) for vi, xi in zip(value, x)), aux

    def residual(self, x: Leaves, theta: Theta) -> Leaves:
        return self.evaluate(x, theta)[0]

    @functools.cached_property
    def slopes(self) -> Slopes:
        """What stands for the derivative of R by x."""
        if self._unusual <= {"while"}:
            return Slopes.TANGENTS
        return slopes_of(self._evaluate, self.x_struct, self._theta_struct)

    @property
    def differentiable(self) -> bool:
        """Whether R has a derivative by x, and not only differences."""
        return self.slopes is not Slopes.DIFFERENCES

    @functools.cached_property
    def reversible(self) -> bool:
        """Whether R has a derivative by x in reverse mode, too."""
        return has_derivative(self.evaluate, (), True, self.x_struct, self._theta_struct)

    def by_pattern(self, theta: Theta, make: Make) -> Any:
        """What is made, once, of the pattern of ∂R/∂x; None if that was not found. It is that for these indices, and
        other values that are no floating-point numbers."""
        if self.slopes is not Slopes.TANGENTS:
            return None
        known = tuple(map(_known, theta, self._theta_struct))
        key = make, *((i, leaf.tobytes()) for i, leaf in enumerate(known) if isinstance(leaf, np.ndarray))
        find = lambda: detect(lambda x, theta: self._evaluate(x, theta)[0], self.x_struct, known)
        return self._made(key, find, make)

    def by_given(self, given: Given | tuple[int, int], make: Make) -> Any:
        """The same of the pattern that the user gives: of a fixed point that of ∂F/∂x, to which A adds the diagonal."""
        return self._made((make, given), lambda: pattern_of(given, self.size, self.kind == "fixed_point"), make)

    def _made(self, key: Any, find: Callable[[], Pattern | None], make: Make) -> Any:
        if key not in self.patterns:
            if len(self.patterns) >= _PATTERNS:
                self.patterns.clear()
            pattern = find()
            self.patterns[key] = None if pattern is None else make(pattern, self.kind)
        return self.patterns[key]

    def lacks(self, moving: tuple[int, ...], reverse: bool) -> set[str]:
        """The primitives because of which F has no derivative by those leaves of theta; none if it has."""
        if not self._unusual or (self._unusual == {"while"} and not reverse):
            return set()
        key = moving, reverse
        if key not in self.derivatives:
            self.derivatives[key] = self.differentiable and has_derivative(
                self.evaluate, moving, reverse, self.x_struct, self._theta_struct
            )
        return set() if self.derivatives[key] else self._unusual

    @functools.cached_property
    def _unusual(self) -> set[str]:
        return unusual(self.jaxpr)

    @property
    def _theta_struct(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        structs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in self.jaxpr.invars[len(self.x_struct) :]]
        for var, pair in zip(self.jaxpr.constvars, self.complex_closed):
            dtype = jnp.finfo(var.aval.dtype).dtype if pair else var.aval.dtype
            structs += [jax.ShapeDtypeStruct(var.aval.shape, dtype)] * (2 if pair else 1)
        return tuple(structs)

    def condition(self, x: Leaves, theta: Theta) -> Condition:
        """What the constraint says of x, if there is one."""
        return Condition(*self._outputs(x, theta)[-2:])

    def _outputs(self, x: Leaves, theta: Theta) -> tuple[Any, ...]:
        traced, closed = theta[: self.num_traced], from_real(theta[self.num_traced :], self.complex_closed)
        return tuple(eval_jaxpr(self.jaxpr, closed, *x, *traced))


def _known(leaf: Any, struct: jax.ShapeDtypeStruct) -> Any:
    """An array of integers or truth values, if it has its values; of any other leaf the shape and dtype."""
    known = jnp.issubdtype(struct.dtype, jnp.integer) or struct.dtype == bool  # and no key of `jax.random`
    if isinstance(leaf, Tracer) or not known or np.shape(leaf) != struct.shape:
        return struct
    return np.asarray(leaf, struct.dtype)


def _operations(jaxpr: Any) -> int:
    return sum(1 + sum(map(_operations, jex_core.jaxprs_in_params(eqn.params))) for eqn in jaxpr.eqns)


def _entries(jaxpr: Any) -> int:
    def of(eqn: Any) -> int:
        inner = sum(map(_entries, jex_core.jaxprs_in_params(eqn.params)))
        own = max(int(np.prod(var.aval.shape)) for var in (*eqn.invars, *eqn.outvars))
        return max(inner, own) * eqn.params.get("length", 1)

    return sum(map(of, jaxpr.eqns))
