# %% [markdown]
# # A power grid: which load costs how much on the way
#
# A grid of 300 buses, 411 lines and transformers between them, 69 of the buses with generators: the largest of the
# IEEE's classical test cases. In a power flow all loads are given, and the voltages V, complex numbers, are such that
# what flows out of each bus into its branches is what is made there less what is used:
#
# ```text
# Σ over branches b→c  V_b (y (V_b − V_c))*  =  P_b + i Q_b      (without what lines store, and transformers)
# ```
#
# A generator holds the magnitude of its voltage and P; one of them, the slack, holds magnitude and angle and makes
# whatever is missing. That leaves 299 angles and 231 magnitudes, and as many equations, each with the few unknowns of
# the neighbours. Nothing below says so: the equations are written branch by branch, and summed over buses.
#
# The data, and where it is from: `examples/data/README.md`.

# %%
import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

import implicitax as ix

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="Power flow of the IEEE's 300 buses.")
parser.add_argument("--full", action="store_true", help="check the sensitivity to every load, and measure times")
parser.add_argument("--figure", help="where to save the figure")
options = parser.parse_args()

MEGAWATT = 1 / 100  # everything else is per unit, of 100 MVA
read = lambda name: np.genfromtxt(Path(__file__).parent / "data" / name, delimiter=",", names=True, dtype=None)
buses, branches = read("ieee300-buses.csv"), read("ieee300-branches.csv")
N = len(buses)
begin, end = (np.searchsorted(buses["bus"], branches[name]) for name in ("from", "to"))
pq, not_slack = np.flatnonzero(buses["kind"] == "PQ"), np.flatnonzero(buses["kind"] != "slack")
published = buses["solved_magnitude"] * np.exp(1j * np.deg2rad(buses["solved_angle"]))
reference = np.deg2rad(buses["solved_angle"][buses["kind"] == "slack"])
print(f"{N} buses, {len(branches)} branches, load {buses['load_p'].sum():,.0f} MW")

# %% [markdown]
# ## The equations

# %%
series = 1 / (branches["r"] + 1j * branches["x"])
at_ends = series + 0.5j * branches["b"]  # half of what a line stores is at either end
shunt = MEGAWATT * (buses["shunt_g"] + 1j * buses["shunt_b"])


def voltages(x):
    magnitude = jnp.asarray(np.nan_to_num(buses["held"])).at[pq].set(x["magnitude"])
    angle = jnp.zeros(N).at[not_slack].set(x["angle"]) + reference
    return magnitude * jnp.exp(1j * angle)


def flows(V, shift):
    """Power into all branches at their beginnings and at their ends; there the transformers turn by `shift`."""
    V_begin, V_end = V[begin] / (branches["ratio"] * jnp.exp(1j * shift)), V[end]
    into_begin = V_begin * jnp.conj(at_ends * V_begin - series * V_end)
    into_end = V_end * jnp.conj(at_ends * V_end - series * V_begin)
    return into_begin, into_end


def R(x, load, shift):
    V = voltages(x)
    into_begin, into_end = flows(V, shift)
    out = jax.ops.segment_sum(into_begin, begin, N) + jax.ops.segment_sum(into_end, end, N)
    out += jnp.conj(shunt) * jnp.abs(V) ** 2
    missing = out + MEGAWATT * (load["p"] + 1j * load["q"] - buses["made_p"])
    return {"angle": missing.real[not_slack], "magnitude": missing.imag[pq]}


load = {"p": jnp.asarray(buses["load_p"]), "q": jnp.asarray(buses["load_q"])}  # MW and Mvar
flat = {"angle": jnp.zeros(len(not_slack)), "magnitude": jnp.ones(len(pq))}
none = jnp.zeros(len(branches))
sol = ix.root(R, flat, load, none)
print(f"{sol.nit} steps of Newton's method from 1 everywhere; linear solver: {sol.linear_solver}")

# %% [markdown]
# ## Is it right?
#
# The archive has published a solution of its own, to four decimals and hundredths of a degree.


# %%
def compare(V):
    magnitude = np.abs(np.abs(V) - np.abs(published))
    angle = np.abs(np.rad2deg(np.angle(V / published)))
    print(f"magnitudes differ by at most {magnitude.max():.4f}")
    print(f"angles by {np.median(angle):.3f}° in the median, {angle.max():.2f}° at bus {buses['bus'][angle.argmax()]}")
    return magnitude.max(), angle.max()


compare(voltages(sol.x))

# %% [markdown]
# No: ten degrees are no rounding. An independent Newton's method in SciPy, with the matrix of admittances as textbooks
# have it, arrives at the same voltages as we do. So it is the data.


