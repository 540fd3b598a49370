"""`history=`, `progress=`, `callback=` and `plot_convergence`."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix


def slow(x, a):
    """The fixed point is 1, and plain iteration takes the distance from it times a."""
    return 1 + a * (x - 1)


def test_the_history_is_that_of_plain_iteration():
    sol = ix.fixed_point(slow, 3.0, 0.9, solver=ix.Picard(), history=True)
    count = int(sol.nfev)
    assert sol.history.residual.shape == (1000,)
    expected = 0.2 * 0.9 ** np.arange(count)
    np.testing.assert_allclose(sol.history.residual[:count], expected, rtol=1e-6)
    np.testing.assert_allclose(sol.history.step[:count], expected, rtol=1e-6)
    assert np.all(sol.history.residual[count:] == -1)
    assert int(sol.history.every) == 1
    # In units of the tolerance the last entry is the first that is at most 1.
    assert float(sol.history.error[count - 1]) <= 1 < float(sol.history.error[count - 2])


def test_a_long_history_is_thinned():
    sol = ix.fixed_point(slow, 3.0, 0.999, solver=ix.Picard(), history=True, max_steps=50_000)
    every, count = int(sol.history.every), int(sol.nfev)
    assert count > 4000
    assert every == 2 ** int(np.ceil(np.log2(count / 1000)))
    known = int(np.sum(np.asarray(sol.history.residual) >= 0))
    assert known == -(-count // every)
    np.testing.assert_allclose(sol.history.residual[:known], 0.002 * 0.999 ** (every * np.arange(known)), rtol=1e-4)


def test_a_lane_has_its_own_history():
    rates = jnp.array([0.5, 0.9, 0.99])
    solve = lambda a: ix.fixed_point(slow, 3.0, a, solver=ix.Picard(), history=True, max_steps=5000)
    sol = jax.jit(jax.vmap(solve))(rates)
    assert sol.history.residual.shape == (3, 1000)
    for i, rate in enumerate(np.asarray(rates)):
        alone = solve(rate)
        np.testing.assert_allclose(sol.history.residual[i], alone.history.residual, rtol=1e-9)
        assert int(sol.history.every[i]) == int(alone.history.every)


def test_rows_have_their_own_history():
    F = lambda x, a: 1 + a[:, None] * (x - 1)
    a = jnp.array([0.5, 0.9])
    sol = ix.fixed_point(F, jnp.full((2, 3), 3.0), a, batch_axis=0, solver=ix.Picard(), history=True)
    np.testing.assert_allclose(sol.history.residual[1, :20], 0.2 * 0.9 ** np.arange(20), rtol=1e-6)
    # The first row stays where it is when it has ended.
    np.testing.assert_allclose(sol.history.residual[0, :20], 1.0 * 0.5 ** np.arange(20), rtol=1e-6)
    last = int(np.max(sol.nfev)) - 1
    assert float(sol.history.step[0, last]) == 0


def test_a_failed_solve_has_a_history():
    sol = ix.fixed_point(lambda x: 2 * x, 1.0, solver=ix.Picard(), history=True, throw=False, max_steps=30)
    np.testing.assert_allclose(sol.history.residual[:31], 2.0 ** np.arange(31))
    bad = ix.fixed_point(lambda x: jnp.log(x) - 1, 1.0, solver=ix.Picard(), history=True, throw=False)
    assert np.isinf(float(bad.history.residual[int(bad.nfev) - 1]))


@pytest.mark.parametrize("solver", [ix.Auto(), ix.Anderson(), ix.Newton(), ix.PseudoTransient()], ids=str)
def test_the_history_ends_with_the_residual_of_the_solution(solver):
    F = lambda x, b: jnp.tanh(jnp.array([[0.2, -0.9], [0.7, 0.1]]) @ x + b)
    sol = ix.fixed_point(F, jnp.zeros(2), jnp.array([0.3, 0.1]), solver=solver, history=True)
    np.testing.assert_allclose(sol.history.residual[int(sol.nfev) - 1], sol.residual)
    without = ix.fixed_point(F, jnp.zeros(2), jnp.array([0.3, 0.1]), solver=solver)
    np.testing.assert_allclose(sol.x, without.x, rtol=1e-9)
    assert without.history is None


def test_it_does_not_touch_the_derivative():
    solve = lambda a: (
        ix.fixed_point(slow, 3.0, a, history=True).x ** 2 + ix.root(lambda x: x**2 - a, 1.0, history=True).x
    )
    np.testing.assert_allclose(jax.grad(solve)(0.25), 0.5 * 0.25**-0.5, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.hessian(solve))(0.25), -0.25 * 0.25**-1.5, rtol=1e-9)


def test_a_bar(capfd):
    sol = ix.fixed_point(slow, 3.0, 0.9, solver=ix.Picard(), progress=True)
    jax.effects_barrier()
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.search(rf"fixed_point.*evaluation {int(sol.nfev)}, max\|residual\| \d\.\de-1", shown.err)


def test_a_bar_inside_jit_vmap_and_grad(capfd):
    loss = lambda a: jnp.sum(jax.vmap(lambda a: ix.fixed_point(slow, 3.0, a, solver=ix.Picard(), progress=True).x)(a))
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.array([0.5, 0.9])), 0, atol=1e-8)
    jax.effects_barrier()
    # That of the slower lane.
    count = int(ix.fixed_point(slow, 3.0, 0.9, solver=ix.Picard()).nfev)
    assert f"evaluation {count}" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["history", "progress"])
def test_what_is_refused(name):
    with pytest.raises(TypeError, match=rf"^`fixed_point\({name}=...\)`: expected True or False, got 3\."):
        ix.fixed_point(slow, 3.0, 0.9, **{name: 3})
    solver = optx.FixedPointIteration(rtol=1e-9, atol=1e-9)
    for keywords in ({"solver": solver}, {"adjoint": ix.Unrolled(10)}):
        with pytest.raises(ValueError, match=rf"^`fixed_point\({name}=...\)`: expected False with this"):
            ix.fixed_point(slow, 3.0, 0.9, **keywords, **{name: True})


def told(solve):
    """What `solve(callback)` returns, and what the callback was told."""
    seen = []
    result = solve(seen.append)
    jax.effects_barrier()
    return result, seen


def test_a_callback_is_told_of_each_evaluation():
    F = lambda x: {"T": 1 + 0.9 * (x["T"] - 1)}
    sol, seen = told(lambda tell: ix.fixed_point(F, {"T": 3.0}, solver=ix.Picard(), callback=tell))
    assert [at.nfev for at in seen] == list(range(1, int(sol.nfev) + 1))
    np.testing.assert_allclose([at.x["T"] for at in seen], 1 + 2 * 0.9 ** np.arange(len(seen)), rtol=1e-9)
    np.testing.assert_allclose([at.residual for at in seen], 0.2 * 0.9 ** np.arange(len(seen)), rtol=1e-6)
    assert seen[-1].error <= 1 < seen[-2].error
    assert seen[-1].x["T"] == sol.x["T"]
    assert str(seen[0]) == f"evaluation 1: max|residual| 0.2, {seen[0].error:.3g} tolerances"


def test_print_is_a_callback(capfd):
    ix.root(lambda x: x**2 - 2, 1.0, callback=print)
    jax.effects_barrier()
    assert capfd.readouterr().out.startswith("evaluation 1: max|residual| 1, ")


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, lambda solve: jax.jit(jax.grad(solve))])
def test_a_callback_inside_of_transformations(transform):
    solve = lambda tell: transform(lambda a: ix.fixed_point(slow, 3.0, a, solver=ix.Picard(), callback=tell).x)(0.9)
    _, seen = told(solve)
    assert len(seen) == int(ix.fixed_point(slow, 3.0, 0.9, solver=ix.Picard()).nfev)


def test_a_callback_of_lanes_and_of_rows():
    a = jnp.array([0.5, 0.9])
    one = lambda tell: jax.vmap(lambda a: ix.fixed_point(slow, 3.0, a, solver=ix.Picard(), callback=tell).x)
    _, seen = told(lambda tell: one(tell)(a))
    assert sorted(float(at.residual) for at in seen if at.nfev == 1) == pytest.approx([0.2, 1.0])
    F = lambda x, a: 1 + a * (x - 1)
    keywords = {"batch_axis": 1, "solver": ix.Picard()}
    sol, seen = told(lambda tell: ix.fixed_point(F, jnp.full((3, 2), 3.0), a, callback=tell, **keywords))
    assert seen[0].x.shape == (3, 2)
    np.testing.assert_allclose(seen[0].residual, [1.0, 0.2], rtol=1e-6)
    np.testing.assert_allclose(seen[-1].x, sol.x)


def test_a_callback_changes_nothing():
    F = lambda x, b: jnp.tanh(jnp.array([[0.2, -0.9], [0.7, 0.1]]) @ x + b)
    solve = lambda b, **keywords: ix.fixed_point(F, jnp.zeros(2), b, **keywords).x
    b = jnp.array([0.3, 0.1])
    (x, derivative), _ = told(lambda tell: (solve(b, callback=tell), jax.jacrev(lambda b: solve(b, callback=tell))(b)))
    np.testing.assert_allclose(x, solve(b), rtol=1e-9)
    np.testing.assert_allclose(derivative, jax.jacrev(solve)(b), rtol=1e-7)


def test_the_same_callback_compiles_nothing_anew(caplog):
    solve = lambda: ix.fixed_point(slow, 3.0, 0.7, callback=print)
    solve()
    with jax.log_compiles():
        solve()
    assert not [record for record in caplog.records if record.getMessage().startswith("Compiling")]


def test_callbacks_that_are_refused():
    with pytest.raises(
        TypeError, match=r"^`fixed_point\(callback=...\)`: expected a function of one record, .*, got 3\."
    ):
        ix.fixed_point(slow, 3.0, 0.9, callback=3)
    for keywords in ({"solver": optx.FixedPointIteration(1e-9, 1e-9)}, {"adjoint": ix.Unrolled(10)}):
        with pytest.raises(ValueError, match=r"^`fixed_point\(callback=...\)`: expected none with this"):
            ix.fixed_point(slow, 3.0, 0.9, **keywords, callback=print)


def test_a_bar_needs_rich(monkeypatch):
    monkeypatch.setattr("implicitax._errors.keywords.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"^`root\(progress=...\)`: expected the package rich, .*, got none\. .*implicitax\[cli\]"
    ):
        ix.root(lambda x: x**2 - 2, 1.0, progress=True)


def test_a_figure_of_one_solve():
    sol = ix.fixed_point(slow, 3.0, 0.9, solver=ix.Picard(), history=True)
    figure = ix.plot_convergence(sol)
    (ax,) = figure.axes
    step, residual = ax.lines
    assert (step.get_label(), residual.get_label()) == ("step", "residual")
    np.testing.assert_allclose(residual.get_ydata()[:50], 0.2 * 0.9 ** np.arange(50), rtol=1e-6)
    assert ax.get_yscale() == "log"


def test_a_figure_of_many_lanes_one_of_which_has_failed():
    rates = jnp.linspace(0.3, 0.9, 30).at[7].set(1.5)
    solve = lambda a: ix.fixed_point(slow, 3.0, a, solver=ix.Picard(), history=True, throw=False, max_steps=3000)
    figure = ix.plot_convergence(jax.vmap(solve)(rates))
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "step, median of 30",
        "residual, median of 30",
        "residual of lane 7, not solved",
    ]
    figure.canvas.draw()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize("given", ["a string", "no history"])
def test_a_figure_of_what_has_no_history(given):
    sol = given if given == "a string" else ix.fixed_point(slow, 3.0, 0.9)
    with pytest.raises(ValueError, match=r"^`plot_convergence\(sol\)`: expected a `Solution` with a history"):
        ix.plot_convergence(sol)
