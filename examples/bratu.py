# %% [markdown]
# # A steady-state PDE: Bratu's equation, when it explodes, and where its source is
#
# A plate heats itself: the hotter it is, the faster the reaction that heats it. In steady state, on the unit square
# with its edge at temperature 0 (everything here is dimensionless, as in Bratu's problem),
#
# ```text
# −∇²u = λ q eᵘ,   u = 0 on the edge
# ```
#
# where the field q(x, y) says how much of the reacting substance there is, and λ how strongly it reacts. On a grid of
# N × N inner points with the five-point stencil for −∇² that is one equation for each point. Written down is R, and
# nothing else: no Jacobian, no solver, no preconditioner, and no `jit`. `python examples/bratu.py --full` has N = 119;
# below it is 39.

# %%
import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import implicitax as ix

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="Bratu's equation on the unit square.")
parser.add_argument("--full", action="store_true", help="119 × 119 points")
parser.add_argument("--figure", help="where to save the figure")
options = parser.parse_args()
N = 119 if options.full else 39


# %%
def laplace(u):
    """−∇²u, with h = 1/(N + 1)."""
    p = jnp.pad(u, 1)
    return (4 * u - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]) * (u.shape[0] + 1) ** 2


def R(u, strength, q):
    return laplace(u) - strength * q * jnp.exp(u)


def grid(n):
    x = np.arange(1, n + 1) / (n + 1)
    return np.meshgrid(x, x, indexing="ij")


cold, even = jnp.zeros((N, N)), jnp.ones((N, N))
sol = ix.root(R, cold, 5.0, even)
print(f"{sol.x.size:,} unknowns, {sol.nit} steps; linear solver: {sol.linear_solver}")

# %% [markdown]
# ## Is it right?
#
# With λ q = 2π² s e^(−s), s = sin πx sin πy, the solution of the differential equation is u = s. The error of the grid
# is of second order: half the spacing, a quarter of the error.


# %%
def error_of_grid(n):
    s = np.prod(np.sin(np.pi * np.array(grid(n))), axis=0)
    return np.max(np.abs(ix.root(R, jnp.zeros((n, n)), 2 * np.pi**2, s * np.exp(-s)).x - s))


HALF = (N - 1) // 2  # twice the spacing
coarse, fine = error_of_grid(HALF), error_of_grid(N)
print(f"errors {coarse:.2e} and {fine:.2e}, ratio {coarse / fine:.3f}")
assert 3.9 < coarse / fine < 4.1

# %% [markdown]
# ## Around the fold
#
# As λ grows the plate gets hotter, up to some λ*, beyond which there is no steady state: it explodes. Just below there
# are two, and the hotter one cannot be reached by raising λ. So the temperature in the middle is given instead, and λ
# becomes an unknown, which all equations have in common: a full column of ∂R/∂x, and that is found, too. From one
# temperature to the next the solution before is the guess.