# %%
def admittances(shift):
    ratio = branches["ratio"] * np.exp(1j * shift)
    entries = at_ends / np.abs(ratio) ** 2, -series / np.conj(ratio), -series / ratio, at_ends, shunt
    rows = np.concatenate([begin, begin, end, end, np.arange(N)])
    columns = np.concatenate([begin, end, begin, end, np.arange(N)])
    return scipy.sparse.coo_array((np.concatenate(entries), (rows, columns)), (N, N)).tocsr()


def newton(load, shift):
    """The voltages, and what is lost in all branches."""
    Y, diagonal = admittances(shift), scipy.sparse.diags_array
    V = np.where(buses["kind"] == "PQ", 1, np.nan_to_num(buses["held"])) * np.exp(1j * reference)
    wanted = MEGAWATT * (buses["made_p"] - load["p"] - 1j * load["q"])
    for _ in range(6):
        current, unit = Y @ V, V / np.abs(V)
        by_angle = 1j * diagonal(V) @ (diagonal(current) - Y @ diagonal(V)).conj()
        by_magnitude = diagonal(V) @ (Y @ diagonal(unit)).conj() + diagonal(current.conj() * unit)
        missing = V * current.conj() - wanted
        parts = [[by_angle.real.tocsr()[not_slack][:, not_slack], by_magnitude.real.tocsr()[not_slack][:, pq]],
                 [by_angle.imag.tocsr()[pq][:, not_slack], by_magnitude.imag.tocsr()[pq][:, pq]]]  # fmt: skip
        residual = np.concatenate([np.real(missing)[not_slack], np.imag(missing)[pq]])
        step = scipy.sparse.linalg.spsolve(scipy.sparse.block_array(parts).tocsc(), residual)
        angle, magnitude = np.angle(V), np.abs(V)
        angle[not_slack] -= step[: len(not_slack)]
        magnitude[pq] -= step[len(not_slack) :]
        V = magnitude * np.exp(1j * angle)
    return V, np.sum((V * (Y @ V).conj() - shunt.conj() * np.abs(V) ** 2).real) / MEGAWATT


difference = np.max(np.abs(newton(load, none)[0] - voltages(sol.x)))
print(f"SciPy's voltages and ours differ by {difference:.0e}")
assert difference < 1e-10

# %% [markdown]
# ## What is wrong with the data?
#
# All phase shifts are 0 in the file. Could one transformer's be missing, and which? The derivatives of all voltages by
# all 411 shifts, one Jacobian in forward mode through the solve, say how much of the differences to the published
# solution each of them alone can explain.


# %%
def differences(shift):
    difference = voltages(ix.root(R, flat, load, shift).x) - published
    return jnp.concatenate([difference.real, difference.imag])


r, J = differences(none), jax.jacfwd(differences)(none)
explained = (J.T @ r) ** 2 / (jnp.sum(J**2, axis=0) * jnp.sum(r**2))
for k in np.argsort(-explained)[:3]:
    print(f"transformer or line {branches['from'][k]:3d} – {branches['to'][k]:4d}: {explained[k]:.0%}")

# %% [markdown]
# One sticks out. Its shift by the method of Gauss and Newton, and what is then left:

# %%
suspect = np.argmax(explained)
only = none.at[suspect].set(1.0)
degrees = 0.0
for _ in range(4):
    r, slope = jax.jvp(lambda degrees: differences(jnp.deg2rad(degrees) * only), (degrees,), (1.0,))
    degrees -= float(slope @ r / (slope @ slope))
    print(f"shift {degrees:.4f}°")
shift = jnp.deg2rad(degrees) * only
sol = ix.root(R, flat, load, shift)
magnitude, angle = compare(voltages(sol.x))
assert (branches["from"][suspect], branches["to"][suspect]) == (196, 2040)
assert abs(degrees + 11.4) < 0.005
assert magnitude < 5e-4
assert angle < 0.05

# %% [markdown]
# The archive's own file has this transformer between 196 and 2040 as a phase shifter, at −11.40°. It was lost when the
# file was converted, and the voltages tell.
#
# ## Which load costs how much on the way
#
# The losses are one number, and one adjoint solve has their derivatives by all 600 loads: what another megawatt, or
# megavar, at each bus loses on its way there. A negative one relieves the grid. Central differences of SciPy's solution
# say whether it is right.


# %%
def losses(load, shift):
    into_begin, into_end = flows(voltages(ix.root(R, flat, load, shift).x), shift)
    return jnp.sum((into_begin + into_end).real) / MEGAWATT


lost, cost = jax.value_and_grad(losses)(load, shift)
print(f"lost: {lost:.2f} MW; SciPy {newton(load, shift)[1]:.2f} MW")
order = np.argsort(cost["p"])
for k in (*order[:3], *order[-3:]):
    print(f"bus {buses['bus'][k]:4d}: {cost['p'][k]:+.3f} MW a MW, {cost['q'][k]:+.3f} MW a Mvar")


