"""The reference system, in every form in which a user may write it: values and derivatives to 1e-10."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix
from problems import X0, X_STAR, AsPrinted, Reference, closed_form, closed_form_hessian, reference, sister, unrolled

TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def close(actual, desired, tol=1e-10):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=0, atol=tol)


def solve(F):
    return ix.fixed_point(F, X0).x


def test_the_published_numbers():
    x, d_alpha, d_beta = closed_form(10.0, 3.0)
    close(x, X_STAR, 1e-14)
    close(d_alpha, (0.1804878, -0.13170732), 1e-8)
    close(d_beta, (0.17560976, -0.61463415), 1e-8)


# 1. An Equinox module, differentiated as a whole.


@pytest.mark.default_flags
@pytest.mark.parametrize("kind", [float, jnp.asarray])
@pytest.mark.parametrize(("alpha", "beta"), [(10.0, 3.0), (12.0, 2.5)])
def test_module_by_all_its_leaves(kind, alpha, beta):
    F = Reference(kind(alpha), kind(beta))
    x, d_alpha, d_beta = closed_form(alpha, beta)
    close(solve(F), x)
    for jacobian in (jax.jacfwd(solve)(F), jax.jacrev(solve)(F), jax.jit(jax.jacfwd(solve))(F)):
        close(jacobian.para.alpha, d_alpha)
        close(jacobian.para.beta, d_beta)
    gradient = jax.grad(lambda F: solve(F)[1])(F)
    close([gradient.para.alpha, gradient.para.beta], [d_alpha[1], d_beta[1]])
    value, tangent = jax.jvp(solve, (F,), (Reference(0.3, -0.7),))
    close(value, x)
    close(tangent, 0.3 * d_alpha - 0.7 * d_beta)
    value, pullback = jax.vjp(solve, F)
    (cotangent,) = pullback(jnp.array([2.0, -5.0]))
    close(value, x)
    close([cotangent.para.alpha, cotangent.para.beta], np.array([2.0, -5.0]) @ np.stack([d_alpha, d_beta], axis=1))


@pytest.mark.parametrize(
    "hessian",
    [
        jax.hessian,
        lambda f: jax.jacfwd(jax.jacfwd(f)),
        lambda f: jax.jacrev(jax.jacrev(f)),
        lambda f: jax.jacrev(jax.jacfwd(f)),
        lambda f: jax.jit(jax.jacrev(jax.jacfwd(f))),
    ],
    ids=["fwd-rev", "fwd-fwd", "rev-rev", "rev-fwd", "jit"],
)
def test_hessian(hessian):
    F = Reference(12.0, 2.5)
    H = hessian(solve)(F).para
    expected = closed_form_hessian(12.0, 2.5)
    close(
        [[H.alpha.para.alpha, H.alpha.para.beta], [H.beta.para.alpha, H.beta.para.beta]],
        np.moveaxis(expected, 0, -1),
        1e-8,
    )
    U = jax.jacfwd(jax.jacfwd(lambda F: unrolled(F, X0, 200)))(F).para
    close([H.alpha.para.alpha, H.beta.para.beta], [U.alpha.para.alpha, U.beta.para.beta])


def test_third_derivative():
    def scalar(alpha):
        return ix.fixed_point(reference, X0, alpha, 3.0).x[0]

    def naive(alpha):
        return unrolled(lambda x: reference(x, alpha, 3.0), jnp.asarray(X0), 200)[0]

    close(jax.grad(jax.grad(jax.grad(scalar)))(10.0), jax.jacfwd(jax.jacfwd(jax.jacfwd(naive)))(10.0))


def test_initial_guess_has_derivative_zero():
    F = Reference()
    for adjoint in (None, ix.OneStep(), ix.Neumann(3), ix.Unrolled(3)):
        by_guess = jax.jacrev(lambda x0: ix.fixed_point(F, x0, adjoint=adjoint, throw=False).x)(jnp.asarray(X0))
        np.testing.assert_array_equal(by_guess, np.zeros((2, 2)))
        _, tangent = jax.jvp(
            lambda x0: ix.fixed_point(F, x0, adjoint=adjoint, throw=False).x, (jnp.asarray(X0),), (jnp.ones(2),)
        )
        np.testing.assert_array_equal(tangent, np.zeros(2))


# 2. At parameters other than those F was built with.


def test_current_parameters_not_those_of_construction():
    F = Reference(10.0, 3.0)

    def at(alpha, beta):
        return solve(eqx.tree_at(lambda F: (F.para.alpha, F.para.beta), F, (alpha, beta)))

    by_alpha = jax.jacrev(at)(12.0, 2.5)
    close(by_alpha, (0.164, -0.110), 1e-3)
    naive = jax.jacfwd(lambda alpha: unrolled(lambda x: reference(x, alpha, 2.5), jnp.asarray(X0)))(12.0)
    close(by_alpha, naive)
    close(jax.jacfwd(at)(12.0, 2.5), naive)


# 3. The guess made inside.


def test_layer_with_constant_guess():
    layer = ix.FixedPointLayer(Reference(12.0, 2.5), init=jnp.asarray(X0))
    x, d_alpha, d_beta = closed_form(12.0, 2.5)
    close(layer(), x)
    J = jax.jacrev(lambda layer: layer())(layer)
    close(J.F.para.alpha, d_alpha)
    close(J.F.para.beta, d_beta)
    np.testing.assert_array_equal(J.init, 0)


def test_layer_with_computed_guess():
    def init_fn(F, gamma):
        return jnp.stack([F.para.alpha / 6, F.para.beta + gamma])

    class Shifted(Reference):
        def __call__(self, x, gamma):
            return super().__call__(x) + gamma - 0.5

    layer = ix.FixedPointLayer(Shifted(12.0, 2.5), init_fn=init_fn)
    x, d_alpha, _ = closed_form(12.0, 2.5)
    close(layer(0.5), x)
    J = eqx.filter_jit(eqx.filter_jacrev(lambda layer: layer(0.5)))(
        ix.FixedPointLayer(Shifted(jnp.asarray(12.0), jnp.asarray(2.5)), init_fn=init_fn)
    )
    close(J.F.para.alpha, d_alpha)
    by_alpha = jax.jacfwd(lambda alpha: ix.FixedPointLayer(Shifted(alpha, 2.5), init_fn=init_fn)(0.5))(12.0)
    close(by_alpha, d_alpha)
    close(layer(0.5, x0=jnp.asarray(X0)), x)
    assert bool(layer.solve(0.5).success)


# 4. One output only.


class Model(eqx.Module):
    F: Reference

    def __call__(self):
        return ix.fixed_point(self.F, X0).x

    def output1(self):
        return self()[0]

    def scaled(self, factor):
        return factor * self()[0]


def _alpha(gradient):
    return jax.tree.leaves(gradient)[0]


def test_bound_method_by_its_own_leaves():
    _, d_alpha, d_beta = closed_form(12.0, 2.5)
    func = Model(Reference(jnp.asarray(12.0), jnp.asarray(2.5)))

    def call(f):
        return f()

    for gradient in (eqx.filter_grad(call)(func.output1), eqx.filter_jit(eqx.filter_grad(call))(func.output1)):
        close(jax.tree.leaves(gradient), [d_alpha[0], d_beta[0]])
    # JAX's own Partial has leaves in its arguments only, so the model is one.
    for partial in (eqx.Partial(func.scaled, 2.0), jax.tree_util.Partial(Model.scaled, func, 2.0)):
        gradient = jax.tree.leaves(eqx.filter_grad(call)(partial))
        close(gradient[:2], [2 * d_alpha[0], 2 * d_beta[0]])


def test_bound_method_as_F():
    class Canopy(eqx.Module):
        alpha: jax.Array
        beta: jax.Array

        def iterate(self, x):
            return reference(x, self.alpha, self.beta)

    _, d_alpha, d_beta = closed_form(12.0, 2.5)
    J = jax.jacrev(lambda c: ix.fixed_point(c.iterate, X0).x)(Canopy(jnp.asarray(12.0), jnp.asarray(2.5)))
    close(J.alpha, d_alpha)
    close(J.beta, d_beta)


# 5. States that are pytrees.


class Var(eqx.Module):
    value: jax.Array
    name: str = eqx.field(static=True, default="")


class Pair(eqx.Module):
    first: Var
    second: Var


CONTAINERS = {
    "list": (lambda a, b: [Var(a), Var(b)], lambda x: (x[0].value, x[1].value)),
    "tuple": (lambda a, b: (Var(a, "p"), Var(b, "q")), lambda x: (x[0].value, x[1].value)),
    "dict": (lambda a, b: {"p": Var(a), "q": {"r": Var(b), "none": None}}, lambda x: (x["p"].value, x["q"]["r"].value)),
    "module": (lambda a, b: Pair(Var(a), Var(b)), lambda x: (x.first.value, x.second.value)),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("solver", [None, ix.Picard(), ix.Anderson(), ix.Newton()], ids=str)
def test_pytree_state(container, solver):
    make, read = CONTAINERS[container]

    def F(x, alpha, beta):
        F0, F1 = reference(jnp.stack(read(x)), alpha, beta)
        return make(F0, F1)

    x0 = make(jnp.asarray(1.5), jnp.asarray(3.5))

    def at(alpha, beta):
        return ix.fixed_point(F, x0, alpha, beta, solver=solver, rtol=1e-13, atol=1e-13).x

    x, d_alpha, d_beta = closed_form(12.0, 2.5)
    close(read(at(12.0, 2.5)), x)
    assert jax.tree.structure(at(12.0, 2.5)) == jax.tree.structure(x0)
    for jacobian in (jax.jacfwd, jax.jacrev):
        J = jacobian(at, argnums=(0, 1))(12.0, 2.5)
        by_leaf = read(jax.tree.map(lambda *parts: jnp.stack(parts), *[_drop(j, x0) for j in _transposed(J, x0)]))
        close(by_leaf, np.stack([d_alpha, d_beta], axis=1))


def _transposed(J, x0):
    """jacfwd and jacrev give, for argnums=(0, 1), a pair in each leaf of x; make it a pair of pytrees."""
    return [jax.tree.map(lambda _, leaf, i=i: leaf[i], x0, J) for i in range(2)]


def _drop(tree, x0):
    return jax.tree.unflatten(jax.tree.structure(x0), jax.tree.leaves(tree))


def test_state_jacobian_is_a_pytree():
    make, read = CONTAINERS["list"]

    def F(x):
        return make(*reference(jnp.stack(read(x)), 10.0, 3.0))

    x = ix.fixed_point(F, make(1.5, 3.5)).x
    J = jax.jacfwd(F)(x)
    block = [[J[i].value[j].value for j in range(2)] for i in range(2)]
    close(block, jax.jacfwd(lambda x: reference(x, 10.0, 3.0))(jnp.asarray(X_STAR)), 1e-9)


# 6. Where the parameters come from.


def test_parameters_as_args():
    _, d_alpha, d_beta = closed_form(12.0, 2.5)
    J = jax.jacrev(lambda a, b: ix.fixed_point(reference, X0, a, b).x, argnums=(0, 1))(12.0, 2.5)
    close(J, (d_alpha, d_beta))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
def test_parameters_closed_over(wrap, jacobian):
    _, d_alpha, d_beta = closed_form(12.0, 2.5)

    def at(alpha, beta):
        return ix.fixed_point(lambda x: reference(x, alpha, beta), X0).x

    close(wrap(jacobian(at, argnums=(0, 1)))(12.0, 2.5), (d_alpha, d_beta))
    close(wrap(jax.grad(lambda a: jax.jit(at)(a, 2.5)[0]))(12.0), d_alpha[0])


def test_one_parameter_as_leaf_the_other_closed_over():
    class Half(eqx.Module):
        alpha: jax.Array
        rest: object = eqx.field(static=True)

        def __call__(self, x):
            return self.rest(x, self.alpha)

    def at(alpha, beta):
        return ix.fixed_point(Half(alpha, lambda x, a: reference(x, a, beta)), X0).x

    _, d_alpha, d_beta = closed_form(12.0, 2.5)
    close(jax.jacrev(at, argnums=(0, 1))(jnp.asarray(12.0), 2.5), (d_alpha, d_beta))


# 7. The naive way.


def test_unrolled_gives_the_same():
    _, d_alpha, d_beta = closed_form(12.0, 2.5)

    def at(alpha, beta):
        return ix.fixed_point(reference, X0, alpha, beta, adjoint=ix.Unrolled(1000)).x

    for jacobian in (jax.jacfwd, jax.jacrev):
        close(jacobian(at, argnums=(0, 1))(12.0, 2.5), (d_alpha, d_beta))
    assert int(ix.fixed_point(reference, X0, 12.0, 2.5, adjoint=ix.Unrolled(1000)).nit) == 1000


# 8. As a root.


def test_as_a_root():
    _, d_alpha, d_beta = closed_form(12.0, 2.5)

    def at(alpha, beta):
        return ix.root(lambda x: reference(x, alpha, beta) - x, X0, solver=ix.Newton()).x

    close(jax.jacrev(at, argnums=(0, 1))(12.0, 2.5), (d_alpha, d_beta))


@pytest.mark.parametrize("sign", [1, -1])
def test_sister_system(sign):
    sol = ix.root(sister, sign * np.array([1.0, 1.5]), 4.0, 1.0)
    close(sol.x, sign * np.array([1.174, 1.619]), 1e-3)
    close(sister(sol.x, 4.0, 1.0), 0)
    a, b = np.asarray(sol.x)
    A = np.array([[2 * a, 2 * b], [3 * a**2, -1]])
    expected = np.linalg.solve(A, np.array([[1.0, 0.0], [0.0, -(a**3)]]))
    for jacobian in (jax.jacfwd, jax.jacrev):
        J = jacobian(lambda p, q: ix.root(sister, sign * np.array([1.0, 1.5]), p, q).x, argnums=(0, 1))(4.0, 1.0)
        close(np.stack(J, axis=1), expected)


# 9. Debugging flags and precisions.


def test_debug_nans_and_infs():
    _, d_alpha, _ = closed_form(12.0, 2.5)
    with jax.debug_nans(True), jax.debug_infs(True):
        for f in (solve, jax.jit(solve)):
            close(f(Reference(12.0, 2.5)), closed_form(12.0, 2.5)[0])
            close(jax.jacrev(f)(Reference(12.0, 2.5)).para.alpha, d_alpha)
            close(jax.jacfwd(f)(Reference(12.0, 2.5)).para.alpha, d_alpha)
        for solver in (ix.Picard(), ix.Anderson(), ix.Newton()):
            close(ix.fixed_point(Reference(), X0, solver=solver).x, X_STAR, 1e-9)


@pytest.mark.default_flags
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("solver", [None, ix.Picard(), ix.Anderson(), ix.Newton()], ids=str)
def test_float32(x64, solver):
    x, d_alpha, _ = closed_form(12.0, 2.5)
    with jax.enable_x64(x64):
        F = Reference(jnp.float32(12.0), jnp.float32(2.5))
        x0 = jnp.asarray(X0, jnp.float32)
        sol = ix.fixed_point(F, x0, solver=solver)
        assert sol.x.dtype == jnp.float32
        close(sol.x, x, 1e-3)
        J = jax.jacrev(lambda F: ix.fixed_point(F, x0, solver=solver).x)(F)
        assert J.para.alpha.dtype == jnp.float32
        close(J.para.alpha, d_alpha, 1e-3)


# 10. Transformations.


def test_vmap_over_a_thousand():
    rng = np.random.default_rng(0)
    alphas, betas = rng.uniform(9, 13, 1000), rng.uniform(2.5, 3.5, 1000)

    def at(alpha, beta):
        return ix.fixed_point(reference, X0, alpha, beta).x

    xs = jax.vmap(at)(alphas, betas)
    gradients = jax.vmap(jax.grad(lambda a, b: at(a, b)[0], argnums=(0, 1)))(alphas, betas)
    summed = jax.grad(lambda a, b: jax.vmap(at)(a, b)[:, 0].sum(), argnums=(0, 1))(alphas, betas)
    jitted = jax.jit(jax.vmap(jax.grad(lambda a: at(a, 3.0)[0])))(alphas)
    for i in (0, 17, 999):
        x, d_alpha, d_beta = closed_form(alphas[i], betas[i])
        close(xs[i], x)
        close([gradients[0][i], gradients[1][i]], [d_alpha[0], d_beta[0]])
        close([summed[0][i], summed[1][i]], [d_alpha[0], d_beta[0]])
        close(jitted[i], closed_form(alphas[i], 3.0)[1][0])


def test_nested_vmap_and_axes():
    alphas, betas = jnp.linspace(9.0, 13.0, 4), jnp.linspace(2.5, 3.5, 3)

    def at(alpha, beta):
        return ix.fixed_point(reference, X0, alpha, beta).x

    grid = jax.vmap(jax.vmap(at, (None, 0)), (0, None))(alphas, betas)
    other = jax.vmap(jax.vmap(at, (0, None), out_axes=1), (None, 0), out_axes=1)(alphas, betas)
    for i, j in ((0, 0), (3, 2), (1, 1)):
        close(grid[i, j], closed_form(alphas[i], betas[j])[0])
        close(other[:, j, i], closed_form(alphas[i], betas[j])[0])


def test_inside_scan_and_cond_and_checkpoint():
    def at(alpha):
        return ix.fixed_point(reference, X0, alpha, 3.0).x

    def scanned(alphas):
        return jax.lax.scan(lambda total, a: (total + at(a)[0], None), 0.0, alphas)[0]

    alphas = jnp.array([9.5, 10.0, 12.0])
    expected = [closed_form(a, 3.0)[1][0] for a in alphas]
    close(jax.grad(scanned)(alphas), expected)
    close(jax.grad(jax.checkpoint(scanned))(alphas), expected)

    def branch(a):
        # Under vmap both branches run for every lane, so a lane that would not have come here must not throw.
        solve = lambda a: ix.fixed_point(reference, X0, a, 3.0, throw=False).x[0]
        return jax.lax.cond(a > 0, solve, lambda a: a, a)

    close(jax.grad(branch)(12.0), closed_form(12.0, 3.0)[1][0])
    close(jax.jvp(jax.jit(branch), (12.0,), (1.0,))[1], closed_form(12.0, 3.0)[1][0])
    close(jax.vmap(jax.grad(branch))(jnp.array([12.0, -1.0])), [closed_form(12.0, 3.0)[1][0], 1.0])


# 11. Where F is not finite.


def test_guess_outside_the_domain():
    for solver in (ix.Picard(), ix.Anderson(), ix.Newton()):
        with pytest.raises(ix.ConvergenceError, match=r"NaN or infinite.*domain.*at x0, first in .*x0\[0\]"):
            ix.fixed_point(Reference(), jnp.array([4.0, 4.0]), solver=solver)
    close(ix.fixed_point(Reference(), jnp.array([4.0, 4.0])).x, [2.0, 3.0])  # by default from a point around it


def test_later_iterate_outside_the_domain():
    def F(x, a):
        return jnp.sqrt(a - 8 * x)

    with pytest.raises(ix.ConvergenceError, match=r"`fixed_point`.*Picard.*at iteration 1, first in .*x0"):
        ix.fixed_point(F, 0.0, 4.0, solver=ix.Picard())
    exact = -4 + np.sqrt(20)
    for solver in (None, ix.Anderson(), ix.Newton()):
        close(ix.fixed_point(F, 0.0, 4.0, solver=solver).x, exact)
    close(jax.grad(lambda a: ix.fixed_point(F, 0.0, a).x)(4.0), 0.5 / np.sqrt(20))


# 12. The form as printed.


def test_as_printed():
    F = AsPrinted(10.0, 3.0)
    eigenvalues = np.linalg.eigvals(jax.jacfwd(F)(jnp.asarray(X_STAR)))
    assert np.min(eigenvalues.real) == pytest.approx(-1.10, abs=5e-3)
    with pytest.raises(ix.ConvergenceError, match="Picard"):
        ix.fixed_point(F, X0, solver=ix.Picard())
    x, d_alpha, d_beta = closed_form(12.0, 2.5)
    for solver in (None, ix.Newton(), ix.Picard(damping=0.5)):
        J = jax.jacrev(lambda F: ix.fixed_point(F, X0, solver=solver, **TIGHT).x)(AsPrinted(12.0, 2.5))
        close(ix.fixed_point(AsPrinted(12.0, 2.5), X0, solver=solver, **TIGHT).x, x, 1e-9)
        close(J.para.alpha, d_alpha, 1e-9)
        close(J.para.beta, d_beta, 1e-9)
