# %% [markdown]
# # A reaction that divides: a gradient through 1,000 implicit steps
#
# Gray and Scott's reaction: a substance u is fed, and v eats it and makes more of itself, 2v + u → 3v, and decays. On a
# line, where u diffuses a hundred times as fast as v,
#
# ```text
# ∂u/∂t = ∂²u/∂x² − u v² + (A + φ)(1 − u),     ∂v/∂t = D ∂²v/∂x² + u v² − B v
# ```
#
# a drop of v becomes two pulses, which part, and divide, and so on (Reynolds, Pearson and Ponce-Dawson 1994,
# doi:10.1103/PhysRevLett.72.2797). φ(x, t) is a little more feed, here or there, now or then: 0, and what we want a
# derivative by.
#
# On a grid this is stiff, so each step is implicit: the trapezoidal rule, one `ix.root` of all u and v, in a `scan` of
# 1,000 steps. `python examples/reaction.py --full` has 500 points; below are 200, of a shorter line.

# %%
import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate

import implicitax as ix

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="Pulses of Gray and Scott's reaction that divide.")
parser.add_argument("--full", action="store_true", help="500 points")
parser.add_argument("--figure", help="where to save the figure")
options = parser.parse_args()
N, LENGTH, END = (500, 75.0, 1500.0) if options.full else (200, 30.0, 600.0)
STEPS = 1000
h = LENGTH / N
x = (np.arange(N) + 0.5) * h - LENGTH / 2


# %% [markdown]
# ## The step
#
# Nothing flows through the ends of the line, so there the difference is 0. Two species that stand one after the other,
# each with its neighbours: which entries of ∂R/∂(u, v) differ from 0 is found from the function.


# %%
def second_derivative(c):
    return jnp.diff(jnp.diff(c, prepend=c[:1], append=c[-1:])) / h**2


def rates(state, p, phi):
    u, v = state["u"], state["v"]
    reaction = u * v**2
    return {
        "u": second_derivative(u) - reaction + (p["A"] + phi) * (1 - u),
        "v": p["D"] * second_derivative(v) + reaction - p["B"] * v,
    }


def R(new, old, p, phi):
    change = jax.tree.map(lambda a, b: p["dt"] / 2 * (a + b), rates(new, p, phi), rates(old, p, phi))
    return jax.tree.map(lambda n, o, c: n - o - c, new, old, change)


def simulate(p, phi):
    """u and v after each step; φ is (steps, points)."""

    def step(old, phi):
        new = ix.root(R, old, old, p, phi).x
        return new, new

    return jax.lax.scan(step, start, phi)[1]


drop = np.exp(-((x / 1.5) ** 2))
start = {"u": jnp.asarray(1 - 0.5 * drop), "v": jnp.asarray(0.25 * drop)}
p = {"A": 0.03, "B": 0.08, "D": 0.01, "dt": END / STEPS}
none = jnp.zeros((STEPS, N))
sol = ix.root(R, start, start, p, none[0])
print(f"{2 * N} unknowns a step; linear solver: {sol.linear_solver}")

# %% [markdown]
# ## How far the pattern reaches, and what that depends on
#
# The root of the mean square distance of v from the middle, at the end. One reverse pass, through all steps, has its
# derivatives by A, B and D, and by φ at each point and step: a number for each of them.


# %%
def reach(p, phi):
    states = simulate(p, phi)
    v = states["v"][-1]
    return jnp.sqrt(jnp.sum(v * x**2) / jnp.sum(v)), states


reach_and_gradient = jax.jit(jax.value_and_grad(reach, argnums=(0, 1), has_aux=True))
(value, states), (by_p, by_phi) = reach_and_gradient(p, none)
v = np.asarray(states["v"])
highest = lambda v: np.sum((v[1:-1] > v[:-2]) & (v[1:-1] > v[2:]) & (v[1:-1] > 0.5))
print(f"{highest(v[-1])} pulses, as far as {value:.3f} from the middle")
print(", ".join(f"by {name} {by_p[name]:.2f}" for name in "ABD"), f"and by {by_phi.size:,} φ")
if options.full:
    for name, function in (("values", jax.jit(lambda p, phi: reach(p, phi)[0])), ("with all", reach_and_gradient)):
        jax.block_until_ready(function(p, none))
        begin = time.perf_counter()
        jax.block_until_ready(function(p, none))
        print(f"{name}: {time.perf_counter() - begin:.1f} s")

