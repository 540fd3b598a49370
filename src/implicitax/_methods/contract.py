"""What a method is: where to evaluate next. Stopping, limits, the best point and the verdict are the loop's."""

import abc
import enum
import functools
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _tree, _xla
from .._errors.values import check_arguments
from .._linear import LinearSolver, Structured, Wanted, is_matrix, wanted
from .._solution import Status
from .._tree import Layout, Leaves


class Tolerance(NamedTuple):
    """`atol + rtol·|x|`, one pair of numbers or arrays a leaf.

    Where atol is not given it is `rtol·max|x|`, of the leaf at x, and rounding of the size that x had at first, below
    which no difference of numbers of that size can be told.
    """

    rtol: tuple[Any, ...]
    atol: tuple[Any, ...] | None = None
    residual: tuple[Any, ...] | None = None  # an absolute one of R by itself, if that is enough
    size: tuple[Any, ...] | None = None  # of the guess, by leaf; or of the first good step, where that is 0

    def at(self, x: Leaves) -> Leaves:
        return tuple(
            jnp.broadcast_to(least + r * jnp.abs(xi), xi.shape).astype(xi.dtype)
            for least, r, xi in zip(self._least(x), self.rtol, x)
        )

    def _least(self, x: Leaves) -> tuple[Any, ...]:
        if self.atol is not None:
            return self.atol
        sizes = (0,) * len(x) if self.size is None else self.size
        return tuple(r * _size(xi) + rounding(xi, size) for r, xi, size in zip(self.rtol, x, sizes))

    def error(self, residual: Leaves, x: Leaves) -> Float[Array, ""]:
        """Of a fixed point: at most 1 where F(x) − x meets the tolerance. NaN or infinite where it is."""
        error = ratio(residual, self.at(x))
        return error if self.residual is None else jnp.minimum(error, self.of_residual(residual))

    def of_residual(self, residual: Leaves) -> Float[Array, ""]:
        """R by itself: at most 1 where it is small enough; infinite where nothing is by itself."""
        if self.residual is None:
            return jnp.asarray(jnp.inf, _tree.work_dtype(residual))
        allowed = (jnp.broadcast_to(t, r.shape).astype(r.dtype) for t, r in zip(self.residual, residual))
        return ratio(residual, tuple(allowed))

    def sized(self, x0: Leaves, batch_axis: int | None = None) -> "Tolerance":
        """With the size of the guess; in a batch of each row."""
        if self.atol is not None:
            return self
        if batch_axis is None:
            return self._replace(size=tuple(map(_size, x0)))
        others = [tuple(axis for axis in range(leaf.ndim) if axis != batch_axis) for leaf in x0]
        return self._replace(
            size=tuple(jnp.max(jnp.abs(leaf), axis, keepdims=True, initial=0) for leaf, axis in zip(x0, others))
        )

    def settled(self, way: Leaves) -> "Tolerance":
        """At a point so far from the guess: with that size, where that of the guess is 0."""
        if self.size is None:
            return self
        return self._replace(size=tuple(_xla.where(s == 0, _size(leaf), s) for s, leaf in zip(self.size, way)))

    def growth(self, x: Leaves) -> Float[Array, ""]:
        """How much larger x is than it was at first, at least 1: a residual that is small beside an x that grows and
        grows is no smaller for that."""
        dtype, sizes = _tree.work_dtype(x), self.size or ()
        grown = [_xla.where(size > 0, _size(leaf) / size, 1).astype(dtype) for leaf, size in zip(x, sizes)]
        return functools.reduce(jnp.maximum, grown, jnp.ones((), dtype))

    def each_row(self, like: Leaves, batch_axis: int) -> "Tolerance":
        spread = lambda values: _tree.each_row(values, like, batch_axis)
        rtol, atol, residual, size = self
        return Tolerance(spread(rtol), atol and spread(atol), residual and spread(residual), size and spread(size))


def _size(x: Array) -> Float[Array, ""]:
    return _xla.largest(x) if x.size else jnp.zeros((), x.dtype)


def rounding(x: Array, size: Any) -> Any:
    """Of a number of this size."""
    return 4 * float(jnp.finfo(x.dtype).eps) * size


