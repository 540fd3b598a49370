"""Fixed points that plain iteration finds slowly: distributions, values of programmes, stocks. Drawn from a seed.

Each has an answer from elsewhere, by dense linear algebra in NumPy: so also its derivative, by differences of that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Case(NamedTuple):
    """`x = F(x, θ)`."""

    F: Callable[[Any, Any], Any]
    x0: np.ndarray
    theta: Any  # a NamedTuple of arrays, so that many draws are one program
    solution: Callable[[Any], np.ndarray]  # of θ, without F
    of: str  # the array of θ by which derivatives are compared

    def moved(self, by: Any) -> Any:
        """θ with that array moved."""
        return self.theta._replace(**{self.of: getattr(self.theta, self.of) + by})

    def slope(self, direction: np.ndarray, step: float = 1e-6) -> np.ndarray:
        """The derivative of the solution along a direction of that array."""
        ahead, back = (np.asarray(self.solution(self.moved(s * direction))) for s in (step, -step))
        return (ahead - back) / (2 * step)

    def direction(self, seed: int = 0) -> np.ndarray:
        array = np.asarray(getattr(self.theta, self.of))
        return np.random.default_rng([seed, 17]).normal(size=array.shape)


def null_vector(P: np.ndarray) -> np.ndarray:
    """The distribution π with πᵀ P = πᵀ."""
    A = P.T - np.eye(len(P))
    A[-1] = 1.0
    return np.linalg.solve(A, np.eye(len(P))[-1])


# A Markov chain of two halves, between which it seldom moves ---------------------------------------------------------


class Chain(NamedTuple):
    logits: Float[Array, "n k"]
    to: Int[Array, "n k"]


def chain_step(x: Any, theta: Chain) -> Any:
    P = jax.nn.softmax(theta.logits, axis=1)
    new = jnp.zeros_like(x).at[theta.to].add(x[:, None] * P)
    return new / jnp.sum(new)


def chain_solution(theta: Chain) -> np.ndarray:
    n = len(theta.to)
    weights = np.exp(theta.logits)
    P = np.zeros((n, n))
    np.add.at(P, (np.arange(n)[:, None], theta.to), weights / weights.sum(axis=1, keepdims=True))
    return null_vector(P)


def chain(seed: int, n: int = 200, moves: int = 4) -> Case:
    rng = np.random.default_rng(seed)
    half = (np.arange(n) >= n // 2).astype(int)
    to = rng.integers(0, n // 2, (n, moves)) + half[:, None] * (n // 2)
    to[:, -1] = rng.integers(0, n // 2, n) + (1 - half) * (n // 2)
    logits = rng.normal(size=(n, moves))
    logits[:, -1] = rng.uniform(-7, -5, n)
    return Case(chain_step, np.full(n, 1 / n), Chain(logits, to), chain_solution, "logits")


# A walk on a line, of which the chance to go up is another in each place ---------------------------------------------


class Walk(NamedTuple):
    logits: Float[Array, " n"]


def walk_step(x: Any, theta: Walk) -> Any:
    up = x * jax.nn.sigmoid(theta.logits)
    down = x - up
    new = jnp.concatenate([down[:1], up[:-1]]) + jnp.concatenate([down[1:], up[-1:]])
    return new / jnp.sum(new)


def walk_solution(theta: Walk) -> np.ndarray:
    """By detailed balance: πᵢ upᵢ = πᵢ₊₁ downᵢ₊₁."""
    up = 1 / (1 + np.exp(-theta.logits))
    log = np.concatenate([[0.0], np.cumsum(np.log(up[:-1]) - np.log1p(-up[1:]))])
    weights = np.exp(log - log.max())
    return weights / weights.sum()


def walk(seed: int, n: int = 120) -> Case:
    rng = np.random.default_rng(seed)
    logits = 0.2 * rng.normal(size=n) - 0.1 * np.sign(np.arange(n) - n / 2)
    return Case(walk_step, np.full(n, 1 / n), Walk(logits), walk_solution, "logits")


# Households on a grid of assets: who saves what is given, and how income changes -------------------------------------


class Households(NamedTuple):
    saving: Float[Array, "incomes assets"]  # the assets of the next period, in cells of the grid
    moves: Float[Array, "incomes incomes"]


def households_step(x: Any, theta: Households) -> Any:
    cells = x.shape[1]
    at = jnp.clip(theta.saving, 0, cells - 1)
    low = jnp.minimum(jnp.floor(at).astype(int), cells - 2)
    part = at - low
    # A lottery between the two cells, so that the mean is kept.
    rows = jnp.arange(x.shape[0])[:, None]
    saved = jnp.zeros_like(x).at[rows, low].add(x * (1 - part)).at[rows, low + 1].add(x * part)
    new = theta.moves.T @ saved
    return new / jnp.sum(new)


def households_solution(theta: Households) -> np.ndarray:
    incomes, cells = theta.saving.shape
    P = np.zeros((incomes, cells, incomes, cells))
    for i in range(incomes):
        for a in range(cells):
            at = min(max(theta.saving[i, a], 0), cells - 1)
            low = min(int(at), cells - 2)
            for j in range(incomes):
                P[i, a, j, low] += theta.moves[i, j] * (1 - (at - low))
                P[i, a, j, low + 1] += theta.moves[i, j] * (at - low)
    return null_vector(P.reshape(incomes * cells, -1)).reshape(incomes, cells)


def households(seed: int, cells: int = 80) -> Case:
    rng = np.random.default_rng(seed)
    income, stay = np.array([0.3, 1.0, 2.2]), rng.uniform(0.95, 0.99)
    moves = stay * np.eye(3) + (1 - stay) * np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [0.05, 0.75, 0.2]])
    grid = np.linspace(0, 1, cells) ** 2 * 40
    keeps, saves = rng.uniform(0.97, 0.985), rng.uniform(0.2, 0.4)
    wanted = keeps * grid + saves * (income[:, None] - 0.5) + 0.003 * rng.normal(size=(3, cells))
    # From the value of assets to cells of the grid.
    saving = np.interp(wanted, grid, np.arange(cells))
    x0 = np.full((3, cells), 1 / (3 * cells))
    return Case(households_step, x0, Households(saving, moves), households_solution, "saving")


# Dynamic programmes: V = max over actions of what they bring, and of what comes after --------------------------------


class Programme(NamedTuple):
    reward: Float[Array, "n actions"]
    to: Int[Array, "n actions k"]
    chance: Float[Array, "n actions k"]
    discount: Float[Array, ""]


def programme_step(x: Any, theta: Programme) -> Any:
    return jnp.max(theta.reward + theta.discount * jnp.sum(theta.chance * x[theta.to], axis=2), axis=1)


def programme_solution(theta: Programme) -> np.ndarray:
    """Howard's iteration of policies, each valued by a dense solve."""
    n, _, k = theta.to.shape
    rows, V = np.arange(n), np.zeros(n)
    for _ in range(100):
        Q = theta.reward + theta.discount * np.sum(theta.chance * V[theta.to], axis=2)
        policy = Q.argmax(axis=1)
        A = np.eye(n)
        np.subtract.at(
            A, (np.repeat(rows, k), theta.to[rows, policy].ravel()), theta.discount * theta.chance[rows, policy].ravel()
        )
        before, V = V, np.linalg.solve(A, theta.reward[rows, policy])
        if np.allclose(V, before, rtol=1e-13, atol=0):
            return V
    raise AssertionError("The policies go on changing.")


