"""A table of situations, and the words in which what to try is said: never what has just failed."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix


def spiral(x):
    """Plain iteration turns and grows, slowly."""
    return jnp.array([[0.0, -1.02], [1.02, 0.0]]) @ x + 1.0


def slow(n):
    """Contracts by 0.9999 an iteration, in n different ways."""
    return lambda x: np.linspace(0.5, 0.9999, n) * x + 0.01 * jnp.sin(jnp.roll(x, 1)) + 1.0


def jump(x):
    """Jumps across the diagonal: no fixed point."""
    return jnp.where(x > 0.5, 0.2, 0.8) + 0.01 * x


def domain(x):
    return jnp.sqrt(-1.0 - x**2)


def leaving(x):
    """Defined at 2 and not where plain iteration goes from there."""
    return 5 - 4 * jnp.sqrt(x)


def no_root(x):
    return jnp.sum(x**2) + 1 + jnp.zeros_like(x) + 0.1 * x


def grid(u):
    n = u.size
    padded = jnp.pad(u, 1)
    return (padded[2:] - 2 * u + padded[:-2]) * (n + 1) ** 2 + 3.0 * jnp.exp(u)


FIXED, ROOT = ix.fixed_point, ix.root
ONES = np.ones(2)
# what, solve, F, x0, keywords, the status, words that are there, words that are not
SITUATIONS = [
    ("decreasing, plain", FIXED, slow(3), np.zeros(3), {"solver": ix.Picard(), "max_steps": 50}, "STEP_LIMIT",
     ["Raise `max_steps`, which is 50", "leave `solver` out"], ["Picard(damping", "Newton"]),
    ("decreasing, Anderson by default", FIXED, slow(400), np.zeros(400), {"max_steps": 15}, "STEP_LIMIT",
     ["Raise `max_steps`, which is 15", "ix.Newton()"], ["Auto", "Anderson(", "leave `solver` out"]),
    ("decreasing, few unknowns by default", FIXED, slow(3), np.zeros(3), {"max_steps": 4}, "STEP_LIMIT",
     ["Raise `max_steps`, which is 4", "start nearer"], ["Auto", "leave `solver` out"]),
    ("decreasing, a large root", ROOT, lambda u: grid(u) + u.mean(), np.zeros(1200), {"max_steps": 1}, "STEP_LIMIT",
     ["Raise `max_steps`, which is 1", "NewtonKrylov(preconditioner)"], ["Auto", "leave `solver` out"]),
    ("decreasing, a line", ROOT, grid, np.zeros(1200), {"max_steps": 1}, "STEP_LIMIT",
     ["Raise `max_steps`, which is 1", "start nearer"], ["Auto", "leave `solver` out", "preconditioner"]),
    ("decreasing, Newton", ROOT, lambda x: x**3 - 1e9, 1e7 * ONES, {"solver": ix.Newton(), "max_steps": 9},
     "STEP_LIMIT", ["leave `solver` out"], ["ix.Newton"]),
    ("cycling, plain", FIXED, lambda x: 1 - x, 0.2, {"solver": ix.Picard()}, "NO_PROGRESS",
     ["Picard(damping=0.5)", "leave `solver` out"], ["Auto"]),
    ("cycling, damped", FIXED, lambda x: 4 - 4.5 * x, 0.2, {"solver": ix.Picard(damping=0.5)}, "NO_PROGRESS",
     ["a smaller damping", "leave `solver` out"], ["Picard(damping"]),
    ("growing, plain", FIXED, spiral, ONES, {"solver": ix.Picard(), "max_steps": 100}, "NO_PROGRESS",
     ["no point was better than x0", "leads away", "damping"], ["Auto"]),
    ("at a jump, by default", FIXED, jump, 0.3, {}, "STALLED",
     ["jumps across x there is no fixed point", "ix.diagnose"], ["leave `solver` out", "Auto", "PseudoTransient()"]),
    ("no point better than x0, by default", FIXED, lambda x: x + 1, jnp.zeros(20), {"max_steps": 60}, "NO_PROGRESS",
     ["Start elsewhere", "Or raise `max_steps`, which is 60."], ["leave `solver` out", "Auto", "Anderson"]),
    ("at a jump, Anderson", FIXED, jump, 0.3, {"solver": ix.Anderson()}, "STALLED",
     ["Leave `solver` out"], ["ix.Anderson", "Auto"]),
    ("no root, by default", ROOT, no_root, ONES, {}, "STALLED",
     ["there may be no root", "ix.diagnose"], ["Auto", "Ladder()`", "leave `solver` out"]),
    ("no root, Broyden", ROOT, no_root, ONES, {"solver": ix.Broyden()}, "STALLED", ["Leave `solver` out"], ["Auto"]),
    ("started outside", FIXED, domain, 0.5, {}, "NON_FINITE",
     ["F is finite neither at x0 nor at 16 points around it: start inside the domain of F"], ["Auto", "`solver`"]),
    ("started outside, a root", ROOT, lambda x: jnp.log(-(x**2)), 1.0, {}, "NON_FINITE",
     ["R is finite neither at x0 nor at 16 points"], ["Auto"]),
    ("started outside, by a solver named", ROOT, jnp.log, -1.0, {"solver": ix.Newton()}, "NON_FINITE",
     ["R is not finite at x0"], ["Auto"]),
    ("out of the domain, plain", FIXED, leaving, 2.0, {"solver": ix.Picard()}, "NON_FINITE",
     ["The iteration has left the domain of F", "Leave `solver` out", "`bounds`"], ["Auto"]),
    ("Optimistix stops short", ROOT, lambda x: x**2 - 2, 1.0, {"solver": optx.Newton(rtol=0.1, atol=0.1)},
     "NOT_A_SOLUTION", ["tolerances of its own, rtol=0.1, atol=0.1", "3.7e-11"], ["Auto"]),
    ("too few steps unrolled", FIXED, jnp.cos, 0.5, {"adjoint": ix.Unrolled(3)}, "NOT_A_SOLUTION",
     ["3 steps are too few", "ix.Unrolled"], ["Tighten", "own tolerances"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("solve", "F", "x0", "keywords", "status", "there", "missing"),
    [situation[1:] for situation in SITUATIONS],
    ids=[situation[0] for situation in SITUATIONS],
)
def test_what_is_advised(solve, F, x0, keywords, status, there, missing):
    sol = solve(F, x0, throw=False, **keywords)
    assert ix.Status(int(sol.status)).name == status, sol.message
    for words in there:
        assert words in sol.message
    advice = sol.message.partition(f" ({sol.solver}")[0]  # what has run stands in the parentheses at the end
    for words in missing:
        assert words not in advice
    with pytest.raises(ix.ConvergenceError) as error:
        solve(F, x0, **keywords)
    assert str(error.value) == f"`{solve.__name__}`: {sol.message}"
    assert len(str(error.value)) < 700


def test_a_solver_of_the_users_is_not_given_another_name():
    for custom in (ix.custom_fixed_point, ix.custom_root):
        F = jnp.cos if custom is ix.custom_fixed_point else (lambda x: jnp.cos(x) - x)
        with pytest.raises(ix.ConvergenceError, match=r"Solve it more exactly, .* \(your solver, ") as error:
            custom(F)(lambda x0: x0)(0.5)
        assert not any(name in str(error.value) for name in ("Pseudo", "Ladder", "Anderson", "Auto"))


def test_the_linear_solver_of_a_derivative():
    F = lambda x, a: jnp.concatenate([a * jnp.cos(x[:1]), x[1:]])
    keywords = {"solver": ix.Picard(), "sparsity": "dense"}
    gradient = lambda n: jax.grad(lambda a: ix.fixed_point(F, jnp.ones(n), a, **keywords).x[0])(0.5)
    with pytest.raises(ix.ConvergenceError) as dense:
        gradient(2)
    assert "unknown that the equations do not determine" in str(dense.value)
    assert "linear_solver=" not in str(dense.value)
    with pytest.raises(ix.ConvergenceError, match=r"needs more steps: .*adjoint=ix\.Implicit\(linear_solver="):
        gradient(1500)


def test_a_component_that_is_passed_through_is_named():
    F = lambda x, a: {"T": jnp.cos(a * x["T"]), "boundary": x["boundary"]}
    with pytest.raises(ix.ConvergenceError, match=r"The equation of x0\['boundary'\] holds whatever x is") as error:
        jax.grad(lambda a: ix.fixed_point(F, {"T": 0.5, "boundary": 3.0}, a).x["T"])(1.0)
    assert len(str(error.value)) < 1000
