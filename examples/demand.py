# %% [markdown]
# # Demand inversion: mean utilities that reproduce market shares
#
# Consumers i of a market choose one of J products, or none. Product j gives them the utility
# δ_j + Σ_k σ_k ν_ik x_jk + noise, with standard normal tastes ν, so that its share is
#
# ```text
# s_j(δ, σ) = mean over i of  exp(δ_j + μ_ij) / (1 + Σ_l exp(δ_l + μ_il)),   μ_ij = Σ_k σ_k ν_ik x_jk
# ```
#
# Berry, Levinsohn and Pakes (1995, doi:10.2307/2171802) find the mean utilities δ that reproduce the observed shares S
# as the fixed point of a contraction, `δ ← δ + log S − log s(δ, σ)`, in every market; what is left of δ once price and
# characteristics are accounted for, ξ = δ − Xβ, is then made orthogonal to instruments. So the objective contains
# a fixed point for each market, and its gradient goes through all of them.
#
# `python examples/demand.py --full` has 400 markets of 25 products; below are 30.

# %%
import argparse

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import implicitax as ix

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="Demand inversion after Berry, Levinsohn and Pakes.")
parser.add_argument("--full", action="store_true", help="400 markets")
parser.add_argument("--figure", help="where to save the figure")
options = parser.parse_args()
MARKETS = 400 if options.full else 30
PRODUCTS, CONSUMERS = 25, 300
SIGMA = jnp.array([1.5, 0.7])  # the truth: how much tastes for quality and for price vary,
BETA = jnp.array([2.0, -1.5])  # and the mean tastes for both


# %% [markdown]
# ## Markets with a known truth
#
# The price depends on cost, and on ξ, which the consumers see and we do not: so it is endogenous, and cost its
# instrument.


# %%
def shares(delta, sigma, x, nu):
    """s(δ, σ) of one market; x is (products, 2), nu is (consumers, 2)."""
    utility = delta + (nu * sigma) @ x.T
    largest = jnp.maximum(jnp.max(utility, axis=1, keepdims=True), 0)
    weight = jnp.exp(utility - largest)
    return jnp.mean(weight / (jnp.exp(-largest) + jnp.sum(weight, axis=1, keepdims=True)), axis=0)


def simulate(seed):
    """What is observed of all markets (log S, characteristics, consumers), the instruments, and the true δ."""
    rng = np.random.default_rng(seed)
    shape = MARKETS, PRODUCTS
    quality, cost, xi = rng.normal(size=shape), rng.uniform(1, 3, shape), 0.4 * rng.normal(size=shape)
    price = cost + 0.3 * quality + 0.5 * xi + 0.1 * rng.normal(size=shape)
    x = jnp.stack([quality, price], axis=-1)
    nu = jnp.asarray(rng.normal(size=(MARKETS, CONSUMERS, 2)))
    # Markets differ in how many consumers buy at all: where nearly all do, the contraction is slow.
    level = rng.uniform(0.5, 3.5, (MARKETS, 1))
    delta = level + x @ BETA + xi
    log_s = jnp.log(jax.vmap(shares, (0, None, 0, 0))(delta, SIGMA, x, nu))
    Z = np.stack([quality, cost, cost**2, quality * cost, quality**2, quality**2 * cost], axis=-1)
    return {"log_s": log_s, "x": x, "nu": nu}, jnp.asarray(Z), delta


def within(values):
    """Differences to the mean of the market, which take out what its products have in common."""
    return values - jnp.mean(values, axis=1, keepdims=True)


observed, Z, delta = simulate(0)
outside = 1 - np.exp(observed["log_s"]).sum(axis=1)
print(f"{MARKETS} markets, of whose consumers {outside.min():.1%} to {outside.max():.1%} buy nothing")

# %% [markdown]
# ## The inversion, market by market
#
# `ix.sweep` solves all markets; each has its own convergence. The plain contraction is beside it: its rate is one less
# the share of those who buy nothing, so where nearly all buy it crawls.


# %%
def contraction(delta, market, sigma):
    return delta + market["log_s"] - jnp.log(shares(delta, sigma, market["x"], market["nu"]))


def invert(sigma, observed, **keywords):
    start = jnp.zeros(PRODUCTS)
    return ix.sweep(contraction, start, observed, sigma, in_axes=(None, None, 0, None), **keywords)


sol = invert(SIGMA, observed)
plain = invert(SIGMA, observed, solver=ix.Picard(), max_steps=20_000)
error = np.max(np.abs(sol.x - delta))
print(f"evaluations, median and most: default {np.median(sol.nfev):.0f}, {sol.nfev.max()}; "
      f"plain {np.median(plain.nfev):.0f}, {plain.nfev.max()}")  # fmt: skip
print(f"largest error of δ: default {error:.0e}, plain {np.max(np.abs(plain.x - delta)):.0e}")
assert error < 1e-7

# %% [markdown]
# ## The objective, and its gradient
#
# Generalised method of moments: ξ'Z W Z'ξ with W = (Z'Z)⁻¹, where β is found by two-stage least squares for each σ. One
# reverse pass through all fixed points gives its gradient; central differences of the whole objective agree.