def programme(discount: float, near: bool, n: int = 100, actions: int = 4, k: int = 3) -> Callable[[int], Case]:
    """Moves to anywhere, or to states that are near: then it takes long until all are reached."""

    def draw(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        if near:
            to = (np.arange(n)[:, None, None] + rng.integers(-3, 4, (n, actions, k))).clip(0, n - 1)
        else:
            to = rng.integers(0, n, (n, actions, k))
        chance = rng.dirichlet(np.ones(k), (n, actions))
        reward = rng.uniform(0, 1, (n, actions)) + 0.3 * np.sin(np.arange(n) / 9)[:, None]
        theta = Programme(reward, to, chance, np.asarray(discount))
        return Case(programme_step, np.zeros(n), theta, programme_solution, "reward")

    return draw


def consumption(discount: float, cells: int = 60) -> Callable[[int], Case]:
    """The same of a household that chooses its assets of the next period, and lives by the rest."""

    def draw(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        income, stay = np.array([0.5, 1.0, 1.8]), rng.uniform(0.9, 0.98)
        moves = stay * np.eye(3) + (1 - stay) * np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [0.05, 0.75, 0.2]])
        grid = np.linspace(0, 1, cells) ** 2 * 10
        spent = income[:, None, None] + (1 + 0.7 * (1 - discount)) * grid[:, None] - grid
        reward = (np.log(np.maximum(spent, 1e-3)) + 0.05 * rng.normal(size=spent.shape)).reshape(-1, cells)
        after = np.broadcast_to(np.arange(3) * cells + np.arange(cells)[:, None], (3 * cells, cells, 3))
        chance = np.broadcast_to(np.repeat(moves, cells, axis=0)[:, None], after.shape)
        theta = Programme(reward, after, chance, np.asarray(discount))
        return Case(programme_step, np.zeros(3 * cells), theta, programme_solution, "reward")

    return draw


