"""The choice of derivative, as the user states it."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import lineax as lx

from .._errors.values import check_arguments, check_choice, check_count, check_linear_solver, check_tags
from .._linear import TAGS, NeumannSeries, asked_for


class AbstractAdjoint(eqx.Module):
    """How a solution is differentiated. Under every adjoint x0 has the derivative 0."""

    kinds: ClassVar[tuple[str, ...]] = ("fixed_point", "root")  # of problems

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        if keywords:
            check_arguments(cls, keywords)
        return super().__new__(cls)


class Implicit(AbstractAdjoint):
    """The exact derivative by the implicit function theorem: `A ẋ = −B θ̇`, or `Aᵀ λ = x̄, θ̄ = −Bᵀ λ`. The default.

    **Arguments:**

    - `linear_solver`: a Lineax solver for A and Aᵀ, for general matrices if `tags` do not say more. By default by size:
      `SmallLU()` up to 4 unknowns, LAPACK's LU up to 100 of a fixed point and 1000 of a root, above that, matrix-free,
      BiCGStab, and where it has failed GMRES, or LU up to 1000. `Solution.linear_solver` says which.
    - `polish`: whether A and B are evaluated at `x − A⁻¹R(x)`, one Newton step from x, in place of x. The derivative of
      a loosely solved problem then has the square of the error of x. `Solution.x` is not changed.
    - `check`: whether a nearly singular A is found out, by a second right-hand side: where A is singular, the first may
      have an answer, and then any number of them.
    - `failed`: what stands for the derivative of a solve that has failed, under `throw=False`: `"nan"`; `"zero"`, which
      leaves it out, so that a batch can be trained on of which a lane or a row misses the tolerance; or `"one_step"`,
      that of `OneStep` at the last x, where F is finite there. `Solution.success` says which have failed.

    - `tags`: what Lineax's solvers for a certain form want to be told of A, here I − ∂F/∂x of a fixed point: one or
      several, `lineax.positive_semidefinite_tag` for `lineax.CG` and `lineax.Cholesky`, `lineax.tridiagonal_tag` for
      `lineax.Tridiagonal`. It is not believed: an answer that does not solve the equations is an error as any other.

    **Cost:** one linear solve for each tangent or cotangent; a Jacobian factorises A once. Nothing depends on the
    number of iterations, neither time nor memory. `polish` adds one evaluation of F, of A, and one linear solve.
    `check` adds two back-substitutions a factorisation, or one more solve by a matrix-free solver.

    **Fails:** where A is singular, or so nearly that rounding leaves less than a third of the digits: in units in which
    its entries are of the order of 1, in float64 (float32) always with a condition above 10¹⁴ (10⁸), never below 10⁸
    (10³); or where a matrix-free solver does not converge: an error with `throw=True`, NaN else.

    ```python
    >>> import jax, implicitax as ix, lineax as lx
    >>> solve = lambda a: ix.root(lambda x: x**2 - a, 1.0, adjoint=ix.Implicit(linear_solver=lx.QR())).x
    >>> print(round(float(jax.grad(solve)(4.0)), 3))
    0.25

    ```
    """

    linear_solver: lx.AbstractLinearSolver | None = None
    polish: bool = eqx.field(default=False, static=True)
    check: bool = eqx.field(default=True, static=True)
    failed: Literal["nan", "zero", "one_step"] = eqx.field(default="nan", static=True)
    tags: Any = eqx.field(default=(), static=True, repr=False)

    def __check_init__(self) -> None:
        given = self.linear_solver
        cause = "It says what stands for the derivative of a solve that has failed."
        check_choice("Implicit(failed=...)", self.failed, ("nan", "zero", "one_step"), cause)
        check_linear_solver("Implicit", given, given is None or isinstance(given, lx.AbstractLinearSolver))
        check_tags("Implicit", given, self.tag_set, TAGS, asked_for(given))

    @property
    def tag_set(self) -> frozenset[object]:
        return frozenset(self.tags if isinstance(self.tags, tuple | list | set | frozenset) else (self.tags,))


class Neumann(AbstractAdjoint):
    """The derivative by a truncated series: `(I − J)⁻¹ ≈ Σₖ Jᵏ`, k = 0 … terms, with `J = ∂F/∂x`. Fixed points only.

    Also called the phantom gradient. Needs products with J only, no linear solve. Its relative error is of the order
    `ρ(J)^(terms+1)`, and it grows with `terms` where an eigenvalue of J exceeds 1 in modulus.

    **Source:** Geng et al., On Training Implicit Models, NeurIPS 2021, arXiv:2111.05177.
    """

    terms: int = eqx.field(static=True)
    kinds = ("fixed_point",)

    def __check_init__(self) -> None:
        cause = "It counts the powers of ∂F/∂x beyond the identity."
        check_count("Neumann(terms=...)", self.terms, 0, cause, "Use 5, or `ix.Implicit()` for the exact derivative.")

    @property
    def linear_solver(self) -> NeumannSeries:
        return NeumannSeries(self.terms)


class OneStep(Neumann):
    """The derivative of one evaluation of F at the solution, `ẋ ≈ ∂F/∂θ θ̇`: `Neumann(0)`. Fixed points only.

    **Source:** Bolte, Pauwels and Vaiter, One-step differentiation of iterative algorithms, NeurIPS 2023,
    arXiv:2305.13768.
    """

    terms: int = eqx.field(static=True, default=0, init=False)


class Unrolled(AbstractAdjoint):
    """The derivative of the iteration itself, `steps` times: the reference to compare with.

    Runs exactly `steps` iterations of the solver in a checkpointed `scan`, with no stopping, and lets JAX differentiate
    them. Time grows with `steps`, and memory too: one state an iteration. With `solver=None` or `Auto` it is plain
    iteration for a fixed point, Newton's for a root; `Picard` and `Newton` can be given.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        cause = "It is the number of iterations, all of which are differentiated."
        check_count("Unrolled(steps=...)", self.steps, 1, cause, "Use as many as the solver needs to converge.")
