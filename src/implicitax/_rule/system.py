"""A linear system with M or Mᵀ as one operation of JAX: linear in its right-hand side, and the transpose of the other.

Its solution is compiled by itself. So outside `jit` Python sees whether it failed, whatever is being transformed, and
a program that is there already serves the next derivative.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.interpreters import ad, batching, mlir

from .. import _xla
from .._errors import raise_where
from .._errors.problem import Function, check_derivative
from .._tree import is_differentiable
from .block import Block, Direction, Equations, Point, Rule, multiply, pick, solve_block

ALL = (True, True, True)


class Struct(NamedTuple):
    """Of an array."""

    shape: tuple[int, ...]
    dtype: Any

    @classmethod
    def of(cls, leaf: Any) -> "Struct":
        aval = jax.typeof(leaf)
        return cls(aval.shape, aval.dtype)


class Lanes(NamedTuple):
    """A `vmap` around the system."""

    size: int
    axes: tuple[int | None, ...]  # of the arrays of the point: 0, or None


class System(NamedTuple):
    """What of a linear system is not an array."""

    rule: Rule
    moving: tuple[int, ...]
    transposed: bool
    structs: Block  # of all its parts
    given: tuple[bool, bool, bool]  # the parts of the right-hand side that are not 0
    wanted: tuple[bool, bool, bool]  # the parts of the solution that are asked for
    point: Any  # how a `Point` is put together
    lanes: tuple[Lanes, ...] = ()  # the outermost first
    varied: tuple[int, ...] = ()  # the arrays of the point that move, where their derivative is taken
    again: bool = False  # whether what solves it is to be differentiated

    def __repr__(self) -> str:
        return f"{'Mᵀ' if self.transposed else 'M'} of {self.rule}"

    @property
    def arrays(self) -> int:
        """How many arrays the point has; those of the right-hand side come after."""
        return self.point.num_leaves

    def take(self, operands: Sequence[Any]) -> tuple[Point, Block]:
        point = jax.tree.unflatten(self.point, operands[: self.arrays])
        rest = iter(operands[self.arrays :])
        parts = zip(self.structs, self.given)
        return point, Block(*(tuple(next(rest) for _ in structs) if given else None for structs, given in parts))

    def equations(self, point: Point) -> Equations:
        return Equations(self.rule, self.moving, point.constants.ending, point.theta, self.again)

    def fill(self, b: Block) -> Block:
        """With zeros where it is 0."""
        zeros = (tuple(jnp.zeros(*struct) for struct in structs) for structs in self.structs)
        return Block(*(zero if part is None else part for part, zero in zip(b, zeros)))

    def asked(self, u: Block) -> tuple[Any, ...]:
        return tuple(leaf for part, wanted in zip(u, self.wanted) if wanted for leaf in part)

    def whole(self, leaves: Sequence[Any]) -> Block:
        """A vector of which all parts are there."""
        rest = iter(leaves)
        return Block(*(tuple(next(rest) for _ in structs) for structs in self.structs))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(system, *operands)` of every lane as one program, made once."""
        key = function, self
        programs = self.rule.programs
        if key not in programs:
            programs[key] = jax.jit(self._mapped(function))
        return programs[key]

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def mapped(*operands: Any) -> Any:
            inner = partial(function, self)
            vectors = len(operands) - self.arrays - len(self.varied)
            for lanes in reversed(self.lanes):
                axes = *lanes.axes, *(0,) * vectors, *pick(lanes.axes, self.varied)
                inner = jax.vmap(inner, in_axes=axes, axis_size=lanes.size)
            return inner(*operands)

        return mapped


def solve_system(rule: Rule, moving: tuple[int, ...], point: Point, theta_dot: Any, y: Any) -> Block:
    """ẋ and ẏ, (3)."""
    _check_derivative(rule, moving, reverse=False)
    structs = Block(*(tuple(map(Struct.of, part)) for part in (theta_dot, point.x, y)))
    arrays, treedef = jax.tree.flatten(point)
    system = System(rule, moving, False, structs, (True, False, False), (False, True, True), treedef)
    found = iter(_bind(system, arrays, theta_dot))
    return Block(None, tuple(next(found) for _ in point.x), tuple(next(found) for _ in y))


def _check_derivative(rule: Rule, moving: tuple[int, ...], reverse: bool) -> None:
    problem = rule.problem
    check_derivative(Function.of(problem.caller, problem.kind), problem.lacks(moving, reverse), reverse)


