# %% [markdown]
# # A steady-state PDE: Bratu's equation, and where its source is
#
# A plate heats itself: the hotter it is, the faster the reaction that heats it. In steady state, on the unit square
# with its edge at temperature 0 (everything here is dimensionless, as in Bratu's problem),
#
# ```text
# −∇²u = q eᵘ,   u = 0 on the edge
# ```
#
# where the field q(x, y) says how much of the reacting substance there is. On a grid of N × N inner points with the
# five-point stencil L for −∇² that is one equation for each point: 262,144 for N = 512. A Jacobian of 512 GiB is out of
# the question, and not needed. `python examples/bratu.py --full` has N = 512; below it is 48.

# %%
import argparse
import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import implicitax as ix

jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="Bratu's equation on the unit square.")
parser.add_argument("--full", action="store_true", help="512 × 512 points")
parser.add_argument("--figure", help="where to save the figure")
options = parser.parse_args()
N = 512 if options.full else 48


# %% [markdown]
# ## The equations, and their preconditioner
#
# L is diagonal in the basis of sines: `L⁻¹ f = S ((S f S) / Λ) S` with the symmetric orthogonal matrix S of sines and Λ
# the sums of the eigenvalues in x and y (Lynch, Rice and Thomas 1964, doi:10.1007/BF01386067). So L⁻¹ costs four
# products of N × N matrices, and is a very good approximation of the inverse of `A = ∂R/∂u = L − q eᵘ`.


# %%
def laplace(u):
    """L u, with h = 1/(N + 1)."""
    p = jnp.pad(u, 1)
    return (4 * u - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]) * (u.shape[0] + 1) ** 2


def inverse_laplace(f, a=0.0, b=1.0):
    """(a + b L)⁻¹ f."""
    S, eigenvalues = sines(f.shape[0])
    return S @ ((S @ f @ S) / (a + b * (eigenvalues[:, None] + eigenvalues))) @ S


@functools.cache
def sines(n):
    k = np.arange(1, n + 1)
    S = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))
    return S, (2 * (n + 1) * np.sin(np.pi * k / (2 * (n + 1)))) ** 2


def R(u, q):
    """The equations as they stand."""
    return laplace(u) - q * jnp.exp(u)


def F(u, q):
    """The same as a fixed point, u = L⁻¹ (q eᵘ)."""
    return inverse_laplace(q * jnp.exp(u))


def grid(n):
    x = np.arange(1, n + 1) / (n + 1)
    return np.meshgrid(x, x, indexing="ij")


# %% [markdown]
# ## Three ways to solve it
#
# Newton's method with GMRES, without a preconditioner and with one; and the fixed point, where L⁻¹ is in the equations
# already. Without a preconditioner GMRES needs ever more steps as the grid gets finer: the condition of A grows as N²,
# and 100 steps of GMRES for each of 20 of Newton are not enough for N = 512.

# %%
q = jnp.full((N, N), 5.0)
guess = jnp.zeros((N, N))
solves = {
    "NewtonKrylov": lambda q: ix.root(
        R, guess, q, solver=ix.NewtonKrylov(max_restarts=2), max_steps=20, history=True, throw=False
    ),
    "NewtonKrylov, preconditioned": lambda q: ix.root(
        R, guess, q, solver=ix.NewtonKrylov(lambda u, v: inverse_laplace(v)), history=True
    ),
    "fixed point": lambda q: ix.fixed_point(F, guess, q, history=True),
}
solutions = {}
for name, solve in solves.items():
    compiled = jax.jit(solve).lower(q).compile()
    start = time.perf_counter()
    sol = solutions[name] = jax.block_until_ready(compiled(q))
    seconds = time.perf_counter() - start
    took = f", {seconds:.2f} s" if options.full else ""
    print(f"{name:28s} solved {bool(sol.success)!s:5} after {int(sol.nit):3d} steps{took}")
u = solutions["fixed point"].x
difference = np.max(np.abs(u - solutions["NewtonKrylov, preconditioned"].x))
print(f"hottest point {u.max():.6f}; the last two differ by {difference:.0e}")
assert difference < 1e-6

# %% [markdown]
# ## Is it right?
#
# With q = 2π² s e^(−s), s = sin πx sin πy, the solution of the differential equation is u = s. The error of the grid is
# of second order: half the spacing, a quarter of the error. And for constant q there is a solution up to
# q* = 6.808124423 only (a figure that many have computed, for instance Mohsen 2014, doi:10.1016/j.camwa.2013.12.003);
# beyond it a solver must say so.


# %%
def error_of_grid(n):
    s = np.prod(np.sin(np.pi * np.array(grid(n))), axis=0)
    return np.max(np.abs(ix.fixed_point(F, jnp.zeros((n, n)), 2 * np.pi**2 * s * np.exp(-s)).x - s))


