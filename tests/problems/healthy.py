"""Models without a mistake, of which `diagnose` must not say that there is one. Several are drawn at random."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix

Made = tuple[Any, Any, tuple[Any, ...], dict[str, Any]]  # F, x0, args, keywords
HEALTHY: dict[str, Callable[[], Made]] = {}


def healthy(make: Callable[[], Made]) -> Callable[[], Made]:
    HEALTHY[make.__name__] = make
    return make


def drawn(*seeds: int) -> Callable[[Any], Any]:
    """One model for each seed."""

    def register(make: Callable[[np.random.Generator], Made]) -> Any:
        for seed in seeds:
            HEALTHY[f"{make.__name__}_{seed}"] = lambda seed=seed: make(np.random.default_rng(seed))
        return make

    return register


# Drawn at random ----------------------------------------------------------------------------------------------------


def tanh_layer(x, W, b):
    return jnp.tanh(W @ x + b)


@drawn(0, 1, 2, 3)
def contraction(rng):
    W = rng.normal(size=(4, 4))
    W *= rng.uniform(0.3, 0.9) / np.linalg.norm(W, 2)
    return tanh_layer, jnp.zeros(4), (jnp.asarray(W), jnp.asarray(rng.normal(size=4))), {}


def affine(x, M, b):
    return M @ x + b


@drawn(0, 1, 2)
def affine_map(rng):
    Q = rng.normal(size=(3, 3))
    M = Q @ np.diag(rng.uniform(-2.5, 0.8, 3)) @ np.linalg.inv(Q)
    return affine, jnp.asarray(rng.normal(size=3)), (jnp.asarray(M), jnp.asarray(rng.normal(size=3))), {}


def quadratics(x, M, b):
    return x + 0.1 * x**2 + M @ x - b


@drawn(0, 1, 2)
def roots_of_quadratics(rng):
    M = 0.4 * rng.normal(size=(3, 3)) / 3
    return quadratics, jnp.ones(3), (jnp.asarray(M), jnp.asarray(rng.uniform(0.5, 2, 3))), {"kind": "root"}


def scaled(x, units, W, b):
    """Each unknown in a leaf, and a unit, of its own."""
    y = jnp.tanh(W @ jnp.stack([leaf / unit for leaf, unit in zip(x, units)]) + b)
    return [leaf * unit for leaf, unit in zip(y, units)]


@drawn(0, 1, 2)
def units_over_decades(rng):
    units = [float(unit) for unit in 10.0 ** rng.uniform(-9, 6, 4)]
    W = rng.normal(size=(4, 4))
    W *= 0.7 / np.linalg.norm(W, 2)
    return scaled, units, (units, jnp.asarray(W), jnp.asarray(rng.uniform(0.3, 1, 4))), {}


def in_one_leaf(x, units, W, b):
    return units * jnp.tanh(W @ (x / units) + b)


@drawn(0)
def units_in_one_leaf(rng):
    units = 10.0 ** rng.uniform(-6, 6, 4)
    W = rng.normal(size=(4, 4))
    W *= 0.7 / np.linalg.norm(W, 2)
    args = jnp.asarray(units), jnp.asarray(W), jnp.asarray(rng.uniform(0.3, 1, 4))
    return in_one_leaf, jnp.asarray(units), args, {"atol": 1e-11 * units}


def coupled_rows(x, a, b):
    return b * jnp.cos(a[:, None] * x) + 0.02 * jnp.mean(x, axis=0)


@drawn(0, 1)
def batch_of_coupled_rows(rng):
    return coupled_rows, jnp.ones((5, 2)), (jnp.asarray(rng.uniform(0.5, 1.5, 5)), 0.6), {"batch_axis": 0}


def leaf_energy(x, met, traits):
    """A leaf: temperature in kelvin, the conductance of its stomata, and the carbon dioxide inside."""
    T, gs, ci = x["T"], x["gs"], x["ci"]
    vcmax = traits["vcmax"] * traits["q10"] ** ((T - 298.15) / 10)
    rate = jnp.minimum(vcmax * ci / (ci + 400), traits["j"] * ci / (4 * ci + 160))
    saturation = 611 * jnp.exp(17.27 * (T - 273.15) / (T - 273.15 + 237.3))
    deficit = jnp.maximum(saturation - met["vapour"], 1.0)
    water = 0.622 * 2.45e6 / met["pressure"] * gs * deficit
    return {
        "T": met["air"] + (met["radiation"] - water) / 30,
        "gs": 0.01 + 9 * rate / met["co2"] / (1 + deficit / 1500) * 0.5,
        "ci": met["co2"] - rate * 1.6 / (gs * 40) * 0.8,
    }


@drawn(0, 1, 2)
def leaf(rng):
    met = {
        "air": 273.15 + rng.uniform(15, 28),
        "radiation": rng.uniform(50, 250),
        "vapour": rng.uniform(900, 1500),
        "pressure": 101325.0,
        "co2": 400.0,
    }
    traits = {"vcmax": rng.uniform(30, 60), "j": rng.uniform(80, 140), "q10": 2.0}
    return leaf_energy, {"T": met["air"] + 1, "gs": 0.2, "ci": 280.0}, (met, traits), {}


class Equilibrium(eqx.Module):
    inner: eqx.nn.Linear
    outer: eqx.nn.Linear
    scale: float

    def __call__(self, z, x):
        return jax.nn.tanh(self.scale * self.inner(z) + self.outer(x))


@drawn(0, 1)
def equilibrium_layer(rng):
    keys = jax.random.split(jax.random.key(int(rng.integers(100))))
    F = Equilibrium(eqx.nn.Linear(6, 6, key=keys[0]), eqx.nn.Linear(3, 6, key=keys[1]), 0.5)
    return F, jnp.zeros(6), (jnp.asarray(rng.normal(size=3)),), {}


# Banded ones and larger ones ----------------------------------------------------------------------------------------


@healthy
def bratu() -> Made:
    R = lambda u, a: jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) + a * jnp.exp(u)
    return R, jnp.zeros(250), (1e-5,), {"kind": "root"}


@healthy
def soil_column() -> Made:
    def F(T, top, k):
        above = jnp.concatenate([top[None], T[:-1]])
        below = jnp.concatenate([T[1:], T[-1:]])
        return (0.3 * above + 0.2 * below + k * 288.0) / (0.5 + k)

    return F, 285.0 * jnp.ones(40), (jnp.asarray(301.0), 0.1), {}


@healthy
def page_rank() -> Made:
    links = np.random.default_rng(0).random((30, 30)) < 0.2
    P = jnp.asarray(links / np.maximum(links.sum(0), 1))
    return lambda x, d: d * (P @ x) + (1 - d) / 30, jnp.ones(30) / 30, (0.85,), {}


# Textbook cases -----------------------------------------------------------------------------------------------------


@healthy
def kepler() -> Made:
    return lambda E, M, e: M + e * jnp.sin(E), 0.8, (0.8, 0.3), {}


@healthy
def kepler_as_a_root() -> Made:
    return lambda E, M, e: E - e * jnp.sin(E) - M, 0.8, (0.8, 0.3), {"kind": "root"}


@healthy
def cube_root_of_a_newton_step() -> Made:
    return lambda x, a: x - (x**3 - a) / (3 * x**2), 1.0, (2.0,), {}


@healthy
def gradient_descent() -> Made:
    H = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    return lambda x, b: x - 0.3 * (H @ x - b), jnp.zeros(2), (jnp.array([1.0, 2.0]),), {}


@healthy
def reflections() -> Made:
    """Averaged reflections on two half-lines: outputs that end in `− x`."""
    P = lambda x, a: 0.5 * (x + a)
    return lambda x, a, b: 0.5 * (x + 2 * P(2 * P(x, a) - x, b) - (2 * P(x, a) - x)), 0.3, (1.0, 2.0), {}


@healthy
def bellman() -> Made:
    reward = jnp.array([[1.0, 0.2], [0.3, 0.9], [0.1, 0.5]])
    P = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(3), size=(3, 2)))
    return lambda V, r, beta: jnp.max(r + beta * P @ V, axis=1), jnp.zeros(3), (reward, 0.8), {}


@healthy
def market_shares() -> Made:
    share, taste = jnp.array([0.2, 0.3, 0.1]), jnp.array([-1.0, 0.0, 1.0])[:, None]

    def F(delta, sigma, share):
        u = delta + sigma * taste * jnp.array([1.0, 2.0, 3.0])
        predicted = jnp.mean(jnp.exp(u) / (1 + jnp.sum(jnp.exp(u), axis=1, keepdims=True)), axis=0)
        return delta + jnp.log(share) - jnp.log(predicted)

    return F, jnp.zeros(3), (0.4, share), {}


@healthy
def steep_feedback() -> Made:
    return lambda x, a: a - 2.9 * jnp.tanh(x), jnp.zeros(2), (jnp.array([1.0, 2.0]),), {}


@healthy
def unstable_but_asked_for() -> Made:
    return lambda x, a: 1.5 * x + a, 1.0, (0.3,), {"solver": ix.Newton()}


@healthy
def epidemic() -> Made:
    return lambda x, R: 1 - jnp.exp(-R * x), 0.5, (2.5,), {}


@healthy
def far_second_root() -> Made:
    return lambda x, a: x**2 - a, 1.3, (2.0,), {"kind": "root"}


# Kinks and branches away from the solution --------------------------------------------------------------------------


@healthy
def clipped() -> Made:
    return lambda x, a: jnp.clip(0.5 * x + a, 0.0, 5.0), jnp.zeros(2), (jnp.array([0.3, 0.8]),), {}


@healthy
def safe_where() -> Made:
    def F(x, a):
        inside = x > 2
        return jnp.where(inside, jnp.sqrt(jnp.where(inside, x - 2, 1.0)), 0.5 * x) + a

    return F, 1.0, (0.3,), {}


@healthy
def branches() -> Made:
    def F(x, a, case):
        colder = jax.lax.cond(x[0] > 330, lambda x: 0.5 * x + 151, lambda x: 0.4 * x + 179, x)
        return jax.lax.switch(case, [lambda y: y, lambda y: 0.9 * y + 30], colder) + a

    return F, jnp.array([298.0, 299.0]), (0.7, 1), {}


@healthy
def piecewise_linear_table() -> Made:
    at, values = jnp.linspace(0, 3, 7), jnp.array([0.0, 0.4, 0.7, 0.9, 1.0, 1.05, 1.08])
    return lambda x, a: a + 0.5 * jnp.interp(x, at, values), 0.2, (0.37,), {}


@healthy
def an_option_that_is_a_python_number() -> Made:
    """Which decides, but does not enter: its derivative is 0."""
    return lambda x, a, alpha: (jnp.cos(x) if alpha > 0.5 else jnp.sin(x)) * a, 1.0, (0.4, 0.7), {}


# What F may be made of ----------------------------------------------------------------------------------------------


@healthy
def complex_state() -> Made:
    return lambda z, c: 0.4 * z**2 + c, jnp.asarray(0.1 + 0.1j), (jnp.asarray(0.2 + 0.3j),), {}


@healthy
def same_key() -> Made:
    key = jax.random.key(3)
    return lambda x, a: a * jnp.cos(x) + 0.1 * jax.random.normal(key, (3,)), jnp.ones(3), (0.5,), {}


@healthy
def right_rule() -> Made:
    @jax.custom_jvp
    def softplus(x):
        return jnp.log1p(jnp.exp(x))

    softplus.defjvps(lambda t, y, x: jax.nn.sigmoid(x) * t)
    return lambda x, a: 0.4 * softplus(x) - a, jnp.ones(2), (0.3,), {}


@healthy
def rule_for_reverse_mode() -> Made:
    @jax.custom_vjp
    def damped(x):
        return 0.5 * jnp.sin(x)

    damped.defvjp(lambda x: (damped(x), x), lambda x, u: (0.5 * jnp.cos(x) * u,))
    return lambda x, a: damped(x) + a, jnp.ones(2), (0.3,), {}


@healthy
def outputs_and_idle_parameters() -> Made:
    F = lambda x, p: {"T": 0.5 * jnp.cos(x["T"]) + p["a"], "flux": 3 * x["T"]}
    return F, {"T": 0.5, "flux": 1.0}, ({"a": 0.3, "idle": 2.0, "count": jnp.arange(3)},), {}


@healthy
def single_precision() -> Made:
    x0 = jnp.ones(4, jnp.float32)
    return lambda x, a: a * jnp.cos(x), x0, (jnp.float32(0.6),), {}


@healthy
def clamped_at_the_ends_of_a_table() -> Made:
    """A value of exactly 0 in a parameter, and one in the state."""
    F = lambda x, a: jnp.stack([0.3 * x[1] * x[0], 0.5 * x[1] + a[1] + 0 * a[0]])
    return F, jnp.array([0.0, 1.0]), (jnp.array([0.0, 0.4]),), {}