# %%
def moments(theta, observed, Z):
    """Mean of Z'ξ over products and markets, at θ = (σ, β)."""
    delta = within(invert(theta[:2], observed).x[..., None])[..., 0]
    xi = delta - within(observed["x"]) @ theta[2:]
    return jnp.einsum("mjk,mj->k", within(Z), xi) / xi.size


def weighting(Z):
    z = within(Z)
    return jnp.linalg.inv(jnp.einsum("mjk,mjl->kl", z, z) / (MARKETS * PRODUCTS))


def concentrated(sigma, observed, Z):
    """The objective at σ, and the β that goes with it: the moments are linear in β."""
    at_zero = moments(jnp.concatenate([sigma, jnp.zeros(2)]), observed, Z)
    slope = -jnp.einsum("mjk,mjl->kl", within(Z), within(observed["x"])) / (MARKETS * PRODUCTS)
    W = weighting(Z)
    beta = -jnp.linalg.solve(slope.T @ W @ slope, slope.T @ W @ at_zero)
    g = at_zero + slope @ beta
    return MARKETS * PRODUCTS * g @ W @ g, beta


objective = jax.jit(jax.value_and_grad(concentrated, has_aux=True))
value = lambda sigma: objective(sigma, observed, Z)[0][0]
start = jnp.array([1.0, 0.4])
gradient = objective(start, observed, Z)[1]
steps = 1e-5 * jnp.eye(2)
differences = jnp.array([(value(start + h) - value(start - h)) / 2e-5 for h in steps])
error = np.max(np.abs(gradient - differences)) / np.max(np.abs(differences))
print("gradient", gradient, "differences", differences, f"relative error {error:.0e}")
assert error < 1e-5

# %% [markdown]
# ## Estimation
#
# L-BFGS with that gradient, and the standard errors of the method of moments, from the Jacobian of the moments by
# forward mode through the same fixed points.


# %%
def estimate(observed, Z):
    """(σ, β) and their standard errors."""

    def fun(sigma):
        (value, _), gradient = objective(sigma, observed, Z)
        return float(value), np.asarray(gradient)

    found = scipy.optimize.minimize(fun, start, jac=True, method="L-BFGS-B", bounds=[(0.01, 5.0)] * 2)
    sigma = jnp.asarray(found.x)
    theta = jnp.concatenate([sigma, objective(sigma, observed, Z)[0][1]])
    return theta, standard_errors(theta, observed, Z), found


@jax.jit
def standard_errors(theta, observed, Z):
    G, W = jax.jacfwd(moments)(theta, observed, Z), weighting(Z)
    delta = within(invert(theta[:2], observed).x[..., None])[..., 0]
    each = within(Z) * (delta - within(observed["x"]) @ theta[2:])[..., None]
    S = jnp.einsum("mjk,mjl->kl", each, each) / (MARKETS * PRODUCTS)
    bread = jnp.linalg.inv(G.T @ W @ G)
    return jnp.sqrt(jnp.diag(bread @ G.T @ W @ S @ W @ G @ bread) / (MARKETS * PRODUCTS))


truth = jnp.concatenate([SIGMA, BETA])
names = "σ quality", "σ price", "β quality", "β price"
replications = [estimate(*simulate(seed)[:2]) for seed in range(20 if options.full else 1)]
theta, se, found = replications[0]
print(f"{found.nfev} objectives and gradients")
for name, *row in zip(names, theta, se, truth):
    print(f"{name:10s} {row[0]:6.3f} ± {row[1]:.3f}, truth {row[2]:.1f}")
scores = np.array([(theta - truth) / se for theta, se, _ in replications])
print(f"{len(scores)} replications, errors in standard errors: mean square {np.mean(scores**2):.2f}")
assert np.all(np.abs(scores) < 4)

# %% [markdown]
# ## The figure
#
# From `python examples/demand.py --full --figure docs/images/demand.png`: 400 markets, in which the default takes at
# most 48 evaluations and the plain contraction up to 2,386. The errors of twenty replications are, in their standard
# errors, 1.01 in the mean square.
#
# ![Evaluations in each market, and estimates of twenty replications against the truth](images/demand.png)

# %%
if options.figure:
    from matplotlib.figure import Figure

    blue, orange, grey = "#1f4e8c", "#e08a1e", "#808080"
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(outside, plain.nfev, "o", color=grey, markersize=4, label="plain contraction")
    left.loglog(outside, sol.nfev, "o", color=blue, markersize=4, label="implicitax's default")
    left.set_xlabel("share of consumers who buy nothing")
    left.set_ylabel("evaluations of the contraction in a market")
    left.legend(frameon=False)
    for k in range(len(names)):
        at = k + np.linspace(-0.3, 0.3, len(replications))
        values = np.array([theta[k] - truth[k] for theta, _, _ in replications])
        errors = np.array([1.96 * se[k] for _, se, _ in replications])
        right.errorbar(at, values, errors, fmt="o", color=blue, ecolor=grey, markersize=3, linewidth=1)
    right.axhline(0, color=orange, linewidth=1.2)
    right.set_xticks(range(4), names)
    right.set_ylabel("estimate − truth, with 95% intervals")
    figure.savefig(options.figure, dpi=150)
