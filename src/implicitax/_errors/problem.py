"""What can be wrong with F and x0."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import Layout, dtype_of, is_array, is_differentiable, is_unknown, path_names
from .raising import mistake


class Function(NamedTuple):
    """How messages speak of F: its letter, and what is solved."""

    caller: str
    letter: str
    formula: str

    @classmethod
    def of(cls, caller: str, kind: str) -> "Function":
        return cls(caller, *(("F", "x = F(x)") if kind == "fixed_point" else ("R", "R(x) = 0")))

    @property
    def argument(self) -> str:
        return f"{self.caller}({self.letter}=...)"


def describe(leaf: Any) -> str:
    """`float64[3,2]` for an array, the type's name for anything else."""
    if is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
        return f"{jnp.dtype(dtype_of(leaf)).name}[{','.join(map(str, leaf.shape))}]"
    return f"a Python {type(leaf).__name__}"


def check_guess(called: Function, F: Any, x0: Any) -> None:
    """Whether F can be called, and x0 is a pytree of floating-point numbers."""
    caller, function = called.caller, called.letter
    if not callable(F):
        raise TypeError(
            mistake(
                called.argument,
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
                f"{_structure(x0)} and no numbers in it",
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


def check_constraint(called: Function, constraint: Any) -> None:
    """Whether a constraint is a function, and one on a fixed point."""
    if constraint is None:
        return
    argument = f"{called.caller}(constraint=...)"
    if called.letter == "R":
        raise ValueError(
            mistake(
                argument,
                "none for a root",
                describe(constraint),
                "It says which of many fixed points is meant, where F keeps a total; those of a root are yours.",
                "Put what it says in the place of one of the equations of R.",
            )
        )
    if not callable(constraint):
        raise TypeError(
            mistake(
                argument,
                "a function c(x, *args)",
                describe(constraint),
                "It is called with what F is called with, and its values are 0 at the fixed point that is meant.",
                "Write for instance `constraint=lambda x, *args: x.sum() - 1`.",
            )
        )


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
    given = jax.tree.unflatten(jax.tree.structure(x0), _structs(state, x_struct))
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
            f"{_structure(returned)}",
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


def _check_structure(called: Function, out: Any, x0: Any) -> None:
    if jax.tree.structure(out) == jax.tree.structure(x0):
        return
    function = called.letter
    got, want = set(path_names(out, "x")), set(path_names(x0, "x"))
    only = [
        f"only in {name}: {', '.join(sorted(paths)[:5])}{', ...' if len(paths) > 5 else ''}"
        for name, paths in (("x0", want - got), (f"the output of {function}", got - want))
        if paths
    ]
    difference = "; ".join(only) or "the same paths, but other containers or static fields"
    raise ValueError(
        mistake(
            called.argument,
            f"the structure of x0, {_structure(x0)}",
            f"{_structure(out)} ({difference})",
            f"In {called.formula} the output has the structure of the state; a forgotten entry, a list for a tuple, or "
            "an auxiliary output without has_aux=True is the usual cause.",
            f"Return from {function} the same containers as x0.",
        )
    )


def _structure(tree: Any) -> str:
    """By the kinds of containers and the names of their leaves, as many as one can read."""
    if isinstance(tree, dict | list | tuple) and not hasattr(tree, "_fields"):
        children = tree.values() if isinstance(tree, dict) else tree
        if all(jax.tree_util.all_leaves([child]) for child in children if child is not None):
            shown = dict.fromkeys(tree, "*") if isinstance(tree, dict) else type(tree)("*" for _ in children)
            text = str(shown).replace("'*'", "*")
            return text if len(text) < 100 else f"a {type(tree).__name__} of {len(tree)}"
    paths = path_names(tree, "x")
    if paths == ["x"]:
        return "one number or array"
    shown = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
    return f"a {type(tree).__name__} with {shown or 'no leaves'}"


def _depends(jaxpr: Any, num_x: int) -> bool:
    """Whether an output can depend on one of the first `num_x` inputs, read off the jaxpr."""
    reached = set(jaxpr.invars[:num_x])
    for eqn in jaxpr.eqns:
        if any(not hasattr(var, "val") and var in reached for var in eqn.invars):
            reached.update(eqn.outvars)
    return any(not hasattr(var, "val") and var in reached for var in jaxpr.outvars[:num_x])
