"""Python and NumPy where JAX is needed: the user's own line, and what to write in its place."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .lines import line_of_error
from .problem import Function
from .raising import mistake, needs_value

_ASSIGNED = re.compile(r"^(\w+)\[(.+?)\]\s*([-+*/]?)=\s*([^=].*)$")
_NUMPY = re.compile(r"\b(?:np|numpy)\.((?:\w+\.)*\w+)")
_WHERE = "jnp.where"  # in the user's code: ours calls `_xla.where`
_METHOD = {"": "set({})", "+": "add({})", "-": "add(-({}))", "*": "multiply({})", "/": "divide({})"}
_OTHER_NAMES = {"fabs": "abs", "fsum": "sum", "erf": None, "gamma": None}  # of `math` in `jax.numpy`


class _Said(NamedTuple):
    what: str
    remedy: str


def wants_numbers(error: Exception) -> bool:
    """Whether Python needed the value of what is traced."""
    # NumPy says of a number that it puts into an array only that it is none; why is the cause.
    return isinstance(error, needs_value) or isinstance(error.__cause__, needs_value)


def of_python(called: Function, error: Exception) -> TypeError | None:
    """The error to raise in place of one by JAX; None for one that is the user's, or anybody else's."""
    line = line_of_error(error)
    said = _said(error, "" if line is None else line.source)
    if said is None:
        return None
    return TypeError(
        mistake(
            called.argument,
            f"a function {called.letter} that computes with `jax.numpy`",
            f"{said.what}{f' in {line}' if line else ''}",
            f"{called.letter} is traced: what is computed from its arguments has no values yet that Python or NumPy "
            "could see.",
            said.remedy,
        )
    )


def _said(error: Exception, source: str) -> _Said | None:
    text = str(error)
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return _of_condition(source)
    if isinstance(error, jax.errors.TracerIntegerConversionError) or "scalar arrays can be converted" in text:
        remedy = (
            "Index an array, `jnp.asarray(values)[i]`, or count by `jax.lax.fori_loop`. A list, a tuple or a text by "
            "which something is multiplied is no array: give `jnp.array(values)`."
        )
        return _Said("an index or a count of Python, or so many times a list or a text,", remedy)
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return _of_numpy(source)
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return _of_number(source)
    if wants_numbers(error):
        return _of_buffer()
    if isinstance(error, TypeError) and "immutable" in text and "JAX" in text:
        return _of_assignment(source)
    if isinstance(error, AttributeError) and "Tracer has no attribute" in text:
        name = text.rpartition(" ")[2]
        return _Said(f"`.{name}`, which arrays of JAX do not have", "Look for its counterpart in `jax.numpy`.")
    return None


def _of_condition(source: str) -> _Said:
    if source.startswith("while"):
        remedy = "Write `jax.lax.while_loop`, or, to have reverse mode, `jax.lax.scan` with a fixed number of steps."
        return _Said("a Python `while`", remedy)
    if source.startswith("assert"):
        return _Said("an `assert`", "Leave it out, or look at the values after the solve.")
    if found := re.search(r"\b(max|min|sorted)\(", source):
        name = found[1]
        other = "jnp.sort(x)" if name == "sorted" else f"jnp.{name}imum(a, b)`, or of one array `jnp.{name}(x)"
        return _Said(f"Python's `{name}`", f"Write `{other}`.")
    remedy = f"Write `{_WHERE}(condition, a, b)`, or `jax.lax.cond` where only one side may be computed."
    if re.search(r"[<>]=?[^<>=]+[<>]", source) or re.search(r"\b(and|or|not)\b", source):
        remedy += " Conditions are joined by `&`, `|` and `~`: `(0 < x) & (x < 1)`."
    return _Said("a Python `if`, or what else asks whether something is true,", remedy)


def _of_number(source: str) -> _Said:
    if found := re.search(r"\bmath\.(\w+)", source):
        name = _OTHER_NAMES.get(found[1], found[1])
        other = f"jnp.{name}" if name and hasattr(jnp, name) else f"jax.scipy.special.{found[1]}"
        return _Said(f"`math.{found[1]}`", f"Write `{other}`.")
    if found := re.search(r"\.(item|tolist)\(", source):
        return _Said(f"`.{found[1]}()`", "Leave it out: an array is as good as a number.")
    if found := re.search(r"\b(float|int|complex|round)\(", source):
        remedy = f"Leave it out; for another dtype write `.astype({found[1]})`."
        return _Said(f"`{found[1]}(...)`", remedy.replace("`.astype(round)`", "`jnp.round`"))
    return _Said("a conversion to a number of Python", "Leave it out, and compute with `jax.numpy`.")


def _of_numpy(source: str) -> _Said:
    if _ASSIGNED.match(source):
        return _of_buffer()
    if found := _NUMPY.search(source):
        known = hasattr(jnp, found[1].partition(".")[0])
        other = f"Write `jnp.{found[1]}`." if known else "Look for its counterpart in `jax.numpy` or `jax.scipy`."
        return _Said(f"`np.{found[1]}`", other)
    remedy = (
        "Use that of `jax.numpy` or `jax.scipy`; around one that has no counterpart, `jax.pure_callback`, and "
        "`jax.custom_jvp` for its derivative."
    )
    return _Said("a function of NumPy or SciPy", remedy)


def _of_buffer() -> _Said:
    remedy = (
        "Put the parts together, `jnp.stack([...])`, or begin with `jnp.zeros(n)` and write "
        "`buffer = buffer.at[i].set(value)`."
    )
    return _Said("an assignment into an array of NumPy", remedy)


def _of_assignment(source: str) -> _Said:
    found = _ASSIGNED.match(source)
    name, index, operator, value = found.groups() if found else ("x", "i", "", "value")
    method = _METHOD[operator].format(value.split("#")[0].strip())
    remedy = f"Write `{name} = {name}.at[{index}].{method}`."
    return _Said("an assignment into an array of JAX, which is never changed,", remedy)
