"""Models with one mistake each, as modellers make them, and the words by which `diagnose` has to say so."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix


class Fault(NamedTuple):
    name: str
    make: Callable[[], Any]  # () -> (F, x0, args, keywords)
    words: tuple[str, ...]  # all of which the report has, however its lines are wrapped
    unsaid: tuple[str, ...] = ()  # and none of these
    gradient: bool = True  # whether the derivative of the solution has to do with it
    solvers: tuple[str, ...] = ("Auto",)  # that have to be tried


FAULTS: list[Fault] = []


def fault(*words: str, **details: Any) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        FAULTS.append(Fault(make.__name__, make, words, **details))
        return make

    return register


# F's derivative is not that of its values ---------------------------------------------------------------------------


@fault(
    "F changes with x0 in steps", "round", unsaid=("does not depend on its state", "derivative-wrong"), gradient=False
)
def rounded_state() -> Any:
    return lambda x, a: 0.3 + jnp.round(a * x), 1.0, (0.4,), {}


@fault("F changes with args[0] in steps", "no derivative", unsaid=("Without influence",))
def floored_parameter() -> Any:
    return lambda x, n, b: b * jnp.cos(x) + 0.1 * jnp.floor(n), 1.0, (3.4, 0.5), {}


@fault("F changes with args[0] in steps", unsaid=("Without influence",))
def parameter_to_integer() -> Any:
    return lambda x, n, b: b * jnp.cos(x) + 0.1 * n.astype(int), 1.0, (jnp.asarray(3.4), 0.5), {}


@fault(
    "derivative-cut",
    "F changes with x0, its derivative is 0",
    "stop_gradient",
    unsaid=("does not depend on its state", "args[0] is wrong"),
)
def state_behind_stop_gradient() -> Any:
    return lambda x, a: a * jnp.cos(jax.lax.stop_gradient(x)), 1.0, (0.4,), {}


@fault("derivative-cut", "F changes with x0['q'], its derivative is 0", "stop_gradient", unsaid=("args[0] is wrong",))
def one_leaf_behind_stop_gradient() -> Any:
    def F(x, a):
        return {"p": 0.5 * jnp.tanh(jax.lax.stop_gradient(x["q"])) + a, "q": 0.5 * jnp.cos(x["p"])}

    return F, {"p": 0.1, "q": 0.2}, (0.4,), {}


@fault("derivative-cut", "args[1]", "stop_gradient")
def parameter_behind_stop_gradient() -> Any:
    return lambda x, a, b: a * jnp.cos(x) + jax.lax.stop_gradient(b) * x, 0.5, (0.6, 0.3), {}


@fault("derivative-cut", "args[1]", "`custom_jvp` or `custom_vjp` that drops")
def rule_that_drops_an_argument() -> Any:
    @jax.custom_jvp
    def rate(T, para, wind):
        return para * jnp.exp(-T) * wind

    @rate.defjvp
    def _(primals, tangents):
        T, para, wind = primals
        return rate(*primals), wind * jnp.exp(-T) * (tangents[1] - para * tangents[0])

    return lambda T, para, wind: 300 + rate(T - 300, para, wind), 300.5, (0.4, 1.5), {}


@fault("derivative-wrong", "derivative of F with respect to x0")
def rule_with_a_wrong_sign() -> Any:
    @jax.custom_jvp
    def rate(x):
        return jnp.exp(-x)

    @rate.defjvp
    def _(primals, tangents):
        return rate(*primals), jnp.exp(-primals[0]) * tangents[0]

    return lambda x, a: a * rate(x), 0.5, (0.7,), {}


@fault("derivative-wrong", "args[0]")
def reverse_rule_with_a_factor() -> Any:
    @jax.custom_vjp
    def rate(x, a):
        return jnp.tanh(x * a)

    def back(saved, u):
        x, a = saved
        slope = 1 - jnp.tanh(x * a) ** 2
        return u * slope * a, 2 * u * slope * x

    rate.defvjp(lambda x, a: (rate(x, a), (x, a)), back)
    return lambda x, a: 0.5 * rate(x, a) + 0.3, 0.5, (0.7,), {}


@fault("args[0] is a Python number", "no derivative", unsaid=("and its gradient agrees",))
def parameter_as_a_python_number() -> Any:
    return lambda x, a, b: b * jnp.cos(x) * float(a), 1.0, (0.7, 0.4), {}


@fault("F depends on p", "float(p)", "no derivative", unsaid=("and its gradient agrees",))
def array_closed_over_as_a_python_number() -> Any:
    p = jnp.asarray(0.7)
    return lambda x, a: 0.5 * jnp.cos(x) * float(p) + a, 1.0, (0.3,), {}


@fault("F depends on table", "np.asarray(table)", "no derivative")
def array_closed_over_through_numpy() -> Any:
    table = jnp.array([0.2, 0.7])
    return lambda x, a: 0.5 * jnp.cos(x) * np.asarray(table)[1] + a, jnp.ones(2), (0.3,), {}


# NaN and infinity ---------------------------------------------------------------------------------------------------


@fault("args[0]", "gradient-undefined", "sqrt", "faults.py", "infinite derivative", unsaid=("is singular",))
def where_trap_at_a_parameter() -> Any:
    return lambda x, a: 0.5 * jnp.cos(x) + jnp.where(a > 0, jnp.sqrt(a), 0.0), 1.0, (0.0,), {}


@fault("gradient-undefined", "sqrt", "faults.py", "a branch that is not taken", unsaid=("is singular",))
def where_trap_out_of_the_domain() -> Any:
    return lambda x, a, b: b * jnp.cos(x) + jnp.where(a > 0, jnp.sqrt(a), 0.1 * a), 1.0, (-0.5, 0.5), {}


@fault("a branch that is not taken", "x0", "sqrt", "faults.py", unsaid=("is singular",))
def where_trap_at_the_state() -> Any:
    return lambda x, a: jnp.where(x > 2, jnp.sqrt(x - 2), 0.5 * x) + a, 1.0, (0.3,), {}


@fault("gradient-undefined", "infinite derivative", "sqrt", "faults.py", unsaid=("is singular",))
def norm_of_zero() -> Any:
    F = lambda x, w: 0.3 * jnp.tanh(x) + 0.1 * jnp.sqrt(jnp.sum(w**2))
    return F, jnp.ones(2), (jnp.zeros(2),), {}


@fault("NaN", "nan_to_num", "log", "faults.py", "hidden", gradient=False)
def nan_to_num_of_the_state() -> Any:
    return lambda x, a: jnp.nan_to_num(jnp.log(x)) + a, -1.0, (-0.5,), {}


@fault("NaN", "nan_to_num", "sqrt", "faults.py", "hidden")
def nan_to_num_of_a_parameter() -> Any:
    return (
        lambda x, a, b: 0.3 * jnp.cos(x) + b * jnp.nan_to_num(jnp.sqrt(a)),
        jnp.ones(3),
        (jnp.array([1.0, -1.0, 2.0]), 0.4),
        {},
    )


@fault("NaN", "hidden", "log", "faults.py", gradient=False)
def nanmean_over_rows() -> Any:
    def F(x, a):
        return 0.5 * jnp.cos(x) + 0.1 * jnp.nanmean(jnp.log(a))

    return F, jnp.ones(3), (jnp.array([1.0, -1.0, 2.0]),), {}


@fault("input-not-finite", "args[0][2] is NaN or infinite")
def missing_value() -> Any:
    return lambda x, a: 0.5 * jnp.cos(x) + a, jnp.ones(3), (jnp.array([0.1, 0.2, jnp.nan]),), {}


@fault("1 of 6 rows not solved: 3", "args[0][3] is NaN")
def missing_row() -> Any:
    a = jnp.linspace(1, 2, 6).at[3].set(jnp.nan)
    F = lambda x, a: 0.6 * jnp.cos(a[:, None] * x) + 0.01 * jnp.roll(x, 1, axis=1)
    return F, jnp.ones((6, 2)), (a,), {"batch_axis": 0}


# What is solved is not what was meant -------------------------------------------------------------------------------


@fault("impure", "random", gradient=False)
def random_numbers_of_numpy() -> Any:
    rng = np.random.default_rng(0)
    return lambda x: 0.5 * jnp.cos(x) + 0.01 * rng.normal(), 1.0, (), {}


@fault("impure", "random", gradient=False)
def dropout_of_numpy_beside_the_guess() -> Any:
    """Which at x0 changes nothing: 0 times whatever it is."""
    rng = np.random.default_rng(0)
    return lambda x, a: a + (x - 1.0) * rng.uniform(0.1, 0.3), 1.0, (0.3,), {}


@fault("impure", "counts", gradient=False)
def counting_calls() -> Any:
    count = [0]

    def F(x):
        count[0] += 1
        return 0.5 * jnp.cos(x) + 0.1 * count[0]

    return F, 1.0, (), {}


@fault("impure", gradient=False)
def random_in_a_callback() -> Any:
    rng = np.random.default_rng(0)
    drawn = lambda x: np.asarray(0.5 * np.cos(x) + 0.01 * rng.normal(), x.dtype)
    return lambda x: jax.pure_callback(drawn, x, x), jnp.ones(()), (), {}


@fault("may be a residual", 'kind="root"', gradient=False)
def residual_as_a_map() -> Any:
    def R(T, radiation, air):
        return radiation - 5.67e-8 * T**4 - 12.0 * (T - air)

    return R, 300.0, (500.0, 298.0), {}


@fault("may be a residual", 'kind="root"', gradient=False)
def map_minus_state_as_a_map() -> Any:
    def R(T, air):
        return {
            "leaf": air + 3 * jnp.tanh((302 - T["leaf"]) / 9) - T["leaf"],
            "soil": 0.5 * (T["leaf"] + 290) - T["soil"],
        }

    return R, {"leaf": 300.0, "soil": 295.0}, (299.0,), {}


@fault("may be a fixed-point map", "fixed_point", gradient=False)
def map_as_a_residual() -> Any:
    return lambda T, air: air + 3 * jnp.tanh((302 - T) / 9), 300.0, (299.0,), {"kind": "root"}


@fault("may be a fixed-point map", "fixed_point", gradient=False)
def layer_as_a_residual() -> Any:
    W = 0.3 * jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))
    return lambda x, b: 2 + jnp.tanh(W @ x + b), 2 * jnp.ones(4), (jnp.ones(4),), {"kind": "root"}


@fault("273.15", "may be in °C", gradient=False)
def air_in_celsius() -> Any:
    def F(T, air, radiation):
        conductance = 0.02 * (1 + jnp.exp(-(((T - 298.15) / 12) ** 2)))
        return air + 0.01 * radiation / (1 + 60 * conductance)

    return F, 300.0, (25.0, 400.0), {}


@fault("is 25 in the guess and", "The guess may be in °C.", unsaid=("args[0] may be in °C",), gradient=False)
def guess_in_celsius_beside_a_concentration() -> Any:
    def leaf(s, v_max, air):
        fixed = v_max * s["c"] / (s["c"] + 500) * jnp.exp(-(((s["T"] - 298) / 15) ** 2))
        conductance = 0.01 + 9 * fixed / 400
        return {"T": air + 10 - 20 * conductance, "c": 400 - fixed / conductance}

    return leaf, {"T": 25.0, "c": 300.0}, (46.0, 295.0), {}


@fault("273.15", "may be in °C", gradient=False)
def guess_in_celsius() -> Any:
    return lambda T, air: air + 4 / (1 + jnp.exp((T - 301) / 6)), 25.0, (299.0,), {}


@fault("273.15", "x0['T']", gradient=False)
def celsius_converted_twice() -> Any:
    def F(x, air):
        saturation = 611.0 * jnp.exp(17.27 * (x["T"] - 273.15) / (x["T"] - 273.15 + 237.3))
        return {"T": air + 5 - 1e-3 * x["e"], "e": 0.6 * jnp.abs(saturation) + 100}

    return F, {"T": 24.0, "e": 1500.0}, (22.0,), {}


@fault("273.15", "args[0]", gradient=False)
def kelvin_converted_twice() -> Any:
    def F(x, T):
        return 0.5 * x + 1e-3 * (T + 273.15) * jnp.exp(-x)

    return F, 0.3, (296.0,), {}


@fault("unstable", "x0 is itself a fixed point", gradient=False)
def start_at_zero() -> Any:
    return lambda x, a: jnp.tanh(a * x), jnp.zeros(2), (2.0,), {}


@fault("unstable", "x0 is itself a fixed point", gradient=False)
def epidemic_that_has_not_begun() -> Any:
    F = lambda x, R: {"ill": 1 - jnp.exp(-R * x["ill"]), "immune": 0.5 * x["immune"] + 0.3 * x["ill"]}
    return F, {"ill": 0.0, "immune": 0.0}, (2.5,), {}


@fault("unstable-start", "x0 is itself a fixed point", unsaid=("is wrong", "derivative-wrong"))
def start_where_the_map_repels() -> Any:
    return lambda x, a: 1.5 * x + a, -0.6, (0.3,), {}


@fault("second-solution", "There is another fixed point", gradient=False)
def two_fixed_points() -> Any:
    return lambda x, a: jnp.tanh(3 * x) + a, 0.05, (0.02,), {}


@fault("second-solution", "another root", gradient=False)
def two_roots() -> Any:
    return lambda x, a: (x - 1.0) * (x - 1.2) * (x + 3) - a, 1.09, (1e-3,), {"kind": "root"}


@fault("unit", "x0['p']", "100", gradient=False)
def pressure_in_two_units() -> Any:
    F = lambda x, g: {"T": 300 - 1e-5 * x["p"] * g, "p": 101325.0 * jnp.exp(-g * 100 / x["T"])}
    return F, {"T": 299.0, "p": 1013.0}, (0.034,), {}


@fault("unit", "x0[1]", "1000")
def one_component_in_millimoles() -> Any:
    F = lambda x, a: jnp.stack([20 + 0.1 * x[2], 4e-4 * a * (1 + 0.01 * x[0]), 3 + jnp.tanh(x[1])])
    return F, jnp.array([21.0, 0.41, 3.3]), (1.0,), {}


@fault("passed-through", "F returns x0['soil'] as it is")
def leaf_that_is_passed_through() -> Any:
    F = lambda s, k: {"T": jnp.cos(k * s["T"]) + 0.1 * s["soil"], "soil": s["soil"]}
    return F, {"T": jnp.ones(2), "soil": 2.0}, (0.6,), {}


@fault("state-ignored", "does not depend on its state")
def state_that_is_an_output() -> Any:
    def F(x, k):
        inner = jax.lax.fori_loop(0, 15, lambda _, inner: jnp.tanh(k * inner + 1), jnp.zeros(2) + 0 * x["flux"])
        return {"flux": 3 * inner}

    return F, {"flux": jnp.ones(2)}, (jnp.array([0.3, 0.5]),), {}


@fault("expected F to depend on x", unsaid=("cannot be solved at all",))
def state_that_is_never_read() -> Any:
    return lambda x, a: jnp.cos(a) * jnp.ones(2), jnp.ones(2), (0.7,), {}


# No solution, or none that is determined ----------------------------------------------------------------------------


@fault("picard-cycles", "period 2", "not-converged", gradient=False)
def too_few_iterations() -> Any:
    F = lambda x, a: a - 2.9 * jnp.tanh(x)
    return F, jnp.array([0.5, 0.2]), (jnp.array([1.0, 2.0]),), {"solver": ix.Picard(), "max_steps": 15}


@fault("not-converged", "unstable", "Newton", unsaid=("a cycle, a jump or kink",), solvers=("Auto", "Anderson"))
def repelling_map() -> Any:
    return lambda x, a: 1.5 * x + a, 1.0, (0.3,), {}


@fault(
    "picard-diverges",
    "grows beyond all numbers",
    "eigenvalue 1.5",
    unsaid=("leaves the domain", "Give a damping"),
    solvers=("Auto", "Anderson"),
)
def repelling_map_in_single_precision() -> Any:
    return lambda x, a: 1.5 * x + a, jnp.float32(1.0), (jnp.float32(0.3),), {"solver": ix.Picard()}


@fault("jumps", "no fixed point", gradient=False)
def jump_across_the_diagonal() -> Any:
    return lambda x, a: jnp.where(x > a, 0.0, 1.0) + 0.1 * x, jnp.zeros(2), (0.5,), {}


@fault("inaccurate", "infinity", unsaid=("derivative-wrong", "another fixed point"))
def runs_off() -> Any:
    return lambda x, a: x + a * jnp.exp(-x), 0.0, (1.0,), {}


@fault("singular", "F keeps the total of x0", "constraint", unsaid=("another fixed point",))
def conserved_total() -> Any:
    P = jnp.array([[0.5, 0.2, 0.3], [0.3, 0.6, 0.3], [0.2, 0.2, 0.4]])
    F = lambda x, k: P @ x + k * jnp.array([1.0, -1.0, 0.0]) * x[0]
    return F, jnp.array([0.3, 0.3, 0.4]), (0.05,), {}


@fault("singular")
def equation_twice() -> Any:
    R = lambda x, a: jnp.stack([x[0] + x[1] - a, 2 * (x[0] + x[1]) - 2 * a])
    return R, jnp.array([0.3, 0.5]), (1.0,), {"kind": "root"}


@fault("F does not change with args[0] near its value", "clip", unsaid=("Without influence",))
def saturated() -> Any:
    return lambda x, a: jnp.clip(0.5 * x + a, 0.0, 1.0), 0.5, (0.6,), {}


@fault("unusable", "expected float64[2] at x0, the shape it has in x0")
def lost_axis() -> Any:
    return lambda x, a: jnp.sum(a * jnp.cos(x)), jnp.ones(2), (0.4,), {}


@fault("unusable", "faults.py", "jnp.where")
def python_if() -> Any:
    def F(x, a):
        if x > 1:
            return a * x
        return a + 0.5 * x

    return F, 0.5, (0.3,), {}
