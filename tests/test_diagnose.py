"""`diagnose`: planted faults are found by the words of the report, healthy problems left alone, nothing is raised."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix
from problems.reference import X0, reference


def codes(report: ix.Diagnosis, severity: str = "error") -> set[str]:
    return {finding.code for finding in report.findings if finding.severity == severity}


def words(report: ix.Diagnosis) -> str:
    """The report as one line: how it is wrapped does not matter."""
    return " ".join(str(report).split())


# Healthy problems.


@pytest.fixture(scope="module")
def healthy() -> ix.Diagnosis:
    with jax.enable_x64(True):
        return ix.diagnose(reference, X0, 10.0, 3.0)


def test_a_healthy_problem(healthy):
    assert healthy.healthy
    assert not codes(healthy)
    assert str(healthy).startswith("The answer is right: max|F(x) − x| = ")
    assert "its gradient agrees with finite differences to" in words(healthy)
    assert healthy.recommended.startswith("ix.fixed_point(F, x0, *args)")
    # The eigenvalues of ∂F/∂x at (2, 3), in closed form: F₀' = (−x₁, −x₀) / (2 F₀), and F₁ follows.
    J = np.asarray(jax.jacfwd(lambda x: reference(x, 10.0, 3.0))(jnp.array([2.0, 3.0])))
    assert healthy.local is not None
    np.testing.assert_allclose(sorted(healthy.local.eigenvalues.real), sorted(np.linalg.eigvals(J).real), rtol=1e-6)
    np.testing.assert_allclose(healthy.local.condition, np.linalg.cond(np.eye(2) - J), rtol=1e-6)
    assert healthy.picard is not None
    np.testing.assert_allclose(healthy.picard.rate, healthy.local.radius, rtol=1e-3)
    picard = ix.fixed_point(reference, X0, 10.0, 3.0, solver=ix.Picard())
    assert healthy.picard.needed == int(picard.nit)


def test_its_derivatives_are_those_of_the_parameters(healthy):
    assert [p.name for p in healthy.parameters] == ["args[0]", "args[1]"]
    for p in healthy.parameters:
        np.testing.assert_allclose([p.forward, p.reverse, p.unrolled], 3 * [p.differences], rtol=1e-8)
        assert 0 <= p.uncertainty < 1e-6 * abs(p.differences)


def test_it_shows_itself(healthy, tmp_path):
    figure = healthy.plot()
    figure.savefig(tmp_path / "figure.png")
    assert [ax.get_title() for ax in figure.axes] == [
        "Convergence",
        "Eigenvalues of ∂F/∂x",
        "Error of the derivative",
    ]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    html = healthy._repr_html_()
    assert "args[1]" in html
    assert html.count("<table>") == html.count("</table>") == 4
    numbers = json.loads(json.dumps(healthy.to_dict()))
    assert numbers["healthy"] is True
    assert numbers["parameters"][1]["name"] == "args[1]"
    assert set(numbers["local"]["eigenvalues"][0]) == {"real", "imag"}


def test_a_healthy_root():
    R = lambda x, a: {"p": x["p"] ** 2 - a["u"], "q": x["p"] * x["q"] - a["v"]}
    report = ix.diagnose(R, {"p": 1.0, "q": 1.0}, {"u": 2.0, "v": 3.0}, kind="root")
    assert report.healthy
    assert report.picard is None
    assert [p.name for p in report.parameters] == ["args[0]['u']", "args[0]['v']"]
    assert report.recommended.startswith("ix.root(R, x0, *args")
    np.testing.assert_allclose(sorted(report.local.eigenvalues.real), [2**0.5, 8**0.5])  # ∂R/∂x is triangular


def test_a_large_one_without_a_matrix():
    n = 20_000
    shift = lambda x, b: 0.9 * jnp.tanh(jnp.roll(x, 1) + b)
    report = ix.diagnose(shift, jnp.zeros(n), 0.1 * jnp.sin(jnp.arange(n)))
    assert report.healthy
    assert report.local.condition is None
    assert not report.local.complete
    assert 0.5 < report.local.radius < 0.9
    assert "I − ∂F/∂x" not in str(report)


# The five planted faults: each is in the verdict, or among the errors, in words that say what to do.


@pytest.mark.parametrize("traced", [False, True], ids=["by the trace", "by the numbers"])
def test_fault_the_state_is_an_output_that_the_next_iteration_ignores(traced):
    """The true state, `inner`, begins anew in each call. `0 *` keeps F from being constant to the eye."""

    def F(x, k):
        inner = jax.lax.fori_loop(0, 15, lambda _, inner: jnp.tanh(k * inner + 1), jnp.zeros(2) + 0 * x["flux"])
        return {"flux": 3 * inner}

    def F_plainly(x, k):
        return {"flux": 3 * jax.lax.fori_loop(0, 15, lambda _, inner: jnp.tanh(k * inner + 1), jnp.zeros(2))}

    report = ix.diagnose(F if traced else F_plainly, {"flux": jnp.ones(2)}, jnp.array([0.3, 0.5]))
    assert not report.healthy
    said = words(report)
    if traced:
        assert "state-ignored: F does not depend on its state: ∂F/∂x = 0 for all of x0['flux']" in said
        assert "its implicit derivative that of one step" in said
    else:
        assert "expected F to depend on x" in report.verdict
        assert "the state given is an output that the next iteration ignores" in said


def test_fault_a_derivative_by_hand_that_drops_parameters():
    @jax.custom_jvp
    def rate(T, para, wind):
        return para * jnp.exp(-T) * wind

    @rate.defjvp
    def _(primals, tangents):
        T, para, wind = primals
        return rate(*primals), wind * jnp.exp(-T) * (tangents[1] - para * tangents[0])  # and nothing for the wind

    report = ix.diagnose(lambda T, para, wind: 300 + rate(T - 300, para, wind), 300.5, 0.4, 1.5)
    assert codes(report) == {"derivative-cut"}
    assert "the derivative with respect to args[1] is cut off inside f" in report.verdict.lower()
    assert "a `custom_jvp` or `custom_vjp` that drops this argument" in words(report)


def test_fault_a_derivative_by_hand_that_is_wrong():
    cut = lambda x, a: jnp.cos(a * x) + 0.1 * jax.lax.stop_gradient(a) ** 2
    report = ix.diagnose(cut, 0.5, 1.2)
    assert codes(report) == {"derivative-wrong"}
    assert "args[0] is wrong" in report.verdict


def test_fault_a_leaf_that_is_passed_through():
    F = lambda s, k: {"T": jnp.cos(k * s["T"]) + 0.1 * s["soil"], "soil": s["soil"]}
    report = ix.diagnose(F, {"T": jnp.ones(2), "soil": 2.0}, 0.6)
    assert codes(report) == {"passed-through", "gradient-undefined"}
    assert "F returns x0['soil'] as it is" in report.verdict
    assert "pass it to F as an argument" in words(report)


def test_fault_too_few_iterations_on_a_cycle_of_period_2():
    F = lambda x, a: a - 2.9 * jnp.tanh(x)
    a = jnp.array([1.0, 2.0])
    report = ix.diagnose(F, jnp.array([0.5, 0.2]), a, solver=ix.Picard(), max_steps=15)
    assert {"not-converged", "picard-cycles"} <= codes(report)
    said = words(report)
    assert "Plain iteration cycles with period 2: no number of iterations is enough." in said
    x = ix.fixed_point(F, jnp.zeros(2), a, rtol=1e-14, atol=1e-14).x
    steepest = float(jnp.max(2.9 / jnp.cosh(x) ** 2))
    assert f"∂F/∂x has the eigenvalue −{steepest:.3g}".replace("−", "-") in said
    assert f"with damping below {2 / (1 + steepest):.2g}" in said
    assert "ix.Auto() converges in" in said
    # What it advises does converge.
    assert bool(ix.fixed_point(F, jnp.zeros(2), a, solver=ix.Picard(0.8 * 2 / (1 + steepest))).success)


def test_fault_one_row_of_nan():
    a = jnp.linspace(1, 2, 6).at[3].set(jnp.nan)
    F = lambda x, a, b: b * jnp.cos(a[:, None] * x) + 0.01 * jnp.roll(x, 1, axis=1)
    report = ix.diagnose(F, jnp.ones((6, 2)), a, 0.9, batch_axis=0)
    assert codes(report) == {"input-not-finite", "rows-failed", "gradient-undefined"}
    said = words(report)
    assert "args[0][3] is NaN or infinite" in report.verdict
    assert "1 of 6 rows not solved: 3. The other 5 are." in said
    # The derivative of the other rows is right; that of what they share with the bad one is not there.
    own, shared = report.parameters
    assert (own.name, shared.name) == ("args[0]", "args[1]")
    assert own.error < 1e-6
    assert "no gradient with respect to args[1]: 0 · NaN is NaN" in said
    assert "throw=False" in report.recommended


# Other findings.


def test_units_and_an_ignored_leaf_and_a_parameter_without_influence():
    def F(x, p):
        T = 300 + 1e-3 * x["flux"] + p["a"]
        return {"T": T, "flux": 200 + 1e5 * jnp.tanh((300 - x["T"]) / 300), "out": x["T"] * x["flux"]}

    x0 = {"T": 300.0, "flux": 100.0, "out": 0.0}
    report = ix.diagnose(F, x0, {"a": 0.5, "idle": 2.0, "count": jnp.arange(3)})
    assert report.healthy
    assert {"leaf-ignored", "no-influence", "not-differentiable"} <= codes(report, "note")
    said = words(report)
    assert "F does not depend on x0['out']: outputs rather than unknowns." in said
    assert "Without influence on x: args[0]['idle']." in said
    assert "Integers, without a derivative: args[0]['count']." in said


def test_a_double_root_is_singular():
    report = ix.diagnose(lambda x, a: (x - a) ** 2, 1.0, 1.0, kind="root", residual_atol=1e-12)
    assert codes(report) & {"singular", "passed-through", "gradient-undefined"}


def test_where_the_first_nan_arises():
    F = lambda x: {"p": jnp.sqrt(0.5 - x["q"]), "q": x["p"] + 0.1}
    report = ix.diagnose(F, {"p": 0.3, "q": 0.1}, solver=ix.Picard())
    assert "the first NaN or infinite value is in iteration 2, at x0['p']" in words(report) or "picard" in words(report)
    assert report.picard is not None
    first = np.flatnonzero(~np.isfinite(report.picard.residual))
    if first.size:
        assert report.picard.bad == f"iteration {first[0]}, at x0['p']"


@pytest.mark.parametrize(
    ("F", "x0", "text"),
    [
        (lambda x: x[:1], np.ones(2), "got float64[1]"),
        (lambda x: 1 / 0, 1.0, "ZeroDivisionError: division by zero"),
        (lambda x: [x], {"x": 1.0}, "expected"),
        ("not a function", 1.0, "got a Python str"),
    ],
)
def test_nothing_is_raised(F, x0, text):
    report = ix.diagnose(F, x0)
    assert codes(report) == {"unusable"}
    assert text in words(report)
    assert report.verdict.startswith("Do not trust this: ")
    report.plot()
    json.dumps(report.to_dict())


def test_nothing_solves_it():
    report = ix.diagnose(lambda x, a: jnp.where(x > a, 0.0, 1.0) + 0 * x, jnp.zeros(2), 0.5)
    assert not report.healthy
    assert report.local is None
    assert "No solver has solved it" in report.recommended


def test_a_solver_of_optimistix():
    report = ix.diagnose(reference, X0, 10.0, 3.0, solver=optx.FixedPointIteration(rtol=1e-10, atol=1e-10))
    assert report.healthy
    assert report.attempts[0].history is None
    assert report.attempts[0].name.startswith("FixedPointIteration")


def test_an_f_that_is_another_each_time():
    rng, count = np.random.default_rng(0), [0]

    def counting(x):
        count[0] += 1
        return 0.5 * jnp.cos(x) + count[0]

    random = lambda x: 0.5 * jnp.cos(x) + rng.normal()
    drawn = lambda x: jax.pure_callback(lambda x: 0.5 * np.cos(x) + rng.normal(), x, x)
    for F in (counting, random, drawn):
        report = ix.diagnose(F, jnp.ones(2), solver=ix.Picard())
        assert not report.healthy
        assert "impure" in [finding.code for finding in report.findings]
    key = jax.random.key(0)
    assert ix.diagnose(lambda x: 0.5 * jnp.cos(x) + jax.random.normal(key, (2,)), jnp.ones(2)).healthy


def test_the_pattern_and_what_it_saves(tmp_path):
    R = lambda u, a: jnp.diff(jnp.diff(u, prepend=0.0, append=0.0)) + a * jnp.exp(u)
    report = ix.diagnose(R, jnp.zeros(250), 1e-5, kind="root")
    said = words(report)
    assert "∂R/∂x is tridiagonal, 3 tangents in place of 250: 748 of 62,500 entries (1.2%)" in said
    assert "so A takes 83.3 times fewer tangents" in said
    assert "The default uses it, in its steps and in the derivative." in said
    assert report.pattern.picture.sum() == report.pattern.entries == 748
    figure = report.plot()
    assert figure.axes[3].get_title() == "tridiagonal, 3 tangents in place of 250"
    figure.savefig(tmp_path / "figure.png")
    numbers = json.loads(json.dumps(report.to_dict()))
    assert numbers["pattern"]["form"] == "tridiagonal"
    # Where it is not worth it that is said, and of a dense matrix nothing.
    some = ix.diagnose(R, jnp.zeros(120), 1e-5, kind="root")
    assert "The default uses it above 200 unknowns, and not in a batch" in words(some)
    assert "tangents in place" not in words(ix.diagnose(reference, X0, 10.0, 3.0))


def test_differences_of_a_solve_that_fails_are_none():
    """At a moved parameter the default does not come to a fixed point that repels: its best point is no solution."""
    report = ix.diagnose(lambda x, a: 1.5 * x + a, -0.6, 0.3)
    assert report.healthy
    (p,) = report.parameters
    np.testing.assert_allclose(p.reverse, p.forward)
    assert np.isnan(p.differences)
    assert "No differences for args[0]" in words(report)


def test_whose_mistake_it_is():
    """Where F's derivative by x is wrong, those of the solution are: no parameter is to blame."""
    F = lambda x, a, b: a * jnp.cos(jax.lax.stop_gradient(x)) + b
    report = ix.diagnose(F, 1.0, 0.4, 0.1)
    wrong = [finding.text for finding in report.findings if finding.severity == "error"]
    assert len(wrong) == 1
    assert "with respect to x0" in wrong[0]
    assert "args" not in wrong[0]


def test_a_line_of_the_user_s_is_named():
    def F(x, a):
        return 0.5 * jnp.cos(x) + jnp.where(a > 1, jnp.sqrt(a - 1), 0.0)

    report = ix.diagnose(F, jnp.ones(2), 0.5)
    line = F.__code__.co_firstlineno + 1
    assert f"in test_diagnose.py, line {line}: `return 0.5 * jnp.cos(x)" in words(report)


def test_what_is_left_of_a_number_that_decides_is_differentiated():
    """Of two Python numbers F needs one: the other has its derivative compared all the same."""
    F = lambda x, a, alpha: (jnp.cos(x) if alpha > 0.5 else jnp.sin(x)) * a
    report = ix.diagnose(F, 1.0, 0.4, 0.7)
    assert [p.name for p in report.parameters] == ["args[0]"]
    assert report.parameters[0].error < 1e-6