# %% [markdown]
# ## Is it right?
#
# Central differences, with A, B, D and φ changed all at once, at random:

# %%
rng, small = np.random.default_rng(0), 3e-5
direction = {name: p[name] * rng.normal() for name in "ABD"}, rng.normal(size=none.shape) * p["A"]
there, back = (
    reach_and_gradient(p | {name: p[name] + s * direction[0][name] for name in "ABD"}, s * direction[1])[0][0]
    for s in (small, -small)
)
expected = (there - back) / (2 * small)
found = sum(by_p[name] * direction[0][name] for name in "ABD") + jnp.sum(by_phi * direction[1])
print(f"derivative {found:.6f}, differences {expected:.6f}")
assert abs(found / expected - 1) < 1e-5

# %% [markdown]
# And the states: SciPy's BDF, with its own choice of steps, at an early time. The trapezoidal rule is of second order:
# half the step, a quarter of the difference.


# %%
def derivative(t, y):
    u, v = y[:N], y[N:]
    flow = lambda c: np.diff(np.concatenate([[0.0], np.diff(c), [0.0]])) / h**2
    return np.concatenate([flow(u) - u * v**2 + p["A"] * (1 - u), p["D"] * flow(v) + u * v**2 - p["B"] * v])


steps = 100
neighbours = np.tri(N, k=1) - np.tri(N, k=-2)
bdf = scipy.integrate.solve_ivp(
    derivative, (0, steps * p["dt"]), np.concatenate([start["u"], start["v"]]), method="BDF", rtol=1e-8, atol=1e-10,
    jac_sparsity=np.kron(np.ones((2, 2)), neighbours),
)  # fmt: skip
half = reach_and_gradient(p | {"dt": p["dt"] / 2}, none)[0][1]["v"]
differences = [np.max(np.abs(at - bdf.y[N:, -1])) for at in (v[steps - 1], half[2 * steps - 1])]
print(
    f"from SciPy's v, of up to {bdf.y[N:, -1].max():.2f}: {differences[0]:.5f}, with half the step {differences[1]:.5f}"
)
assert 3.5 < differences[0] / differences[1] < 4.5

# %% [markdown]
# ## The figure
#
# From `python examples/reaction.py --full --figure docs/images/reaction.png`. Left the pulses; right, in logarithmic
# colours, what a little more feed at any point and at any time would do to how far they reach in the end. Ahead of the
# outermost pulses it helps, all along their way. It matters most just behind them, some time before they divide again:
# there it decides when they do, and so how much of v is where at the end. On two cores of a shared machine (2026-11-28)
# the 1,000 steps of 1,000 unknowns take 1.4 s, and with all 500,003 derivatives 1.9 s.
#
# ![v over space and time, and the sensitivity to feed over space and time](images/reaction.png)

# %%
if options.figure:
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    extent = (-LENGTH / 2, LENGTH / 2, 0, END)
    sensitivity = np.asarray(by_phi) / (h * p["dt"])
    limit = np.percentile(np.abs(sensitivity), 99.5)
    scale = SymLogNorm(limit / 30, vmin=-limit, vmax=limit)
    fields = {
        "v": left.imshow(v, origin="lower", aspect="auto", extent=extent, cmap="magma", vmax=1.8,
                         interpolation="bilinear"),
        "∂(reach) / ∂φ, for each unit of length and time": right.imshow(
            sensitivity, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", norm=scale,
            interpolation="bilinear",
        ),
    }  # fmt: skip
    for ax, (title, image) in zip((left, right), fields.items()):
        ax.set_title(title)
        ax.set_xlabel("x")
        figure.colorbar(image, ax=ax, shrink=0.8, extend="both" if ax is right else "max")
    left.set_ylabel("t")
    figure.savefig(options.figure, dpi=150)
