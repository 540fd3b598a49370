# %% [markdown]
# # Backpropagation through an implicit layer
#
# Most layers are formulas: the output is computed from the input. An implicit layer is an equation: the output is the x
# that solves it. Here it is the fixed point `x = F(x, α, β)` of
#
# ```text
# F₀ = √(α − x₀ x₁)
# F₁ = √((57 − x₁) / (β F₀))
# ```
#
# which at α = 10, β = 3 is x = (2, 3). To train a model that contains it we need ∂x/∂α and ∂x/∂β. This page computes
# them in three ways, each shorter or safer than the one before.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import implicitax as ix

jax.config.update("jax_enable_x64", True)


def F(x, alpha, beta):
    F0 = jnp.sqrt(alpha - x[0] * x[1])
    return jnp.stack([F0, jnp.sqrt((57 - x[1]) / (beta * F0))])


X0 = jnp.array([1.5, 3.5])

# %% [markdown]
# ## 1. Unroll the iteration
#
# Plain iteration, `x ← F(x)`, converges here. A `scan` over 1000 iterations can be differentiated like any other code.


# %%
def unrolled(alpha, beta, steps=1000):
    return jax.lax.scan(lambda x, _: (F(x, alpha, beta), None), X0, length=steps)[0]


exact = jax.jacobian(unrolled, argnums=(0, 1))(10.0, 3.0)
print("x     =", unrolled(10.0, 3.0))
print("∂x/∂α =", exact[0])
print("∂x/∂β =", exact[1])

# %% [markdown]
# The numbers are right. There are two problems. The first is that nobody tells us how many iterations are enough: it
# depends on the parameters, and they change while a model is trained. With too few, value and derivative are wrong, and
# nothing says so:

# %%
for beta in (3.0, 2.0, 1.5):
    error_x = jnp.max(jnp.abs(unrolled(10.0, beta, 15) - unrolled(10.0, beta)))
    error_dx = jnp.max(jnp.abs(jax.jacobian(unrolled)(10.0, beta, 15) - jax.jacobian(unrolled)(10.0, beta)))
    print(f"β = {beta}, 15 iterations: error of x {error_x:.0e}, of ∂x/∂α {error_dx:.0e}")
print("β = 1.0, 1000 iterations:", unrolled(10.0, 1.0))

# %% [markdown]
# The second is memory. Reverse mode runs the iterations backwards, so it has to keep something of every one:


# %%
def kept(function):
    """How many numbers the forward pass keeps for the backward pass."""
    _, pullback = jax.vjp(function, 10.0, 3.0)
    return sum(np.size(leaf) for leaf in jax.tree.leaves(pullback))


for steps in (10, 100, 1000):
    print(f"{steps:4} iterations: {kept(lambda alpha, beta, steps=steps: unrolled(alpha, beta, steps)):5} numbers")

# %% [markdown]
# ## 2. The rule by hand
#
# The iterations do not matter. What matters is the equation that the last one solves,
#
# ```text
# R(x, θ) = F(x, θ) − x = 0          θ = (α, β)
# ```
#
# Along a change θ̇ of the parameters the solution moves by ẋ such that R stays 0:
#
# ```text
# A ẋ + B θ̇ = 0          A = ∂R/∂x = ∂F/∂x − I          B = ∂R/∂θ
# ```
#
# That is one linear system, at the solution. JAX lets us state it as the derivative of a function, and transposes it by
# itself for reverse mode.


# %%
@jax.custom_jvp
def by_hand(alpha, beta):
    return unrolled(alpha, beta)


@by_hand.defjvp
def by_hand_jvp(theta, theta_dot):
    x = by_hand(*theta)
    A = jax.jacfwd(F)(x, *theta) - jnp.eye(x.size)
    _, B_theta_dot = jax.jvp(lambda *theta: F(x, *theta), theta, theta_dot)
    return x, jnp.linalg.solve(A, -B_theta_dot)


print("∂x/∂α =", jax.jacrev(by_hand)(10.0, 3.0))
print("∂x/∂β =", jax.jacrev(by_hand, argnums=1)(10.0, 3.0))