errors = [error_of_grid(n) for n in (15, 31, 63)]
print(
    "errors",
    " ".join(f"{e:.2e}" for e in errors),
    "ratios",
    " ".join(f"{a / b:.2f}" for a, b in itertools.pairwise(errors)),
)
assert all(3.9 < a / b < 4.1 for a, b in itertools.pairwise(errors))
attempt = jax.jit(lambda q: ix.fixed_point(F, jnp.zeros((63, 63)), q * jnp.ones((63, 63)), throw=False))
below, beyond = attempt(6.80), attempt(6.82)
print(
    f"q = 6.80: solved {bool(below.success)}; q = 6.82: solved {bool(beyond.success)}, residual {beyond.residual:.1e}"
)
assert below.success
assert not beyond.success

# %% [markdown]
# ## A gradient with 262,144 entries, by one adjoint
#
# Where is the substance, if the temperature is known? The misfit to the observed temperature is one number, its
# gradient has as many entries as the grid has points, and costs one linear solve with (I − ∂F/∂u)ᵀ. Central
# differences in random directions say whether it is right.

# %%
x, y = grid(N)
bump = lambda a, b, r: np.exp(-((((x - a) ** 2 + (y - b) ** 2) / r**2) ** 2))
true_source = 1 + 12 * bump(0.3, 0.35, 0.15) + 8 * bump(0.7, 0.65, 0.18)
target = ix.fixed_point(F, guess, true_source).x


def misfit(design):
    """Mean square difference of the temperatures, in 10⁻⁴."""
    sol = ix.fixed_point(F, guess, source(design), rtol=1e-9, atol=1e-9)
    return 1e4 * jnp.mean((sol.x - target) ** 2)


def source(design):
    """q > 0, without details that the temperature does not show: smoothed over a length of 0.03."""
    return jnp.exp(inverse_laplace(design, 1.0, 0.03**2))


design = jnp.zeros((N, N))
value_and_gradient = jax.jit(jax.value_and_grad(misfit))
value, gradient = jax.block_until_ready(value_and_gradient(design))
rng, step, worst = np.random.default_rng(0), 1e-3, 0.0
for _ in range(3):
    direction = inverse_laplace(rng.normal(size=(N, N)), 1.0, 0.01)
    differences = (misfit(design + step * direction) - misfit(design - step * direction)) / (2 * step)
    worst = max(worst, abs(jnp.sum(gradient * direction) / differences - 1))
print(f"gradient of {gradient.size:,} entries, relative error in random directions at most {worst:.0e}")
assert worst < 1e-4
if options.full:
    for name, function in (("value", jax.jit(misfit)), ("value and gradient", value_and_gradient)):
        jax.block_until_ready(function(design))
        start = time.perf_counter()
        jax.block_until_ready(function(design))
        print(f"{name}: {time.perf_counter() - start:.2f} s")

# %% [markdown]
# With it, Adam finds the source:

# %%
optimizer = optax.adam(0.2)
state, values = optimizer.init(design), []
for _ in range(150 if options.full else 100):
    value, gradient = value_and_gradient(design)
    updates, state = optimizer.update(gradient, state)
    design = optax.apply_updates(design, updates)
    values.append(float(value))
right = np.corrcoef(np.ravel(source(design)), np.ravel(true_source))[0, 1]
print(f"misfit {values[0]:.2f} → {values[-1]:.4f}; correlation of the source found with the true one {right:.3f}")
assert values[-1] < 0.02 * values[0]
assert right > 0.7

# %% [markdown]
# ## The figure
#
# From `python examples/bratu.py --full --figure docs/images/bratu.png`, N = 512. On two busy cores (2026-11-25) the
# fixed point takes 0.6 s, Newton's method with the preconditioner 1.0 s, and without it 38 s do not suffice; the
# gradient agrees with differences to 1e-8.
#
# ![Temperature, true source, source found, and convergence](images/bratu.png)

# %%
if options.figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    ((a, b, c), (d, e, f)) = figure.subplots(2, 3)
    found = ix.fixed_point(F, guess, source(design)).x
    fields = (a, target, "temperature u"), (b, true_source, "true source q"), (c, source(design), "source found")
    for ax, field, title in (*fields, (d, found - target, "error of u")):
        image = ax.imshow(np.asarray(field).T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
        ax.set_title(title)
        ax.set_xlabel("x")
        ax.set_ylabel("y")
        figure.colorbar(image, ax=ax, shrink=0.8)
    for (name, sol), color in zip(solutions.items(), ("#808080", "#e08a1e", "#1f4e8c")):
        # R is in units of L u: its residual is made comparable by L⁻¹'s largest eigenvalue.
        scale = 1 / (2 * np.pi**2) if name.startswith("Newton") else 1.0
        residual = np.asarray(sol.history.residual)
        e.semilogy(scale * residual[residual >= 0], color=color, label=name)
    e.set_title("convergence at q = 5")
    e.set_xlabel("step")
    e.set_ylabel("max |L⁻¹R|, estimated")
    e.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.93))
    f.semilogy(values, color="#1f4e8c")
    f.set_title("identification")
    f.set_xlabel("step of Adam")
    f.set_ylabel("misfit")
    figure.savefig(options.figure, dpi=150)