def _bind(system: System, point: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    if _xla.named_axes():  # what is the same on all devices of a `shard_map` differs as the point does
        b = _xla.linked(tuple(b), [leaf for leaf in point if is_differentiable(leaf)])
    return _system.bind(*point, *b, system=system)


_system = jex_core.Primitive("implicitax_system")
_system.multiple_results = True


@_system.def_impl
def _solve(*operands: Any, system: System) -> list[Any]:
    values, failed, numbers = system.compiled(_solved)(*operands)
    rule = system.rule
    if rule.throw:
        text = partial(rule.summary.describe_derivative, system.transposed)
        values = raise_where(failed, values, text, *numbers, name="derivative")
    return list(values)


def _solved(system: System, *operands: Any) -> Any:
    point, b = system.take(operands)
    judged = solve_block(system.equations(point), system.transposed, point, system.fill(b))
    return system.asked(judged.values), judged.failed, judged.numbers


@_system.def_abstract_eval
def _shapes(*avals: Any, system: System) -> list[Any]:
    sizes = tuple(lanes.size for lanes in system.lanes)
    shapes = [((*sizes, *struct.shape), struct.dtype) for struct in system.asked(system.structs)]
    if _xla.named_axes():
        return [avals[-1].update(shape=shape, dtype=dtype, weak_type=False) for shape, dtype in shapes]
    return [ShapedArray(*shape) for shape in shapes]


def _lanes(operands: Any, axes: Any, *, system: System) -> tuple[Any, Any]:
    """All that the right-hand side is made of has the lanes, so that the transpose knows what to sum over."""
    size = next(leaf.shape[axis] for leaf, axis in zip(operands, axes) if axis is not None)
    moved = [leaf if axis is None else jnp.moveaxis(leaf, axis, 0) for leaf, axis in zip(operands, axes)]
    count = system.arrays
    b = [
        jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))) if axis is None else leaf
        for leaf, axis in zip(moved[count:], axes[count:])
    ]
    level = Lanes(size, tuple(None if axis is None else 0 for axis in axes[:count]))
    found = _bind(system._replace(lanes=(level, *system.lanes)), moved[:count], b)
    return found, [0] * len(found)


def _derivative(primals: Any, tangents: Any, *, system: System) -> tuple[Any, Any]:
    """M u̇ = ḃ − Ṁ u, (5)."""
    count = system.arrays
    point, b = primals[:count], primals[count:]
    b_dot = [ad.instantiate_zeros(dot) for dot in tangents[count:]]
    position = jax.tree.unflatten(system.point, range(count))
    varied = tuple(i for i in (*position.x, *position.theta) if type(tangents[i]) is not ad.Zero)
    if not varied:
        return _bind(system, point, b), _bind(system, point, b_dot)
    u = _bind(system._replace(wanted=ALL, again=True), point, b)
    turn = system._replace(varied=varied)
    turned = turn.compiled(_turned)(*point, *u, *b_dot, *(tangents[i] for i in varied))
    return list(system.asked(system.whole(u))), _bind(system._replace(given=ALL), point, turned)


def _turned(system: System, *operands: Any) -> list[Any]:
    """ḃ − Ṁ u, all parts of it."""
    count = system.arrays
    rest = operands[count:]
    size = sum(map(len, system.structs))
    u, b_dot, dots = rest[:size], rest[size : len(rest) - len(system.varied)], rest[len(rest) - len(system.varied) :]
    point, b_dot = system.take((*operands[:count], *b_dot))
    dot: list[Any] = [None] * count
    for i, value in zip(system.varied, dots):
        dot[i] = value
    position = jax.tree.unflatten(system.point, range(count))
    direction = Direction(pick(tuple(dot), position.x), pick(tuple(dot), position.theta))
    turned = multiply(system.equations(point), point, direction, system.transposed, system.whole(u))
    return jax.tree.leaves(jax.tree.map(jnp.subtract, system.fill(b_dot), turned))


def _transpose(cotangents: Any, *operands: Any, system: System) -> list[Any]:
    _check_derivative(system.rule, system.moving, reverse=True)
    count = system.arrays
    other = system._replace(transposed=not system.transposed, given=system.wanted, wanted=system.given)
    found = _bind(other, operands[:count], [ad.instantiate_zeros(leaf) for leaf in cotangents])
    unknown = [isinstance(leaf, ad.UndefinedPrimal) for leaf in operands[count:]]
    return [None] * count + [leaf if ok else None for leaf, ok in zip(found, unknown)]


ad.primitive_jvps[_system] = _derivative
ad.primitive_transposes[_system] = _transpose
batching.primitive_batchers[_system] = _lanes
mlir.register_lowering(_system, mlir.lower_fun(_solve, multiple_results=True))
