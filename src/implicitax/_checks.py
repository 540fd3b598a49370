"""What can be wrong with the arguments of a solve, found before anything runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._errors import mistake
from ._layout import Layout, dtype_of, is_array, is_unknown, path_names

# Raised by JAX where Python needs the value of something traced.
needs_float = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def describe(leaf: Any) -> str:
    """`float64[3,2]` for an array, the type's name for anything else."""
    if is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
        return f"{jnp.dtype(dtype_of(leaf)).name}[{','.join(map(str, leaf.shape))}]"
    return f"a Python {type(leaf).__name__}"


def check_guess(caller: str, F: Any, x0: Any) -> None:
    """Whether F can be called, and x0 is a pytree of floating-point numbers."""
    function = "R" if "root" in caller.lower() else "F"
    if not callable(F):
        raise TypeError(
            mistake(
                f"{caller}({function}=...)",
                f"a function {function}(x, *args)",
                describe(F),
                "The function comes first, then the initial guess.",
                f"Call `{caller}({function}, x0, *args)`.",
            )
        )
    leaves = jax.tree.leaves(x0)
    if not any(np.size(leaf) for leaf in leaves if is_unknown(leaf)):
        raise ValueError(
            mistake(
                f"{caller}(x0=...)",
                "at least one number to solve for",
                f"{jax.tree.structure(x0)} with no numbers in it",
                "An empty state is often a filter that removed every array, or a size computed as 0.",
                "Pass the initial guess as an array or a pytree of arrays.",
            )
        )
    integers = [i for i, leaf in enumerate(leaves) if is_array(leaf) and not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if integers:
        raise TypeError(
            mistake(
                f"{caller}(x0=...)",
                "floating-point or complex numbers",
                f"{describe(leaves[integers[0]])} at {path_names(x0)[integers[0]]}",
                "The unknowns of an equation vary continuously; integers were probably meant as floats.",
                f"Convert with `.astype(float)`, or move what is not unknown from x0 to `*args` or {function}.",
            )
        )


def check_output(
    kind: str, caller: str, jaxpr: Any, returned: Any, x0: Any, state: Layout, x_struct: Any, has_aux: bool
) -> None:
    """Whether F gives back what it was given: the same structure, shapes and dtypes; and depends on it."""
    function, formula = ("F", "x = F(x)") if kind == "fixed_point" else ("R", "R(x) = 0")
    where = f"{caller}({function}=...)"
    if has_aux and not (isinstance(returned, tuple) and len(returned) == 2):
        raise TypeError(
            mistake(
                where,
                "a pair (value, aux), because has_aux=True",
                f"{_structure(returned)}",
                f"{function} returns one thing only.",
                f"Return `value, aux` from {function}, or leave has_aux=False.",
            )
        )
    out = returned[0] if has_aux else returned
    _check_structure(where, function, formula, out, x0)
    given = jax.tree.unflatten(jax.tree.structure(x0), _structs(state, x_struct))
    for path, leaf, want in zip(path_names(x0), jax.tree.leaves(out), jax.tree.leaves(given, is_leaf=_is_struct)):
        if want is None or not _is_struct(want):
            continue
        got = leaf
        if not _is_struct(got):
            remedy = f"Return an array from {function} there."
            raise TypeError(mistake(where, f"{describe(want)} at {path}", describe(got), "It is no number.", remedy))
        if got.shape != want.shape:
            raise ValueError(
                mistake(
                    where,
                    f"{describe(want)} at {path}, the shape it has in x0",
                    describe(got),
                    f"In {formula} the output has one number for each unknown; a lost or broadcast axis is the usual "
                    "cause.",
                    f"Make {function} return the shape of x0, or give x0 the shape that {function} returns.",
                )
            )
        if (got.dtype != want.dtype and kind == "fixed_point") or _kind(got) != _kind(want):
            raise TypeError(
                mistake(
                    where,
                    f"{describe(want)} at {path}, the dtype it has in x0",
                    describe(got),
                    "A float64 parameter with a float32 guess, or a guess of integers, is the usual cause.",
                    f"Convert one of them: `x0.astype({jnp.dtype(got.dtype).name})`, or the parameters of {function}.",
                )
            )
    if not _depends(jaxpr, len(x_struct)):
        raise ValueError(
            mistake(
                where,
                f"{function} to depend on x",
                f"a {function} whose output is the same for every x",
                f"Perhaps the state given is an output that the next iteration ignores, or {function} reads x from "
                "somewhere else than its first argument.",
                f"Pass as x0 the quantities that {function} feeds back into itself.",
            )
        )


def _kind(struct: Any) -> str:
    return jnp.dtype(struct.dtype).kind


def _is_struct(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _structs(state: Layout, x_struct: Any) -> list[Any]:
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


def _check_structure(where: str, function: str, formula: str, out: Any, x0: Any) -> None:
    if jax.tree.structure(out) == jax.tree.structure(x0):
        return
    got, want = set(path_names(out, "x")), set(path_names(x0, "x"))
    only = [
        f"only in {name}: {', '.join(sorted(paths)[:5])}{', ...' if len(paths) > 5 else ''}"
        for name, paths in (("x0", want - got), (f"the output of {function}", got - want))
        if paths
    ]
    difference = "; ".join(only) or "the same paths, but other containers or static fields"
    raise ValueError(
        mistake(
            where,
            f"the structure of x0, {jax.tree.structure(x0)}",
            f"{jax.tree.structure(out)} ({difference})",
            f"In {formula} the output has the structure of the state; a forgotten entry, a list for a tuple, or an "
            "auxiliary output without has_aux=True is the usual cause.",
            f"Return from {function} the same containers as x0.",
        )
    )


def _structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))


def _depends(jaxpr: Any, num_x: int) -> bool:
    """Whether an output can depend on one of the first `num_x` inputs, read off the jaxpr."""
    reached = set(jaxpr.invars[:num_x])
    for eqn in jaxpr.eqns:
        if any(not hasattr(var, "val") and var in reached for var in eqn.invars):
            reached.update(eqn.outvars)
    return any(not hasattr(var, "val") and var in reached for var in jaxpr.outvars[:num_x])
