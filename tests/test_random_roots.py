"""Systems drawn at random, on which no method was tuned; `benchmarks/random_roots.py` has more of them, and peers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems.random_roots import DISTANCES, draw

SYSTEMS = draw(seed=1, sizes=1, each=4)
GROUPS = {family: list(group) for family, group in itertools.groupby(SYSTEMS, key=lambda system: system.family)}


@pytest.mark.parametrize("family", GROUPS)
def test_auto_solves_most_and_says_so_of_no_other(family):
    systems = GROUPS[family]
    p = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(system.p for system in systems))
    solve = jax.vmap(lambda x0, p: ix.root(systems[0].R, x0, p, throw=False), in_axes=(0, None))
    sol = jax.jit(jax.vmap(solve))(np.stack([system.starts for system in systems]), p)
    for system, xs, solved in zip(systems, np.asarray(sol.x), np.asarray(sol.success)):
        for x in xs[solved]:
            np.testing.assert_array_less(np.abs(system.R(x, system.p)) / system.units, 1e-7)
    assert sol.success.shape == (len(systems), len(DISTANCES))
    # Some starts lead nowhere: of the trigonometric family about half do, whatever the solver.
    assert np.mean(sol.success) >= (0.3 if family == "trigonometric" else 0.8)


def test_the_root_is_one():
    """So every system has a solution."""
    for system in SYSTEMS:
        np.testing.assert_allclose(system.R(system.x_star, system.p) / system.units, 0, atol=1e-12)
