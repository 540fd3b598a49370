"""A value that raises if it is differentiated.

Equinox's `nondifferentiable` does this by `jax.custom_jvp`, and that is what must be guarded here: JAX forgets the
rules of `custom_jvp` in places. A primitive is not forgotten.
"""

from typing import Any

import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

_guard = jex_core.Primitive("implicitax_guard")
_guard.def_impl(lambda value: value)
_guard.def_abstract_eval(lambda value: value)
mlir.register_lowering(_guard, lambda context, value: [value])
batching.primitive_batchers[_guard] = lambda values, axes: (_guard.bind(*values), axes[0])


def _refuse(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "implicitax: expected a solve to be differentiated by its own rule, got JAX's derivative of the loop inside. "
        "This is a second derivative, the first in reverse mode, around a `jax.lax.scan` or `while_loop` whose body "
        "has a solve: JAX forgets custom rules when it takes such a loop apart, and the result would be wrong. Take "
        "the first derivative in forward mode, `jax.grad(jax.jacfwd(f))`, or write the loop in Python."
    )


ad.primitive_jvps[_guard] = _refuse


def guarded(values: tuple[Array, ...], sources: tuple[Any, ...]) -> tuple[Array, ...]:
    """The values, which nobody can differentiate with respect to the sources."""
    nothing = jnp.zeros(())
    for source in sources:
        nothing = nothing + jnp.sum(jnp.real(jnp.ravel(source)[:0]))  # exactly 0, but it depends on the source
    nothing = _guard.bind(nothing)
    return tuple(value + nothing.astype(value.dtype) for value in values)
