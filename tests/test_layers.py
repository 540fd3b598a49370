"""The layers as Equinox modules, and the Solution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems import X0, Reference, closed_form, sister


def close(actual, desired, tol=1e-10):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=0, atol=tol)


def test_root_layer():
    layer = ix.RootLayer(sister, init=jnp.array([1.0, 1.5]))
    x = layer(4.0, 1.0)
    close(sister(x, 4.0, 1.0), 0)
    close(layer(4.0, 1.0, x0=-jnp.array([1.0, 1.5])), -x)
    sol = layer.solve(4.0, 1.0)
    assert sol.solver.startswith("Ladder")
    direct = jax.jacrev(lambda a: ix.root(sister, jnp.array([1.0, 1.5]), a, 1.0).x)(4.0)
    close(jax.jacrev(layer)(4.0, 1.0), direct)


def test_keywords_are_those_of_the_function():
    layer = ix.FixedPointLayer(Reference(), init=jnp.asarray(X0), solver=ix.Picard(), max_steps=2, throw=False)
    sol = layer.solve()
    assert int(sol.status) == ix.Status.STEP_LIMIT
    assert int(sol.nit) == 2
    with pytest.raises(TypeError, match=r"`FixedPointLayer\(tolerance=...\)`: expected one of the keywords"):
        ix.FixedPointLayer(Reference(), init=jnp.asarray(X0), tolerance=1e-3)()


def test_layer_in_a_network_under_jit_and_vmap():
    class Network(eqx.Module):
        encode: eqx.nn.Linear
        layer: ix.FixedPointLayer

        def __call__(self, u):
            return self.layer(self.encode(u))

    class Cell(eqx.Module):
        weight: jax.Array

        def __call__(self, x, u):
            return jnp.tanh(self.weight @ x + u)

    key1, key2 = jax.random.split(jax.random.key(0))
    network = Network(
        eqx.nn.Linear(3, 5, key=key1),
        ix.FixedPointLayer(Cell(0.3 * jax.random.normal(key2, (5, 5))), init=jnp.zeros(5)),
    )
    u = jax.random.normal(jax.random.key(1), (4, 3))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(network):
        return jnp.sum(jax.vmap(network)(u) ** 2)

    def loss_at(weight):
        changed = eqx.tree_at(lambda n: n.layer.F.weight, network, weight)
        return float(jnp.sum(jax.vmap(changed)(u) ** 2))

    weight, step = network.layer.F.weight, 1e-6
    direction = jax.random.normal(jax.random.key(2), (5, 5))
    difference = (loss_at(weight + step * direction) - loss_at(weight - step * direction)) / (2 * step)
    close(jnp.vdot(gradient(network).layer.F.weight, direction), difference, 1e-7)
    assert jax.tree.structure(network) == jax.tree.structure(jax.tree.map(lambda leaf: leaf, network))


def test_warm_start():
    layer = ix.FixedPointLayer(Reference(12.0, 2.5), init=jnp.asarray(X0))
    cold = layer.solve()
    warm = layer.solve(x0=cold.x)
    assert int(warm.nit) <= 1 < int(cold.nit)
    close(warm.x, closed_form(12.0, 2.5)[0])


def test_solution_is_a_pytree_and_its_message_is_the_hosts():
    F = Reference()
    sol = jax.jit(lambda F: ix.fixed_point(F, X0, throw=False))(F)
    assert bool(sol.success)
    assert sol.message.startswith("Converged")
    with pytest.raises(TypeError, match=r"`Solution\.message`: expected concrete numbers, got a traced"):
        jax.jit(lambda F: ix.fixed_point(F, X0).message)(F)
    batch = jax.vmap(lambda a: ix.fixed_point(Reference(a), X0, throw=False))(jnp.array([10.0, -1.0, -2.0]))
    assert "2 of 3 solves failed, at indices 1, 2." in batch.message
    good = jax.vmap(lambda a: ix.fixed_point(Reference(a), X0, throw=False))(jnp.array([10.0, 11.0]))
    assert good.message.startswith("2 of 2 solves: Converged")