# Stocks of carbon: fast and slow pools in layers, over a year of twelve months ---------------------------------------


class Pools(NamedTuple):
    inputs: Float[Array, " layers"]
    rates: Float[Array, "pools layers"]  # a month, at the mean temperature
    mixing: Float[Array, ""]
    season: Float[Array, " months"]  # by how much each month is faster


PASSED = (0.3, 0.1)  # what of a pool that decays goes on to the next


def pools_step(x: Any, theta: Pools) -> Any:
    def month(x: Any, factor: Any) -> Any:
        decayed = x * (1 - jnp.exp(-factor * theta.rates))
        gained = jnp.concatenate([theta.inputs[None], jnp.stack([p * decayed[i] for i, p in enumerate(PASSED)])])
        down = theta.mixing * (x[:, :-1] - x[:, 1:])
        mixed = jnp.pad(down, ((0, 0), (1, 0))) - jnp.pad(down, ((0, 0), (0, 1)))
        return x - decayed + gained + mixed, None

    return jax.lax.scan(month, x, theta.season)[0]


def pools_solution(theta: Pools) -> np.ndarray:
    """(I − M) x = m, of which M is a product of twelve matrices."""
    pools, layers = theta.rates.shape
    n = pools * layers
    D = np.diff(np.eye(layers), axis=0)
    mixing = np.kron(np.eye(pools), theta.mixing * D.T @ D)
    hand_on = np.kron(np.diag(PASSED, -1), np.eye(layers))
    inputs = np.concatenate([theta.inputs, np.zeros(n - layers)])
    M, m = np.eye(n), np.zeros(n)
    for factor in theta.season:
        decay = np.diag(1 - np.exp(-factor * theta.rates.ravel()))
        step = np.eye(n) - decay + hand_on @ decay - mixing
        M, m = step @ M, step @ m + inputs
    return np.linalg.solve(np.eye(n) - M, m).reshape(pools, layers)


def pools(seed: int, layers: int = 20, seasonal: bool = True) -> Case:
    rng = np.random.default_rng(seed)
    rates = np.array([[0.2], [5e-3], [1e-4]]) * rng.uniform(0.5, 1.5, (3, layers)) * np.exp(-np.arange(layers) / 20)
    inputs = rng.uniform(0.5, 1.5) * np.exp(-np.arange(layers) / 4)
    season = 1 + (0.7 * np.sin(np.arange(12) * np.pi / 6) if seasonal else np.zeros(12))
    theta = Pools(inputs, rates, np.asarray(rng.uniform(1e-3, 5e-3)), season)
    return Case(pools_step, np.ones((3, layers)), theta, pools_solution, "inputs")


FAMILIES: dict[str, Callable[[int], Case]] = {
    "chain of two halves": chain,
    "walk": walk,
    "households": households,
    **{
        f"programme, {'near' if near else 'far'}, {discount}": programme(discount, near)
        for near in (False, True)
        for discount in (0.95, 0.99, 0.999, 0.9999)
    },
    **{f"consumption, {discount}": consumption(discount) for discount in (0.95, 0.99, 0.999)},
    "pools of carbon": pools,
}
