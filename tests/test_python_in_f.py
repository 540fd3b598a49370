"""Python and NumPy in F, where it needs JAX: the error shows the user's own line, and says what to write instead."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import implicitax as ix


def if_(x, a):
    if x[0] > 1:
        return a * x
    return a + 0.5 * x


def chain(x, a):
    return 0.5 * x if 0 < x[0] < 1 else a * x


def while_(x, a):
    while x[0] > 1:
        x = x / 2
    return a * x


def assert_(x, a):
    assert x[0] > 0
    return a * x


def largest(x, a):
    return a * max(x[0], x[1]) * x


def number(x, a):
    return float(a) * x


def item(x, a):
    return a.item() * x


def root_of_math(x, a):
    return a * math.sqrt(x[0]) * x


def gamma_of_math(x, a):
    return a * math.gamma(x[0]) * x


def root_of_numpy(x, a):
    return a * np.sqrt(x)


def array_of_numpy(x, a):
    return a * np.array([x[0], x[1]])


def buffer(x, a):
    out = np.zeros(2)
    out[0] = x[0]
    return a * jnp.asarray(out)


def whole_buffer(x, a):
    out = np.zeros((2, 2))
    out[0] = x
    return a * jnp.asarray(out[0])


def in_place(x, a):
    x[0] = 2.0
    return a * x


def in_place_sum(x, a):
    x[1] += a
    return x


def index(x, a):
    return a * [0.2, 0.5][x[0].astype(int)] * x


def count(x, a):
    return a * jnp.stack([x[i] for i in range(x[0])])


def expit(x, a):
    return a * scipy.special.expit(x)


def fill(x, a):
    x.fill(0.0)
    return a * x


def product_with_text(x, a):
    return x * a * "2"


CASES = [
    (if_, "a Python `if`", "`if x[0] > 1:`", "Write `jnp.where(condition, a, b)`, or `jax.lax.cond`"),
    (chain, "a Python `if`", "0 < x[0] < 1", "`(0 < x) & (x < 1)`"),
    (while_, "a Python `while`", "`while x[0] > 1:`", "`jax.lax.while_loop`"),
    (assert_, "an `assert`", "`assert x[0] > 0`", "Leave it out"),
    (largest, "Python's `max`", "`return a * max(x[0], x[1]) * x`", "Write `jnp.maximum(a, b)`"),
    (number, "`float(...)`", "`return float(a) * x`", "Leave it out; for another dtype write `.astype(float)`."),
    (item, "`.item()`", "`return a.item() * x`", "Leave it out"),
    (root_of_math, "`math.sqrt`", "`return a * math.sqrt(x[0]) * x`", "Write `jnp.sqrt`."),
    (gamma_of_math, "`math.gamma`", "math.gamma(x[0])", "Write `jax.scipy.special.gamma`."),
    (root_of_numpy, "`np.sqrt`", "`return a * np.sqrt(x)`", "Write `jnp.sqrt`."),
    (array_of_numpy, "`np.array`", "np.array([x[0], x[1]])", "Write `jnp.array`."),
    (buffer, "an assignment into an array of NumPy", "`out[0] = x[0]`", "`buffer = buffer.at[i].set(value)`"),
    (whole_buffer, "an assignment into an array of NumPy", "`out[0] = x`", "`jnp.stack([...])`"),
    (in_place, "an assignment into an array of JAX", "`x[0] = 2.0`", "Write `x = x.at[0].set(2.0)`."),
    (in_place_sum, "an assignment into an array of JAX", "`x[1] += a`", "Write `x = x.at[1].add(a)`."),
    (index, "an index or a count of Python", "[x[0].astype(int)]", "`jnp.asarray(values)[i]`"),
    (
        product_with_text,
        "an index or a count of Python, or so many times a list or a text",
        '* a * "2"',
        "`jnp.array(v",
    ),
    (count, "an index or a count of Python", "range(x[0])", "`jax.lax.fori_loop`"),
    (expit, "a function of NumPy or SciPy", "scipy.special.expit(x)", "`jax.scipy`"),
    (fill, "`.fill`, which arrays of JAX do not have", "`x.fill(0.0)`", "counterpart in `jax.numpy`"),
]


def line_in(function, source):
    """The number of the line of a function that has this text."""
    first = function.__code__.co_firstlineno
    lines = Path(__file__).read_text().splitlines()
    text = source.strip("`")
    return next(number for number in range(first, first + 12) if text in lines[number - 1])


@pytest.mark.parametrize(("F", "what", "source", "instead"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_line_and_what_to_write(F, what, source, instead):
    x0, a = jnp.array([0.5, 0.6]), jnp.asarray(0.3)
    where = f"in test_python_in_f.py, line {line_in(F, source)}: `"
    for solve, called in ((ix.fixed_point, "fixed_point(F=...)"), (ix.root, "root(R=...)")):
        with pytest.raises(TypeError) as caught:
            solve(F, x0, a)
        text = str(caught.value)
        assert text.startswith(
            f"`{called}`: expected a function {called[-6]} that computes with `jax.numpy`, got {what}"
        )
        for part in (where, source.strip("`"), instead):
            assert part in text, text
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "Traced" not in text
        assert "Tracer" not in text
    report = ix.diagnose(F, x0, a)
    said = " ".join(str(report).split())
    assert not report.healthy
    assert instead in said
    assert where in said
    assert "Tracer" not in said


def test_inside_jit_and_a_helper_the_line_is_the_helper_s():
    def helper(y):
        return np.tanh(y)

    F = lambda x, a: a * jax.lax.scan(lambda c, _: (helper(c), None), x, length=2)[0]
    with pytest.raises(TypeError, match=r"line [0-9]+: `return np\.tanh\(y\)`\. .* Write `jnp\.tanh`\."):
        jax.jit(lambda a: ix.fixed_point(F, jnp.ones(2), a).x)(0.3)


def test_a_layer_s_own_number_may_still_decide():
    F = lambda x, a: a * jnp.cos(x) if a > 0.2 else x
    assert bool(ix.fixed_point(F, 1.0, 0.3).success)


def test_a_number_that_goes_into_a_buffer_of_numpy():
    """NumPy says of a traced number only that it is none: it is left a number then."""

    def F(x, a):
        weights = np.zeros(2)
        weights[0] = a
        return jnp.asarray(weights) + 0.5 * jnp.cos(x)

    x = ix.fixed_point(F, jnp.ones(2), 0.3).x
    np.testing.assert_allclose(x, jnp.array([0.3, 0.0]) + 0.5 * jnp.cos(x), rtol=1e-9)


def test_what_the_user_raises_is_left_alone():
    def F(x):
        try:
            return {}["T"]
        except KeyError as error:
            raise ValueError("no temperature") from error

    with pytest.raises(ValueError, match="no temperature") as caught:
        ix.fixed_point(F, 1.0)
    assert isinstance(caught.value.__cause__, KeyError)