def ratio(values: Leaves, tolerance: Leaves) -> Float[Array, ""]:
    """max |vᵢ| / tolᵢ: at most 1 where the tolerance is met. NaN or infinite where a value is."""

    def each(v: Array, t: Array) -> Array:
        # A tolerance of 0 is met by 0 only; but of two other values, at least 2, the smaller one is still the better.
        small = float(jnp.finfo(v.dtype).tiny) ** 0.5
        none = t == 0
        size = jnp.abs(v) + _xla.where(none & (v != 0), 2 * small, 0)
        return (size / _xla.where(none, small, t)).astype(v.dtype)

    return _tree.largest(tuple(map(each, values, tolerance)))


class Evaluation(NamedTuple):
    """One evaluation of the problem."""

    x: Leaves
    residual: Leaves
    A: Any  # ∂R/∂x in the form that the method needs; None for a method without
    finite: Bool[Array, ""]
    best: Leaves  # the point with the smallest error so far


class Proposal(NamedTuple):
    """Where to evaluate next."""

    x: Leaves
    state: Any
    status: Any = Status.RUNNING  # or how the method ended, if it has nothing left to try
    correction: Leaves | None = None  # −A⁻¹ R at the point evaluated, or about that; infinite where it is not known
    newton: Any = False  # whether the next point is Newton's, the correction away
    weights: Leaves = ()  # of the components of R in the norm by which one point is better than another


class Needs(enum.Enum):
    """In which form a method wants A = ∂R/∂x at each point."""

    NONE = "none"
    MATRIX = "matrix"
    PRODUCT = "product"  # v ↦ A v
    EITHER = "either"  # as the `linear_solver` of the method wants it


class Given(NamedTuple):
    """What is known of a problem when a method is fitted to it."""

    size: int  # unknowns; in a batch of a row
    dtype: Any
    state: Layout  # how the user's pytree is made of real leaves
    linear_solver: LinearSolver  # for steps with A, where the user has not said which


class AbstractMethod(eqx.Module):
    """A method to solve `x = F(x)` or `R(x) = 0`: `init` and `step`, in a file of its own. All else has a default."""

    needs: ClassVar[Needs] = Needs.NONE  # of A, at every point
    kinds: ClassVar[tuple[str, ...]] = ("fixed_point",)  # of problems that it solves
    corrects: ClassVar[bool] = False  # whether it always knows Newton's correction, by which a root is judged
    recovers: ClassVar[bool] = False  # whether it steps back from a point where the residual is not finite
    default_max_steps: ClassVar[int] = 1000

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        if keywords:
            check_arguments(cls, keywords)
        return super().__new__(cls)

    @abc.abstractmethod
    def init(self, x: Leaves, setting: Int[Array, ""]) -> Any:
        """The state before the first evaluation, which is at x, with one of the settings."""

    @abc.abstractmethod
    def step(self, at: Evaluation, state: Any, tolerance: Tolerance) -> Proposal:
        """The next point, given the evaluation at the one proposed last (the guess at first)."""

    @property
    def patience(self) -> int:
        """Evaluations without a better point after which a setting has failed."""
        return 500

    @property
    def settings(self) -> int:
        """How many settings the loop may try, one after the other, each from the best point so far."""
        return 1

    @property
    def plain_steps(self) -> int | None:
        """How many steps of plain iteration a first attempt may take before it judges how it goes; None if there is to
        be no such attempt (`_loop/attempt.py`)."""
        return None

    def resolve(self, given: Given) -> "AbstractMethod":
        """The same method with everything that is left open decided for this problem."""
        return self

    def full_step(self, at: Evaluation, tolerance: Tolerance) -> Leaves | None:
        """The next point by the plain formula of the method, a smooth function of θ; None if it is not one."""
        return None

    def reach(self, at: Evaluation, proposal: Proposal, rate: Float[Array, ""]) -> Leaves:
        """Of a fixed point that meets the tolerance: how far the one sought may be, by all that the method knows of how
        the residual changes. `rate`: by what its size has, since the best point before."""
        return _tree.sub(proposal.x, at.x)

    def start(self, setting: Int[Array, ""], best: Leaves, x0: Leaves) -> Leaves:
        """Where a setting after the first begins."""
        return best

    def renew(self, state: Any, setting: Int[Array, ""]) -> Any:
        """The state before the first evaluation with a setting after the first. What that one replaces may stay."""
        return state

    def revisit(self, x: Leaves, state: Any) -> Any:
        """In a batch: the state of a row that had ended at x and goes on there, with a residual that has changed."""
        return self.init(x, jnp.zeros((), jnp.int32))