# %% [markdown]
# This is the right formula, and for this system the right program. In a model of some size each of its lines becomes a
# trap:
#
# - The parameters are named in the signature. What is not named gets no derivative, so somebody shortens the rule to
#   the ones that "matter", and the others have the derivative 0 from then on.
# - The state is one vector. A model has dicts and modules, some entries of which are not unknowns at all; with those
#   passed through unchanged, A is singular.
# - A is dense. With n unknowns it has n² numbers.
# - 1000 iterations are assumed to be enough. Where they are not, the formula is evaluated at a point that is no
#   solution.
#
# Here is the first trap. The rule below forgets the tangent of β:


# %%
@jax.custom_jvp
def forgetful(alpha, beta):
    return unrolled(alpha, beta)


@forgetful.defjvp
def forgetful_jvp(theta, theta_dot):
    (alpha, beta), (alpha_dot, _) = theta, theta_dot
    x = forgetful(alpha, beta)
    A = jax.jacfwd(F)(x, alpha, beta) - jnp.eye(x.size)
    _, B_alpha_dot = jax.jvp(lambda alpha: F(x, alpha, beta), (alpha,), (alpha_dot,))
    return x, jnp.linalg.solve(A, -B_alpha_dot)


print("∂x/∂β =", jax.jacrev(forgetful, argnums=1)(10.0, 3.0), "and no error")

# %% [markdown]
# ## 3. One call


# %%
def solve(alpha, beta):
    return ix.fixed_point(F, X0, alpha, beta).x


for argnums in (0, 1):
    derivative = jax.jacobian(solve, argnums)(10.0, 3.0)
    assert np.allclose(derivative, exact[argnums], rtol=0, atol=1e-10)
    print("∂x/∂α =" if argnums == 0 else "∂x/∂β =", derivative)
print("numbers kept for the backward pass:", kept(solve))

# %% [markdown]
# The number of iterations is found by the solver, and the result is checked: `Solution` has the numbers. At β = 1,
# where plain iteration has left the domain of F, it steps back and goes on.

# %%
for beta in (3.0, 1.0):
    sol = ix.fixed_point(F, X0, 10.0, beta)
    print(sol.x, sol.message)

# %% [markdown]
# Nothing has to be named. Put the parameters into an Equinox module, into a nested dict, or let F close over them:
# every array that F reads has a derivative.


# %%
class Model(eqx.Module):
    alpha: float
    beta: float

    def __call__(self, x):
        return F(x, self.alpha, self.beta)


gradient = jax.grad(lambda model: ix.fixed_point(model, X0).x.sum())(Model(10.0, 3.0))
print("alpha:", gradient.alpha, " beta:", gradient.beta)


def closes_over(alpha):
    return ix.fixed_point(lambda x: F(x, alpha, 3.0), X0).x


assert np.allclose(jax.jacobian(closes_over)(10.0), exact[0], rtol=0, atol=1e-10)

# %% [markdown]
# Transformations compose as they do for a formula. Second derivatives, and a batch:

# %%
print(jax.hessian(lambda alpha: solve(alpha, 3.0)[0])(10.0))
print(jax.jit(jax.vmap(lambda alpha: solve(alpha, 3.0)))(jnp.array([9.0, 10.0, 11.0])))

# %% [markdown]
# ## An implicit layer inside another
#
# Since a solution is differentiable, it can stand inside another equation. Which α and β have the solution
# x = (2.1, 2.9)? That is a root, and Newton's method for it needs the derivative of the fixed point. The outer root is
# differentiable too: how would the parameters move with the observation?


# %%
def calibrate(observed):
    residual = lambda theta: solve(*theta) - observed
    return ix.root(residual, jnp.array([10.0, 3.0])).x


observed = jnp.array([2.1, 2.9])
theta = calibrate(observed)
assert np.allclose(solve(*theta), observed)
print("α, β =", theta)
print("∂(α, β)/∂observed =")
print(jax.jacobian(calibrate)(observed))

# %% [markdown]
# ## No solution, no derivative
#
# At α = −10 the guess is outside the domain of F, and there is no solution. A `scan` returns NaN. Here it is an error:

# %%
try:
    solve(-10.0, 3.0)
except ix.ConvergenceError as error:
    print(error)