# %%
def with_strength(x, top, q):
    n = q.shape[0]
    return {"u": R(x["u"], x["strength"], q), "strength": x["u"][n // 2, n // 2] - top}


around = ix.root(with_strength, {"u": cold, "strength": jnp.array(1.0)}, 0.25, even)
states = [around.x]
for top in np.arange(0.5, 7.25, 0.25):
    around = ix.root(with_strength, around.x, top, even)
    states.append(around.x)
print(f"linear solver: {around.linear_solver}")
middle = N // 2
strengths, tops = np.array([(x["strength"], x["u"][middle, middle]) for x in states]).T
fold = strengths.argmax()
print(f"largest λ on the way {strengths[fold]:.3f}, where the middle has {tops[fold]:.2f}")
beyond = ix.root(R, cold, 7.0, even, throw=False)
print(f"λ = 7: solved {bool(beyond.success)}")
assert not beyond.success

# %% [markdown]
# ## The point of explosion, and its gradient
#
# At λ* itself ∂R/∂u is singular: there is a w with (∂R/∂u) w = 0. With u, w and λ as unknowns, and w = 1 in the middle,
# it is a regular root (Moore and Spence 1980, doi:10.1137/0717048). For an even q it is known: 6.808124423, as many
# have computed (for instance Mohsen 2014, doi:10.1016/j.camwa.2013.12.003). Two grids, whose errors are as 4 to 1, say
# the same.


# %%
def at_fold(x, q):
    residual, along = jax.jvp(lambda u: R(u, x["strength"], q), (x["u"],), (x["w"],))
    n = q.shape[0]
    return {"u": residual, "w": along, "strength": x["w"][n // 2, n // 2] - 1}


def critical(q):
    """λ*, and the solution there."""
    n = q.shape[0]
    hump = jnp.asarray(np.prod(np.sin(np.pi * np.array(grid(n))), axis=0))
    sol = ix.root(at_fold, {"u": 1.4 * hump, "w": hump, "strength": jnp.array(6.8)}, q)
    return sol.x["strength"], sol


(largest, sol), (coarser, _) = critical(even), critical(jnp.ones((HALF, HALF)))
print(f"{2 * N**2 + 1:,} unknowns; linear solver: {sol.linear_solver}")
limit = (4 * largest - coarser) / 3
print(f"λ* on this grid {largest:.6f}, for h → 0 {limit:.6f}")
assert abs(limit - 6.808124423) < 1e-4

# %% [markdown]
# Where is the substance most dangerous? One adjoint solve has the derivative of λ* by q at every point. Central
# differences, in random directions, say whether it is right.

# %%
danger = jax.grad(lambda q: critical(q)[0])(even)
print(f"gradient of {danger.size:,} entries")
rng, worst = np.random.default_rng(0), 0.0
for _ in range(3):
    direction = rng.uniform(0, 1, (N, N))
    there, back = (critical(even + s * direction)[0] for s in (1e-4, -1e-4))
    worst = max(worst, abs(jnp.sum(danger * direction) / ((there - back) / 2e-4) - 1))
print(f"relative error in random directions at most {worst:.0e}")
print(f"λ* is of degree −1 in q: −Σ q ∂λ*/∂q = {-jnp.sum(danger):.6f}")
assert worst < 1e-6
assert abs(jnp.sum(danger) + largest) < 1e-6

# %% [markdown]
# ## Where is the substance, if the temperature is known?
#
# The misfit to the observed temperature is one number, its gradient has as many entries as the grid has points. What
# the temperature does not show of the source is smoothed away: over a length of 0.03, which is the solution of a
# (linear) equation, and so a root as well. Adam finds the rest.

# %%
X, Y = grid(N)
bump = lambda a, b, r: np.exp(-((((X - a) ** 2 + (Y - b) ** 2) / r**2) ** 2))
true_source = jnp.asarray(1 + 12 * bump(0.3, 0.35, 0.15) + 8 * bump(0.7, 0.65, 0.18))
target = ix.root(R, cold, 1.0, true_source).x


def source(design):
    return jnp.exp(ix.root(lambda s: s + 0.03**2 * laplace(s) - design, cold).x)


def misfit(design):
    """Mean square difference of the temperatures, in 10⁻⁴."""
    return 1e4 * jnp.mean((ix.root(R, cold, 1.0, source(design)).x - target) ** 2)


optimizer, design, values = optax.adam(0.2), cold, []
state = optimizer.init(design)
for _ in range(150 if options.full else 60):
    value, gradient = jax.value_and_grad(misfit)(design)
    updates, state = optimizer.update(gradient, state)
    design = jnp.asarray(optax.apply_updates(design, updates))
    values.append(float(value))
right = np.corrcoef(np.ravel(source(design)), np.ravel(true_source))[0, 1]
print(f"misfit {values[0]:.2f} → {values[-1]:.4f}; correlation of the source found with the true one {right:.3f}")
if options.full:
    for name, function in (("misfit", misfit), ("misfit and gradient", jax.value_and_grad(misfit))):
        jax.block_until_ready(function(design))
        begin = time.perf_counter()
        jax.block_until_ready(function(design))
        print(f"{name}: {time.perf_counter() - begin:.2f} s")
assert values[-1] < 0.02 * values[0]
assert right > 0.7

# %% [markdown]
# ## The figure
#
# From `python examples/bratu.py --full --figure docs/images/bratu.png`, N = 119. On two cores of a shared machine
# (2026-11-28) the misfit takes 0.10 s, two solves of 14,161 unknowns, and with its gradient 0.29 s.
#
# ![Both branches around the fold, the derivative of the point of explosion, temperature and sources](images/bratu.png)

# %%
if options.figure:
    from matplotlib.figure import Figure

    blue, orange, grey = "#1f4e8c", "#e08a1e", "#808080"
    figure = Figure(figsize=(12, 7), layout="constrained")
    ((a, b, c), (d, e, f)) = figure.subplots(2, 3)
    at_largest = np.asarray(sol.x["u"])
    a.plot(strengths, tops, "o-", color=blue, markersize=4)
    a.plot(largest, at_largest[middle, middle], "o", color=orange, label=f"λ* = {largest:.4f}")
    a.axvline(6.808124423, color=grey, linewidth=0.8)
    a.set_title("steady states around the fold")
    a.set_xlabel("λ")
    a.set_ylabel("temperature in the middle")
    a.legend(frameon=False)
    ends = lambda u: np.pad(u[middle], 1)
    for x in states[1::2]:
        b.plot(np.linspace(0, 1, N + 2), ends(x["u"]), color=blue, linewidth=1)
    b.plot(np.linspace(0, 1, N + 2), ends(at_largest), color=orange, linewidth=2, label="at λ*")
    b.set_title("the same states, across the middle")
    b.set_xlabel("y")
    b.set_ylabel("temperature")
    b.legend(frameon=False)
    fields = {
        c: (danger * (N + 1) ** 2, "∂λ*/∂q: where substance is worst", "viridis_r"),
        d: (target, "temperature observed", "inferno"),
        e: (true_source, "true source", "viridis"),
        f: (source(design), "source found", "viridis"),
    }
    for ax, (field, title, colors) in fields.items():
        image = ax.imshow(np.asarray(field).T, origin="lower", extent=(0, 1, 0, 1), cmap=colors)
        ax.set_title(title)
        ax.set_xlabel("x")
        ax.set_ylabel("y")
        figure.colorbar(image, ax=ax, shrink=0.8)
    figure.savefig(options.figure, dpi=150)