def by_differences(kind, k):
    """∂(losses)/∂(load), from SciPy's solutions."""
    moved = lambda step: newton(load | {kind: load[kind].at[k].add(step)}, shift)[1]
    return (moved(0.01) - moved(-0.01)) / 0.02


checked = np.arange(N) if options.full else np.concatenate([order[:3], order[100:200:40], order[-3:]])
expected = {kind: np.array([by_differences(kind, k) for k in checked]) for kind in cost}
error = max(np.max(np.abs(expected[kind] - cost[kind][checked])) for kind in cost)
print(f"{2 * len(checked)} of the {2 * N} against differences: at most {error:.0e} apart")
assert error < 1e-5
if options.full:
    functions = {"losses": jax.jit(losses), "losses and all derivatives": jax.jit(jax.value_and_grad(losses))}
    for name, function in functions.items():
        jax.block_until_ready(function(load, shift))
        start = time.perf_counter()
        for _ in range(10):
            jax.block_until_ready(function(load, shift))
        print(f"{name}: {100 * (time.perf_counter() - start):.0f} ms")

# %% [markdown]
# ## The figure
#
# From `python examples/powergrid.py --full --figure docs/images/powergrid.png`. Buses have no places in the data: they
# are drawn such that distances are, as far as a plane allows, numbers of branches between. On two cores of a shared
# machine (2026-11-28) the losses take 11 to 16 ms, and with all 600 derivatives 14 to 17 ms; each agrees with
# differences to 3e-7.
#
# ![The grid with the cost of each load, the costs in order beside differences, and the angles](images/powergrid.png)


# %%
def places():
    """In a plane, as far apart as along the branches: by majorising the stress (Gansner, Koren and North 2005)."""
    graph = scipy.sparse.coo_array((np.ones(len(begin)), (begin, end)), (N, N))
    far = scipy.sparse.csgraph.shortest_path(graph, directed=False, unweighted=True) + np.eye(N)
    weight = far**-2 - np.eye(N)
    inverse = np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight)
    centred = far**2 - (far**2).mean(axis=0) - (far**2).mean(axis=1)[:, None]
    at = 100 * np.linalg.eigh(-centred - centred.mean())[1][:, -2:] + np.random.default_rng(0).normal(size=(N, 2))
    for _ in range(300):
        apart = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(N)
        pull = weight * far / apart
        at = inverse @ ((np.diag(pull.sum(axis=1)) - pull) @ at)
    return at


if options.figure:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    blue, orange, grey = "#1f4e8c", "#e08a1e", "#808080"
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplot_mosaic([["grid", "ranks"], ["grid", "angles"]], width_ratios=(1.75, 1))
    grid, ranks, angles = (axes[name] for name in ("grid", "ranks", "angles"))
    at = places()
    grid.add_collection(
        LineCollection(list(np.stack([at[begin], at[end]], axis=1)), color="#b0b0b0", linewidth=0.8, zorder=1)
    )
    grid.plot(*at[[begin[suspect], end[suspect]]].T, color="black", linewidth=2.5, zorder=1)
    arrow = {"arrowstyle": "-", "color": "black", "linewidth": 0.6}
    grid.annotate(
        "the phase shifter", tuple(at[end[suspect]]), (0.85, 0.95), textcoords="axes fraction", arrowprops=arrow
    )
    size = 14 + 0.35 * np.abs(buses["load_p"])
    points = grid.scatter(*at.T, s=size, c=100 * cost["p"], cmap="RdBu_r", vmin=-30, vmax=30, edgecolor="#404040",
                          linewidth=0.5, zorder=2)  # fmt: skip
    grid.set_axis_off()
    grid.set_aspect("equal")
    grid.set_title("what another megawatt loses on its way, %; size: load")
    figure.colorbar(points, ax=grid, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    ranks.plot(100 * cost["p"][order], color=blue, linewidth=1.5, label="one adjoint solve")
    rank = np.argsort(order)[checked]
    ranks.plot(rank[::6] if options.full else rank, 100 * expected["p"][:: 6 if options.full else 1], "o", color=orange,
               markersize=4, label="differences, SciPy")  # fmt: skip
    ranks.axhline(0, color=grey, linewidth=0.8)
    ranks.set_xlabel("buses in order")
    ranks.set_ylabel("lost, % of another megawatt")
    ranks.legend(frameon=False)
    for x, color, label in ((ix.root(R, flat, load, none).x, grey, "without the shift"), (sol.x, blue, "with it")):
        error = np.abs(np.rad2deg(np.angle(voltages(x) / published)))
        angles.semilogy(np.sort(np.maximum(error, 1e-4))[::-1], color=color, label=label)
    angles.set_xlabel("buses in order")
    angles.set_ylabel("angle beside the published one, °")
    angles.legend(frameon=False)
    figure.savefig(options.figure, dpi=150)
