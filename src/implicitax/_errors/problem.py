"""What can be wrong with what F returns, and with F as it was traced."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import Layout, is_differentiable, is_unknown, path_names
from .call import Function
from .raising import mistake
from .trees import describe, difference, in_words


def check_conditions(called: Function, returned: Any) -> None:
    """Whether a constraint returns numbers that can have a derivative."""
    leaves = jax.tree.leaves(returned)
    wrong = [leaf for leaf in leaves if not (is_unknown(leaf) and is_differentiable(leaf))]
    if wrong or not any(np.size(leaf) for leaf in leaves):
        raise TypeError(
            mistake(
                f"{called.caller}(constraint=...)",
                "a function that returns floating-point numbers, 0 at the fixed point that is meant",
                describe(wrong[0]) if wrong else "one that returns none",
                "A comparison such as `x.sum() == 1` is a usual cause.",
                "Return the difference, `x.sum() - 1`.",
            )
        )


def check_output(called: Function, returned: Any, x0: Any, state: Layout, x_struct: Any) -> None:
    """Whether F gives back what it was given: the same structure, shapes and dtypes."""
    _check_structure(called, returned, x0)
    given = jax.tree.unflatten(jax.tree.structure(x0), structs(state, x_struct))
    for path, leaf, want in zip(path_names(x0), jax.tree.leaves(returned), jax.tree.leaves(given, is_leaf=_is_struct)):
        if want is not None and _is_struct(want):
            _check_leaf(called, path, leaf, want)


def check_residuals(called: Function, returned: Any, x: Any) -> None:
    """Whether a root with more equations than unknowns is one that was meant."""
    leaves = jax.tree.leaves(returned)
    if wrong := [leaf for leaf in leaves if not is_differentiable(leaf)]:
        remedy, got = "Return the difference of two sides, 0 at the root, not a comparison.", describe(wrong[0])
        raise TypeError(mistake(called.argument, "floating-point numbers", got, "R is differentiated.", remedy))
    n = sum(leaf.size for leaf in x)
    if len(leaves) == 1 and n > 1 and leaves[0].shape == (n, n):
        raise ValueError(
            mistake(
                called.argument,
                f"one residual for each of the {n} unknowns, or a vector of more",
                describe(leaves[0]),
                f"A column and a row, ({n}, 1) and ({n},), broadcast to a matrix are the usual cause.",
                f"Give both sides of R the shape of x0; if {n * n} equations are meant, return them `.ravel()`ed.",
            )
        )


def _check_leaf(called: Function, path: str, got: Any, want: Any) -> None:
    where, function = called.argument, called.letter
    if not _is_struct(got):
        remedy = f"Return an array from {function} there."
        raise TypeError(mistake(where, f"{describe(want)} at {path}", describe(got), "It is no number.", remedy))
    if got.shape != want.shape:
        raise ValueError(
            mistake(
                where,
                f"{describe(want)} at {path}, the shape it has in x0",
                describe(got),
                f"In {called.formula} the output has one number for each unknown; a lost or broadcast axis is the "
                "usual cause.",
                f"Make {function} return the shape of x0, or give x0 the shape that {function} returns.",
            )
        )
    if _kind(got) == "b":
        remedy = f"Return from {function} the difference of two sides, not a comparison."
        raise TypeError(mistake(where, f"{describe(want)} at {path}", describe(got), "It is true or false.", remedy))
    if (got.dtype != want.dtype and called.letter == "F") or _kind(got) != _kind(want):
        raise TypeError(
            mistake(
                where,
                f"{describe(want)} at {path}, the dtype it has in x0",
                describe(got),
                "A float64 parameter with a float32 guess, or a guess of integers, is the usual cause.",
                f"Convert one of them: `x0.astype({jnp.dtype(got.dtype).name})`, or the parameters of {function}.",
            )
        )


def check_pair(called: Function, returned: Any) -> None:
    """Whether F returns (value, aux)."""
    if isinstance(returned, tuple) and len(returned) == 2:
        return
    raise TypeError(
        mistake(
            called.argument,
            "a pair (value, aux), because has_aux=True",
            in_words(returned),
            f"{called.letter} returns one thing only.",
            f"Return `value, aux` from {called.letter}, or leave has_aux=False.",
        )
    )


def check_dependence(called: Function, jaxpr: Any, num_x: int) -> None:
    """Whether F depends on x."""
    if _depends(jaxpr, num_x):
        return
    function = called.letter
    raise ValueError(
        mistake(
            called.argument,
            f"{function} to depend on x",
            f"a {function} whose output is the same for every x",
            f"Perhaps the state given is an output that the next iteration ignores, or {function} reads x from "
            "somewhere else than its first argument.",
            f"Pass as x0 the quantities that {function} feeds back into itself.",
        )
    )


def check_derivative(called: Function, lacks: set[str], reverse: bool) -> None:
    """Whether JAX can differentiate F; `lacks`: the primitives because of which it cannot."""
    if not lacks:
        return
    function, names = called.letter, ", ".join(f"`{name}`" for name in sorted(lacks))
    loop, rule = (
        "a loop that goes on as long as values say (`while_loop`)",
        "a rule for reverse mode only (`custom_vjp`)",
    )
    if lacks == {"while"}:
        cause = f"{function} has {loop}, which JAX cannot reverse."
        remedy = (
            "Use forward mode (`jax.jvp`, `jax.jacfwd`), or `jax.lax.scan` with a fixed number of steps; if the loop "
            "is itself an iteration to a fixed point, use `ix.fixed_point` in its place."
        )
    elif lacks == {"custom_vjp_call", "while"}:
        cause = f"One part of {function} has {rule}, another {loop}, which JAX differentiates in forward mode only."
        remedy = "Write the rule as a `jax.custom_jvp`, or the loop as a `jax.lax.scan`."
    elif lacks == {"custom_vjp_call"}:
        cause = f"A part of {function} has {rule}."
        remedy = "Use reverse mode (`jax.grad`, `jax.vjp`, `jax.jacrev`), or write the rule as a `jax.custom_jvp`."
    else:
        cause = f"A part of {function} is no code of JAX, or has no rule: {names}."
        remedy = "Give it one, by `jax.custom_jvp` around that part. Its value alone needs none."
    expected = f"a function that JAX can differentiate in {'reverse' if reverse else 'forward'} mode"
    raise TypeError(mistake(called.argument, expected, "one that has no such derivative", cause, remedy))


def _kind(struct: Any) -> str:
    return jnp.dtype(struct.dtype).kind


def _is_struct(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def structs(state: Layout, x_struct: Any) -> list[Any]:
    """One struct a leaf of x0 (complex again), the static leaf itself where it is not an array."""
    real, pairs, out = iter(x_struct), iter(state.complex_), []
    for leaf in state.static:
        if leaf is not Layout.ARRAY:
            out.append(leaf)
            continue
        struct = next(real)
        if next(pairs):
            next(real)
            struct = jax.ShapeDtypeStruct(struct.shape, jnp.result_type(struct.dtype, jnp.complex64))
        out.append(struct)
    return out


def _check_structure(called: Function, out: Any, x0: Any) -> None:
    if jax.tree.structure(out) == jax.tree.structure(x0):
        return
    function = called.letter
    raise ValueError(
        mistake(
            called.argument,
            f"the structure of x0, {in_words(x0)}",
            f"{in_words(out)} ({difference(x0, out, 'x0', f'the output of {function}')})",
            f"In {called.formula} the output has the structure of the state; a forgotten entry, a list for a tuple, or "
            "an auxiliary output without has_aux=True is the usual cause.",
            f"Return from {function} the same containers as x0." + _as_array(out, x0),
        )
    )


def _as_array(out: Any, x0: Any) -> str:
    """What to write where numbers were given in a list, as SciPy takes them."""
    numbers = isinstance(x0, list | tuple) and all(np.shape(leaf) == () for leaf in jax.tree.leaves(x0))
    return " Or give x0 as one array: `jnp.array(x0)`." if numbers and getattr(out, "shape", None) == (len(x0),) else ""


def _depends(jaxpr: Any, num_x: int) -> bool:
    """Whether an output can depend on one of the first `num_x` inputs, read off the jaxpr."""
    reached = set(jaxpr.invars[:num_x])
    for eqn in jaxpr.eqns:
        if any(not hasattr(var, "val") and var in reached for var in eqn.invars):
            reached.update(eqn.outvars)
    return any(not hasattr(var, "val") and var in reached for var in jaxpr.outvars[:num_x])
