"""Batches of fixed points as models have them: not normal, kinked, in mixed units, weakly coupled; drawn from a seed.

In units of each unknown, z = (x − x*)/s, the map of a row is `x* + s·clip(J w(z) + u max(c·z − d, 0) + coupling)`: the
eigenvalues of J and the condition of its eigenvectors are prescribed, `w` bends each component at a distance of its
own, the branch changes J by rank one, `clip` is that of a model that keeps its variables in range, and the coupling,
of rank two, is by the mean over the rows. At x* all of it is 0, so ∂x*/∂x* = I is a derivative in closed form.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

REFLECTIONS = 3
LEAVES = 5  # of the state, as of temperatures, pressures and fluxes, each in a unit of its own

State = tuple[Float[Array, "rows some"], ...]


def split(x: Float[Array, "rows n"]) -> State:
    return tuple(jnp.array_split(x, LEAVES, axis=1))


class Batch(NamedTuple):
    """The arrays of the map; rows along axis 0. As an argument of `step`, so that many draws are one program."""

    star: Float[Array, "rows n"]
    unit: Float[Array, " n"]
    eigenvalues: Float[Array, "rows n"]
    stretch: Float[Array, "rows n"]  # singular values of the eigenvectors
    inner: Float[Array, "rows 3 n"]  # normals of the reflections on either side of these
    outer: Float[Array, "rows 3 n"]
    bend: Float[Array, "rows n"]  # where `w` bends, infinite where it does not,
    slope: Float[Array, "rows n"]  # and by how much
    u: Float[Array, "rows n"]
    c: Float[Array, "rows n"]
    d: Float[Array, " rows"]  # infinite where there is no branch
    low: Float[Array, "rows n"]
    high: Float[Array, "rows n"]
    left: Float[Array, "2 n"]
    right: Float[Array, "2 n"]
    away: Float[Array, "rows n"]  # x0 from x*, in units

    @property
    def x0(self) -> State:
        return split(self.star + self.unit * self.away)


class Family(NamedTuple):
    """What is prescribed. Each row draws its own largest eigenvalue, condition, and kinks within these."""

    rows: int
    unknowns: int
    condition: float = 1e2  # of the eigenvectors, up to
    lowest: float = -3.0
    highest: float = 0.99
    kinks: tuple[str, ...] = ("clip", "where", "branch")
    decades: float = 5.0  # of the units, up and down
    coupling: float = 0.02
    away: float = 1.0  # x0 from the solution, in units

    def draw(self, seed: int) -> Batch:
        rng, n, shape = np.random.default_rng(seed), self.unknowns, (self.rows, self.unknowns)
        decades = rng.uniform(-self.decades, self.decades, LEAVES)
        unit = np.concatenate([np.full(a.shape, 10.0**d) for a, d in zip(np.array_split(np.zeros(n), LEAVES), decades)])
        normals = rng.normal(size=(2, self.rows, REFLECTIONS, self.unknowns))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        condition = self.condition ** rng.uniform(0, 1, (self.rows, 1))
        star = unit * (1.5 + rng.normal(size=shape))
        far = lambda size: 10.0 ** rng.uniform(-3, 0.5, size)  # of a kink from the solution

        def of(kink: str, value: np.ndarray, none: float) -> np.ndarray:
            return value if kink in self.kinks else np.full_like(value, none)

        bends = rng.choice([-1.0, 1.0], shape) * np.where(rng.uniform(size=shape) < 0.3, far(shape), np.inf)
        branch = rng.normal(size=(2, *shape)) / self.unknowns**0.5
        clipped = rng.uniform(size=(2, *shape)) < 0.3
        return Batch(
            star=star,
            unit=unit,
            eigenvalues=self._spectrum(rng),
            stretch=condition ** rng.uniform(0, 1, shape),
            inner=normals[0],
            outer=normals[1],
            bend=of("where", bends, np.inf),
            slope=rng.uniform(-0.5, 1.5, shape),
            u=branch[0],
            c=branch[1],
            d=of("branch", far(self.rows), np.inf),
            low=of("clip", np.where(clipped[0], -far(shape), -np.inf), -np.inf),
            high=of("clip", np.where(clipped[1], far(shape), np.inf), np.inf),
            left=rng.normal(size=(2, self.unknowns)) / self.unknowns**0.5,
            right=self.coupling * rng.normal(size=(2, self.unknowns)) / self.unknowns**0.5,
            away=self.away * rng.normal(size=shape),
        )

    def _spectrum(self, rng: np.random.Generator) -> np.ndarray:
        """A tenth of the unknowns below −1, most of them small, as of a model in which few feedbacks are strong."""
        shape = (self.rows, self.unknowns)
        highest = 1 - (1 - self.highest) ** rng.uniform(0.1, 1, (self.rows, 1))
        lowest = self.lowest * rng.uniform(0, 1, (self.rows, 1))
        strong = rng.uniform(size=shape) < 0.1
        values = np.where(strong, rng.uniform(lowest, highest, shape), 0.3 * rng.uniform(-1, 1, shape))
        values[:, :1], values[:, 1:2] = lowest, highest
        return values


def _reflect(y: Any, normals: Any) -> Any:
    for i in range(REFLECTIONS):
        v = normals[:, i]
        y = y - 2 * v * jnp.sum(v * y, axis=1, keepdims=True)
    return y


def _rotate(y: Any, normals: Any, back: bool = False) -> Any:
    return _reflect(y, normals[:, ::-1] if back else normals)


def step(x: State, p: Batch) -> State:
    """F, of all rows together."""
    z = (jnp.concatenate(x, axis=1) - p.star) / p.unit
    beyond = jnp.where(jnp.isinf(p.bend), 0.0, jnp.maximum(z * jnp.sign(p.bend) - jnp.abs(p.bend), 0.0))
    w = z + jnp.sign(p.bend) * (p.slope - 1) * beyond
    # J = V Λ V⁻¹ of V = Q stretch P, of which Q and P are products of reflections.
    y = _rotate(_rotate(w, p.outer) / p.stretch, p.inner)
    y = _rotate(p.stretch * _rotate(p.eigenvalues * y, p.inner, back=True), p.outer, back=True)
    y = y + p.u * jnp.maximum(jnp.sum(p.c * z, axis=1, keepdims=True) - p.d[:, None], 0.0)
    y = y + jnp.mean(z @ p.right.T, axis=0) @ p.left
    return split(p.star + p.unit * jnp.clip(y, p.low, p.high))


FAMILIES = {
    "normal": Family(48, 60, condition=1.0, kinks=()),
    "not normal": Family(48, 60, condition=1e4, kinks=()),
    "kinks": Family(48, 60, condition=1.0),
    "kinks, not normal": Family(48, 60, condition=1e2),
    "kinks, far from normal": Family(48, 60, condition=1e4),
    "few unknowns": Family(400, 20, condition=1e2),
    "many unknowns": Family(48, 250, condition=1e2),
    "slow": Family(48, 60, condition=1e2, highest=0.999),
    "far": Family(48, 60, condition=1e2, away=10.0),
    "canopy": Family(48, 200, condition=30.0, highest=0.9),
}