def reaching(at: Evaluation, proposal: Proposal, farther: Leaves) -> Leaves:
    """The step, and `farther` where that is so many times the residual as no contraction makes it, however loosely x is
    to be found."""
    step = tuple(map(jnp.abs, _tree.sub(proposal.x, at.x)))
    times = float(jnp.finfo(_tree.work_dtype(at.x)).eps) ** (-1 / 3)
    endless = [_tree.max_norm((f,)) > times * _tree.max_norm((r,)) for f, r in zip(farther, at.residual)]
    return tuple(_xla.where(e, jnp.maximum(s, jnp.abs(f)), s) for e, s, f in zip(endless, step, farther))


def wants(method: AbstractMethod) -> Wanted:
    """In which form A is wanted, if the method needs it at all."""
    if method.needs is Needs.EITHER:
        return wanted(getattr(method, "linear_solver", None))
    return method.needs is Needs.MATRIX


def wants_matrix(method: AbstractMethod) -> bool:
    return wants(method) is True


_PROBES = 3  # products with A from which the sizes of its rows are estimated


def row_weights(x: Leaves, A: Any, tolerance: Tolerance, correction: Leaves | None = None) -> Leaves:
    """1 / Σⱼ |Aᵢⱼ| tolⱼ: the change of Rᵢ that the tolerance of x allows, so a norm in which 1 is "good enough".

    Without a matrix, the root mean square of A v over random vⱼ of the size of tolⱼ stands for the sum: not of one
    size, with which v₁ − 2v₂ + v₃ is 0 one time in four, and then the weight of that row beyond all the others. An
    unknown that has no size yet has that of Newton's correction.
    """
    allowed = tolerance.at(x)
    if correction is not None:
        allowed = tuple(_xla.where(a > 0, a, b) for a, b in zip(allowed, tolerance.at(correction)))
    if is_matrix(A):
        change = _tree.unravel(_tree.matvec(jnp.abs(A), _tree.ravel(allowed)), x)
    elif isinstance(A, Structured):
        change = A.change(allowed)
    else:
        rng = np.random.default_rng(0)
        drawn = [tuple(jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype) for leaf in x) for _ in range(_PROBES)]
        products = [A(_tree.mul(allowed, v)) for v in drawn]
        change = tuple(jnp.sqrt(sum(leaf**2 for leaf in leaves) / _PROBES) for leaves in zip(*products))
    return tuple(_xla.where((c > 0) & jnp.isfinite(c), 1 / c, 1).astype(c.dtype) for c in change)


def around(x0: Leaves, best: Leaves, number: Int[Array, ""]) -> Leaves:
    """A point scattered around x0 by about the size of each unknown there or at the best point; others by number."""

    def scatter(x: Array, y: Array, leaf: int) -> Array:
        size = size_of_each(jnp.maximum(jnp.abs(x), jnp.abs(y)))
        # Digits of a sine serve as random numbers in [−√3, √3), which have variance 1; a table would be a constant as
        # large as x, and a true generator takes longer to compile.
        angle = 12.9898 * jnp.arange(1, x.size + 1, dtype=x.dtype) + 78.233 * (number + leaf + 1).astype(x.dtype)
        digits = 437.585453 * jnp.sin(angle).reshape(x.shape)
        return x + size * 3**0.5 * (2 * (digits - jnp.floor(digits)) - 1)

    return tuple(scatter(x, y, leaf) for leaf, (x, y) in enumerate(zip(x0, best)))


def size_of_each(x: Array) -> Array:
    """|x|, where that is 0 the mean of the others, and 1 if all are 0."""
    size = jnp.abs(x)
    mean = _xla.fold(jnp.add, size, jnp.sum) / max(x.size, 1)
    return _xla.where(size > 0, size, _xla.where(mean > 0, mean, 1))


def typical_size(x: Leaves, tolerance: Tolerance, residual: Leaves | None = None) -> Leaves:
    """The size of each unknown that makes it comparable with the others: its tolerance at x and, if given, at F(x)."""
    size = tolerance.at(x)
    if residual is not None:
        size = tuple(jnp.maximum(a, b) for a, b in zip(size, tolerance.at(_tree.axpy(1, residual, x))))
    return tuple(_xla.where((s > 0) & jnp.isfinite(s), s, 1) for s in size)
