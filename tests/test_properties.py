"""Problems and numbers drawn at random: right where there is an answer, and never a wrong one reported as right.

Compiling takes longer than solving, so every property is compiled for a few structures and methods, and the numbers
that are drawn are its arguments.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import implicitax as ix

few = settings(derandomize=True, deadline=None, max_examples=12, database=None)
many = settings(few, max_examples=40)  # of what is compiled once and takes no time
seeds = st.integers(0, 2**32 - 1)

SOLVERS = {
    ("fixed_point", "Auto"): ix.Auto(),  # for few unknowns `PseudoTransient`, and for more that with retries
    ("fixed_point", "Picard"): ix.Picard(0.5),
    ("fixed_point", "Anderson"): ix.Anderson(),
    ("fixed_point", "retries"): ix.Anderson(memory=10, warmup=30, retries=((5, 0.5), (10, 0.2), (3, 0.05))),
    ("fixed_point", "Squarem"): ix.Squarem(),
    ("fixed_point", "Broyden"): ix.Broyden(),
    ("fixed_point", "Newton"): ix.Newton(),
    ("fixed_point", "NewtonKrylov"): ix.NewtonKrylov(),
    ("fixed_point", "Ladder"): ix.Ladder(),
    ("root", "Auto"): ix.Auto(),  # `Ladder`
    ("root", "Broyden"): ix.Broyden(),
    ("root", "Newton"): ix.Newton(),
    ("root", "NewtonKrylov"): ix.NewtonKrylov(),
}
EACH_METHOD_ONCE = [
    case for case in SOLVERS if case[1] not in ("Newton", "NewtonKrylov", "Ladder") or case[0] == "root"
]
EACH_METHOD_ONCE.remove(("root", "Broyden"))


def cases(which):
    """Kinds with their solvers."""
    return pytest.mark.parametrize(["kind", "name", "dtype"][: len(which[0])], which)


def solve(kind, *args, **keywords):
    return {"fixed_point": ix.fixed_point, "root": ix.root}[kind](*args, **keywords)


# Maps made from their solution: value, first and second derivatives are closed forms.

STATES = {
    "nested": lambda: ({"u": jnp.zeros((2, 1)), "none": None}, [jnp.zeros((0, 3)), jnp.zeros(())]),
    "mixed": lambda: {"narrow": jnp.zeros(2, jnp.float32), "wide": (jnp.zeros(1), jnp.zeros(()))},
    "complex": lambda: [jnp.zeros(2, complex), {"real": jnp.zeros(())}],
    "many": lambda: {"W": jnp.zeros((3, 3)), "b": (jnp.zeros(2), jnp.zeros(()))},
}


def ravel(tree):
    """The leaves as one real vector, a complex one as its real and its imaginary part."""
    parts = []
    for leaf in map(jnp.asarray, jax.tree.leaves(tree)):
        parts += [leaf.real.ravel(), leaf.imag.ravel()] if jnp.iscomplexobj(leaf) else [leaf.ravel()]
    return jnp.concatenate([part.astype(jnp.float64) for part in parts])


def unravel(vector, like):
    leaves, offset = [], 0
    for leaf in jax.tree.leaves(like):
        part, offset = vector[offset : offset + leaf.size].reshape(leaf.shape), offset + leaf.size
        if jnp.iscomplexobj(leaf):
            part, offset = part + 1j * vector[offset : offset + leaf.size].reshape(leaf.shape), offset + leaf.size
        leaves.append(part.astype(leaf.dtype))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


class Numbers(NamedTuple):
    J: np.ndarray  # ∂F/∂x at the solution, up to a factor: not symmetric
    a: np.ndarray
    B: np.ndarray
    units: np.ndarray  # of the equations, where it is a root

    @classmethod
    def draw(cls, rng, n):
        J = rng.normal(size=(n, n))
        J *= rng.uniform(0.1, 0.6) / np.linalg.norm(J, 2)
        return cls(J, rng.normal(size=n), rng.normal(size=(n, 4)), 10 ** rng.uniform(-1, 1, n))

    def x_star(self, theta):
        return self.a + jnp.sin(self.B @ ravel(theta))

    def F(self, x, theta):
        v, x_star = ravel(x), self.x_star(theta)
        g = jnp.tanh(v - x_star)
        return unravel(x_star + (1 + 0.2 * jnp.sin(v + ravel(theta)[0])) * (self.J @ (g + 0.2 * g**2)), x)

    def R(self, x, theta):
        return unravel(self.units * ravel(jax.tree.map(jnp.subtract, self.F(x, theta), x)), x)


def derivatives(solve, theta, theta_dot, x_bar):
    """The value; ẋ; θ̄; the derivative of θ̄ along θ̇."""
    x, x_dot = jax.jvp(solve, (theta,), (theta_dot,))
    theta_bar, theta_bar_dot = jax.jvp(lambda theta: jax.vjp(solve, theta)[1](x_bar)[0], (theta,), (theta_dot,))
    return x, x_dot, theta_bar, theta_bar_dot


@functools.cache
def with_closed_form(state, kind, name):
    like = STATES[state]()

    @jax.jit
    def both(numbers, *args):
        function = numbers.F if kind == "fixed_point" else numbers.R
        solver = {"solver": SOLVERS[kind, name], "atol": 1e-5 if state == "mixed" else 1e-12}
        ours = derivatives(lambda theta: solve(kind, function, like, theta, **solver).x, *args)
        return ours, derivatives(lambda theta: unravel(numbers.x_star(theta), like), *args)

    return both


@pytest.mark.parametrize(
    ("state", "kind", "name"),
    [
        ("nested", "fixed_point", "Auto"),
        ("mixed", "fixed_point", "Anderson"),
        ("complex", "root", "Newton"),
        ("many", "fixed_point", "Auto"),
    ],
)
@few
@given(seed=seeds)
def test_closed_forms(state, kind, name, seed):
    rng, like = np.random.default_rng(seed), STATES[state]()

    def draw(like):
        return unravel(jnp.asarray(rng.normal(size=ravel(like).size)), like)

    parameters = {"real": jnp.zeros(2), "complex": jnp.zeros((), complex)}
    theta, theta_dot, x_bar = draw(parameters), draw(parameters), draw(like)
    numbers = Numbers.draw(rng, ravel(like).size)
    ours, closed = with_closed_form(state, kind, name)(numbers, theta, theta_dot, x_bar)
    assert jax.tree.structure(ours) == jax.tree.structure(closed)
    tolerance = 1e-3 if state == "mixed" else 1e-7
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(closed)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 10)
    # ⟨x̄, ẋ⟩ = ⟨θ̄, θ̇⟩, to all digits: both from the same linearisation. JAX's pairing of complex numbers is Re(a b).
    pairing = lambda a, b: sum(np.sum(np.asarray(i * j).real) for i, j in zip(*map(jax.tree.leaves, (a, b))))
    left, right = pairing(x_bar, ours[1]), pairing(ours[2], theta_dot)
    assert left == pytest.approx(right, rel=1e-4 if state == "mixed" else 1e-9, abs=1e-4 if state == "mixed" else 1e-9)


# Lanes.


@functools.cache
def lanes(kind, name):
    n = 10 if (kind, name) == ("fixed_point", "Auto") else 3
    W = np.random.default_rng(n).normal(size=(n, n)) / np.sqrt(n)

    def one(p, x0):
        def x(p):
            F = lambda x, p: p[0] * jnp.tanh(W @ x) + p[1] + jnp.sqrt(p[2] + x) / 4
            R = lambda x, p: F(x, p) - 1.5 * x
            sol = solve(
                kind, F if kind == "fixed_point" else R, x0 * jnp.ones(n), p, solver=SOLVERS[kind, name], **stop
            )
            return jnp.sum(sol.x * jnp.arange(1.0, n + 1)), sol

        stop = {"throw": False, "max_steps": 60}
        gradient, sol = jax.grad(x, has_aux=True)(p)
        return sol.x, sol.status, sol.nit, sol.residual, gradient

    return jax.jit(jax.vmap(one))


@cases([case for case in EACH_METHOD_ONCE if case[1] not in ("Anderson", "retries")])  # of 10 unknowns `Auto` is both
@few
@given(seed=seeds, lane=st.integers(0, 5), value=st.sampled_from([0.3, np.nan, np.inf, -np.inf, 0.0, 1e300, -1e5]))
def test_lanes_are_independent_to_the_bit(kind, name, seed, lane, value):
    rng = np.random.default_rng(seed)
    p, x0 = np.stack([rng.uniform(-1.5, 1.5, 6), rng.uniform(0, 1, 6), rng.uniform(2, 4, 6)], 1), rng.uniform(0, 2, 6)
    other_p, other_x0 = p.copy(), x0.copy()
    if rng.random() < 0.3:
        other_x0[lane] = value
    else:
        other_p[lane, rng.integers(3)] = value
    before, after = lanes(kind, name)(p, x0), lanes(kind, name)(other_p, other_x0)
    for a, b in zip(before, after):
        a, b = (np.delete(np.asarray(v), lane, axis=0) for v in (a, b))
        assert a.tobytes() == b.tobytes()
    failed = np.asarray(after[1]) != ix.Status.CONVERGED
    assert np.all(np.isnan(np.asarray(after[4])[failed]))


# Nonsense.

NUMBERS = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 0.5, -0.3, 3.0, 1e-3, 1e8, 1e30, -1e30, 1e-30]
numbers = st.one_of(st.floats(-2, 2, width=32), st.sampled_from(NUMBERS))


def of_two(u, p):
    """a u / (1 + u²) + b v + c and the same with u and v exchanged, of NumPy and of JAX."""
    return p[0] * u / (1 + u * u) + p[1] * u[::-1] + p[2]


@functools.cache
def nonsense(kind, name, max_steps):
    @jax.jit
    def run(x0, p, rtol, atol):
        F = lambda x: {"u": of_two(x["u"], p), "empty": x["empty"]}
        guess = {"u": x0, "empty": jnp.zeros((2, 0), x0.dtype)}
        keywords = {"solver": SOLVERS[kind, name], "max_steps": max_steps, "rtol": rtol, "atol": atol, "throw": False}
        sol = solve(kind, F, guess, **keywords)
        return sol.x["u"], sol.status, sol.nit, sol.residual

    return run


def meets_the_rule(kind, u, p, rtol, atol):
    """The stopping rule at u, in longer numbers, with room for the rounding errors of F; and |residual|."""
    eps = 4 * np.finfo(u.dtype).eps
    residual = (of_two(u, p) - (u if kind == "fixed_point" else 0)).astype(np.longdouble)
    if not np.all(np.isfinite(u)) or not np.all(np.isfinite(residual)):
        return False, np.inf
    u, p, rtol, atol = (np.asarray(v, np.longdouble) for v in (u, p, rtol, atol))
    rounding = eps * (abs(p[0] * u / (1 + u * u)) + abs(p[1] * u[::-1]) + abs(p[2]) + abs(u)) + 1e-36
    allowed = 1.001 * (atol + rtol * abs(u))
    if kind == "fixed_point":
        return bool(np.all(abs(residual) <= allowed + rounding)), np.max(abs(residual))
    small = np.False_  # if A is singular
    (d, e), b = p[0] * (1 - u * u) / (1 + u * u) ** 2, p[1]
    if d * e != b * b:
        inverse = np.array([[e, -b], [-b, d]]) / (d * e - b * b)
        small = np.all(abs(inverse @ residual) <= allowed + abs(inverse) @ rounding)
    return bool(small), np.max(abs(residual))


@cases(
    [(*case, "float64") for case in SOLVERS] + [(*case, "float32") for case in EACH_METHOD_ONCE],
)
@many
@given(
    x0=st.tuples(numbers, numbers),
    p=st.tuples(numbers, numbers, numbers),
    rtol=st.sampled_from([0.0, 1e-30, 1e-16, 1.2e-7, 1e-2]),
    atol=st.sampled_from([0.0, 1e-30, 1e-16, 1e-7, 1e-2]),
    one_step=st.booleans(),
)
@example(x0=(1.0, 1.0), p=(3.0, 0.0, 1.0), rtol=1e-2, atol=1e-2, one_step=False)  # ∂R/∂x = 0
@example(x0=(0.0, 0.0), p=(0.5, 0.3, 0.0), rtol=0.0, atol=0.0, one_step=False)  # a solution already
def test_success_is_never_said_of_what_is_none(kind, name, dtype, x0, p, rtol, atol, one_step):
    # Both limits are compiled, in float32 only.
    max_steps = 1 if one_step and dtype == "float32" else None
    x0, p = np.asarray(x0, dtype), np.asarray(p, dtype)
    x, status, nit, residual = map(np.asarray, nonsense(kind, name, max_steps)(x0, p, rtol, atol))
    with np.errstate(all="ignore"):
        allowed, size = meets_the_rule(kind, x, p, rtol, atol)
        at_guess = np.array_equal(of_two(x0, p), x0 if kind == "fixed_point" else np.zeros(2))
        at_guess = at_guess and meets_the_rule(kind, x0, p, rtol, atol)[0]
    assert x.dtype == dtype
    assert status <= 0
    assert status != ix.Status.CONVERGED or allowed
    assert (status == ix.Status.NON_FINITE_GUESS) == (not np.all(np.isfinite(x0)))
    assert max_steps is None or nit <= max_steps
    if at_guess:  # and ∂R/∂x is regular: else nothing says that x0 is a root
        assert (status, nit) == (ix.Status.CONVERGED, 0)
        np.testing.assert_array_equal(x, x0)
    if np.isfinite(residual):
        rounding = 1e-6 * (1.0 + float(np.max(abs(x))) + float(np.max(abs(p))))
        assert float(residual) == pytest.approx(float(size), rel=1e-3, abs=rounding)


def test_the_best_point_under_tolerance_0():
    F = lambda x: 1.1 * jnp.cos(x) + jnp.array([0.01, 0.02])
    sol = ix.fixed_point(F, jnp.ones(2), solver=ix.Picard(0.5), rtol=0.0, atol=0.0, max_steps=60, throw=False)
    assert float(sol.residual) == pytest.approx(float(np.max(np.abs(F(sol.x) - sol.x))), abs=1e-15)
    assert float(sol.residual) < 1e-6


@pytest.mark.parametrize("case", ["tolerance", "correction"])
def test_nan_in_a_large_state(case):
    def one(tolerance, x0):
        if case == "tolerance":  # that a tracer is NaN cannot be seen before
            return ix.fixed_point(jnp.cos, x0, rtol=tolerance, atol=tolerance, solver=ix.Picard(), throw=False)
        R = lambda x: jnp.cos(x) / 2 + jnp.sqrt(0 * x)  # the derivative of which is NaN
        return ix.root(R, x0, solver=ix.NewtonKrylov(), throw=False)

    status = jax.jit(lambda tolerance: jax.vmap(functools.partial(one, tolerance))(jnp.ones((4096, 2))).status)(np.nan)
    assert np.all(np.asarray(status) < 0)


# Bounds.

LOWER, UPPER = np.array([0.0, -np.inf]), np.array([5.0, 2.0])


@functools.cache
def bounded(kind, name):
    """The solve of `x = a tanh(x) + b + c x`, and the list of the points at which it is evaluated."""
    seen = []

    def F(x, p):
        jax.debug.callback(lambda x: seen.append(np.array(x)), x)
        return p[0] * jnp.tanh(x) + p[1] + p[2] * x - (x if kind == "root" else 0)

    keywords = {"solver": SOLVERS[kind, name], "bounds": (LOWER, UPPER), "throw": False}
    return seen, jax.jit(lambda x0, p: solve(kind, F, x0, p, **keywords))


def bounded_solve(kind, name, x0, p):
    seen, run = bounded(kind, name)
    seen.clear()
    sol = jax.block_until_ready(run(np.asarray(x0), np.asarray(p)))
    jax.effects_barrier()
    return sol, np.concatenate([np.zeros((0, 2)), *(np.reshape(x, (-1, 2)) for x in seen)])


def inside(points):
    return np.all((points > LOWER) & (points < UPPER))


@cases(EACH_METHOD_ONCE)
@few
@given(
    x0=st.tuples(st.floats(0.01, 4.99), st.floats(-3, 1.99)),
    p=st.tuples(st.floats(-3, 1), st.floats(0, 2), st.sampled_from([0.0, 0.3])),
)
def test_no_iterate_leaves_the_bounds(kind, name, x0, p):
    sol, points = bounded_solve(kind, name, x0, p)
    on_bound = (points == LOWER) | (points == UPPER)
    if int(sol.status) == ix.Status.AT_BOUND:
        points = points[~np.any(on_bound, axis=1)]  # by rounding: the last test
    assert inside(points)
    assert not bool(sol.success) or inside(np.asarray(sol.x))


@cases(EACH_METHOD_ONCE)
def test_stuck_at_a_bound(kind, name):
    sol, _ = bounded_solve(kind, name, (1.0, 1.0), (0.0, 4.0, 0.5))  # the only solution is 8
    assert int(sol.status) == ix.Status.AT_BOUND
    for x0 in ((0.0, 1.0), (1.0, 2.0), (6.0, 1.0), (1.0, 3.0)):
        sol, _ = bounded_solve(kind, name, x0, (0.0, 1.0, 0.5))
        assert int(sol.status) == ix.Status.GUESS_OUT_OF_BOUNDS
        np.testing.assert_array_equal(sol.x, x0)


@cases(EACH_METHOD_ONCE)
def test_strictly_inside_where_stuck(kind, name):
    assert inside(bounded_solve(kind, name, (1.0, 1.0), (0.0, 4.0, 0.5))[1])
