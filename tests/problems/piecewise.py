"""Fixed points of other crafts: messages on graphs, transport, and maps with a set of active constraints to be found.

Drawn from a seed, with an answer from elsewhere (`slow.py`): by recursion, by Newton's method on another equation, or
by active sets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from .slow import Case

# Belief propagation: fields that the spins of a graph send along its edges, both ways ---------------------------------


class Graph(NamedTuple):
    field: Float[Array, " spins"]
    coupling: Float[Array, " messages"]
    start: Int[Array, " messages"]
    end: Int[Array, " messages"]


def belief_step(x: Any, theta: Graph) -> Any:
    """uᵢⱼ = artanh(tanh Jᵢⱼ tanh(hᵢ + Σ uₖᵢ, k ≠ j)); message e and e ± half of them are an edge, both ways."""
    total = theta.field + jnp.zeros_like(theta.field).at[theta.end].add(x)
    cavity = total[theta.start] - jnp.roll(x, x.size // 2)
    return jnp.arctanh(jnp.tanh(theta.coupling) * jnp.tanh(cavity))


def tree_solution(theta: Graph) -> np.ndarray:
    """By recursion, from the leaves."""
    pairs = list(zip(theta.start.tolist(), theta.end.tolist()))

    def message(e: int) -> float:
        i, j = pairs[e]
        cavity = theta.field[i] + sum(message(k) for k, (a, b) in enumerate(pairs) if b == i and a != j)
        return np.arctanh(np.tanh(theta.coupling[e]) * np.tanh(cavity))

    return np.array([message(e) for e in range(len(pairs))])


def loopy_solution(theta: Graph) -> np.ndarray:
    """By Newton's method, from the end of a damped iteration, with ∂F/∂x written out."""
    m, spins = len(theta.start), len(theta.field)
    into = np.equal.outer(np.arange(spins), theta.end).astype(float)
    cavity = into[theta.start] - np.roll(np.eye(m), m // 2, axis=0)
    t, x = np.tanh(theta.coupling), np.zeros(m)
    for k in range(230):
        y = np.tanh(theta.field[theta.start] + cavity @ x)
        r = np.arctanh(t * y) - x
        if k < 200:
            x = x + 0.5 * r
        else:
            x = x + np.linalg.solve(np.eye(m) - (t * (1 - y**2) / (1 - (t * y) ** 2))[:, None] * cavity, r)
    assert np.max(np.abs(r)) < 1e-13
    return x


def _graph(rng: np.random.Generator, edges: Any, spins: int, strength: float, F: Any) -> Case:
    a, b = np.array(edges).T
    J = strength * rng.uniform(0.3, 1, len(a))
    theta = Graph(0.1 * rng.normal(size=spins), np.concatenate([J, J]), np.concatenate([a, b]), np.concatenate([b, a]))
    return Case(belief_step, np.zeros(2 * len(a)), theta, F, "field")


def tree(seed: int, spins: int = 30) -> Case:
    rng = np.random.default_rng(seed)
    edges = [(i, int(rng.integers(max(0, i - 4), i))) for i in range(1, spins)]
    return _graph(rng, edges, spins, 1.5, tree_solution)


def loopy(seed: int, spins: int = 40) -> Case:
    """A ring and some chords, with couplings not far from those at which the spins align."""
    rng = np.random.default_rng(seed)
    edges = [(i, (i + 1) % spins) for i in range(spins)] + [(i, i + spins // 2) for i in range(0, spins // 2, 2)]
    return _graph(rng, edges, spins, 1.0, loopy_solution)


# Proximal gradient steps ---------------------------------------------------------------------------------------------


class Lasso(NamedTuple):
    A: Float[Array, "m n"]
    b: Float[Array, " m"]
    penalty: Float[Array, ""]
    step: Float[Array, ""]


def lasso_step(x: Any, theta: Lasso) -> Any:
    v = x - theta.step * theta.A.T @ (theta.A @ x - theta.b)
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - theta.step * theta.penalty, 0)


def lasso_solution(theta: Lasso) -> np.ndarray:
    """Coordinate descent finds support and signs, on which it is linear; the conditions of optimality are checked."""
    A, b, penalty = theta.A, theta.b, float(theta.penalty)
    Q, c, x = A.T @ A, A.T @ b, np.zeros(A.shape[1])
    for _ in range(3000):
        before = x.copy()
        for i in range(x.size):
            g = c[i] - Q[i] @ x + Q[i, i] * x[i]
            x[i] = np.sign(g) * max(abs(g) - penalty, 0) / Q[i, i]
        if np.max(np.abs(x - before)) < 1e-12:
            break
    on, sign = x != 0, np.sign(x)
    x[on] = np.linalg.solve(Q[np.ix_(on, on)], c[on] - penalty * sign[on])
    assert np.all(np.sign(x[on]) == sign[on])
    assert np.all(np.abs(c - Q @ x)[~on] <= penalty * (1 + 1e-9))
    return x


def lasso(seed: int, m: int = 60, n: int = 100) -> Case:
    """Columns that are like their neighbours."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, n))
    for j in range(1, n):
        A[:, j] = 0.9 * A[:, j - 1] + 0.44 * A[:, j]
    truth = np.where(rng.uniform(size=n) < 0.15, 3 * rng.normal(size=n), 0)
    b = A @ truth + 0.5 * rng.normal(size=m)
    penalty = 0.02 * np.max(np.abs(A.T @ b))
    theta = Lasso(A, b, penalty, 1 / np.linalg.norm(A, 2) ** 2)
    return Case(lasso_step, np.zeros(n), theta, lasso_solution, "b")


class Box(NamedTuple):
    """min ½ xᵀQx − cᵀx between bounds."""

    Q: Float[Array, "n n"]
    c: Float[Array, " n"]
    low: Float[Array, " n"]
    high: Float[Array, " n"]
    step: Float[Array, ""]


def box_step(x: Any, theta: Box) -> Any:
    return jnp.clip(x - theta.step * (theta.Q @ x - theta.c), theta.low, theta.high)


def box_solution(theta: Box) -> np.ndarray:
    """Bounded least squares by SciPy, then active sets, each with a dense solve."""
    L = np.linalg.cholesky(theta.Q)
    x = scipy.optimize.lsq_linear(L.T, np.linalg.solve(L, theta.c), (theta.low, theta.high), "bvls", tol=1e-14).x
    for _ in range(20):
        g = theta.Q @ x - theta.c
        before, x = x, np.clip(x - g, theta.low, theta.high)
        free = (x > theta.low) & (x < theta.high)
        x[free] = np.linalg.solve(theta.Q[np.ix_(free, free)], theta.c[free] - theta.Q[np.ix_(free, ~free)] @ x[~free])
        if np.max(np.abs(x - before)) < 1e-12:
            break
    g = theta.Q @ x - theta.c
    assert np.all(g[x <= theta.low] >= -1e-9)
    assert np.all(g[x >= theta.high] <= 1e-9)
    assert np.all((x >= theta.low) & (x <= theta.high))
    return x


def machine(seed: int, n: int = 80) -> Case:
    """The dual of a support vector machine without an intercept."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2))
    label = np.where(points[:, 0] + 0.5 * np.sin(3 * points[:, 1]) + 0.4 * rng.normal(size=n) > 0, 1.0, -1.0)
    squares = np.sum((points[:, None] - points) ** 2, axis=2)
    Q = np.outer(label, label) * np.exp(-squares) + 1e-2 * np.eye(n)
    theta = Box(Q, np.ones(n), np.zeros(n), np.full(n, 3.0), 1 / np.linalg.norm(Q, 2))
    return Case(box_step, np.zeros(n), theta, box_solution, "c")


# A string over an obstacle -------------------------------------------------------------------------------------------


def obstacle(seed: int, n: int = 80) -> Case:
    rng = np.random.default_rng(seed)
    Q = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    place = np.arange(1, n + 1) / (n + 1)
    below = -0.3 + 0.25 * np.sin(2 * np.pi * (place * rng.uniform(1, 2) + rng.uniform()))
    load = -rng.uniform(5, 15) / (n + 1) ** 2 * (1 + 0.5 * rng.normal(size=n))
    theta = Box(Q, load, below, np.full(n, np.inf), np.asarray(0.5))
    return Case(box_step, np.maximum(below, 0), theta, box_solution, "c")


# Transport with entropy: Sinkhorn's iteration, in logarithms ---------------------------------------------------------


class Transport(NamedTuple):
    cost: Float[Array, "n m"]
    log_a: Float[Array, " n"]
    log_b: Float[Array, " m"]
    temperature: Float[Array, ""]


def sinkhorn_step(x: Any, theta: Transport) -> Any:
    """x: the potential of the rows, of which only differences count: so its mean is 0."""
    scaled = -theta.cost / theta.temperature
    other = theta.log_b - jax.nn.logsumexp(scaled + x[:, None] / theta.temperature, axis=0)
    new = theta.temperature * (theta.log_a - jax.nn.logsumexp(scaled + other, axis=1))
    return new - jnp.mean(new)


def sinkhorn_solution(theta: Transport) -> np.ndarray:
    """Newton's method, damped, on the rows' marginals, of which the columns' are exact."""
    a, b, t = np.exp(theta.log_a), np.exp(theta.log_b), float(theta.temperature)
    n, x = len(a), np.zeros(len(a))

    def plan(x: np.ndarray) -> np.ndarray:
        z = (x[:, None] - theta.cost) / t
        z = np.exp(z - z.max(axis=0))
        return z / z.sum(axis=0) * b

    def dual(x: np.ndarray) -> float:
        z = (x[:, None] - theta.cost) / t
        return a @ x - t * b @ (z.max(axis=0) + np.log(np.exp(z - z.max(axis=0)).sum(axis=0)))

    for _ in range(200):
        p = plan(x)
        H = (np.diag(p.sum(axis=1)) - (p / b) @ p.T) / t
        step = np.linalg.solve(H + np.full((n, n), 1.0 / n), a - p.sum(axis=1))
        length = 1.0
        while length > 1e-4 and dual(x + length * step) < dual(x) - 1e-15:
            length /= 2
        x = x + length * step
        if np.max(np.abs(step)) < 1e-13:
            break
    assert np.max(np.abs(plan(x).sum(axis=1) - a)) < 1e-12
    return x - x.mean()


def sinkhorn(temperature: float) -> Callable[[int], Case]:
    def draw(seed: int, n: int = 40, m: int = 50) -> Case:
        rng = np.random.default_rng(seed)
        cost = np.sum((rng.uniform(size=(n, 1, 2)) - rng.uniform(size=(m, 2))) ** 2, axis=2)
        log_a, log_b = (np.log(rng.dirichlet(np.full(k, 5.0))) for k in (n, m))
        theta = Transport(cost, log_a, log_b, np.asarray(temperature))
        return Case(sinkhorn_step, np.zeros(n), theta, sinkhorn_solution, "cost")

    return draw


FAMILIES: dict[str, Callable[[int], Case]] = {
    "belief, tree": tree,
    "belief, loops": loopy,
    "lasso": lasso,
    "support vectors": machine,
    "obstacle": obstacle,
    "Sinkhorn, 0.1": sinkhorn(0.1),
    "Sinkhorn, 0.01": sinkhorn(0.01),
}
