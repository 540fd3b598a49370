"""What the pages and docstrings promise and no other file tests, page by page; a test quotes its promise in short."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from jax.custom_derivatives import linear_call
from matplotlib.figure import Figure

import implicitax as ix

ROOT = Path(__file__).parent.parent
SOLVE = {"fixed_point": ix.fixed_point, "root": ix.root}


def close(actual, desired, tol=1e-9):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=tol, atol=tol)


def name(sol):
    return ix.Status(int(sol.status)).name


def type_name(value):
    return type(value).__name__


def watched(F, x0, solve=ix.fixed_point, **keywords):
    """The solution, and the points at which F was evaluated, one a row."""
    seen = []

    def watching(x):
        jax.debug.callback(lambda x: seen.append(np.ravel(x)), x)
        return F(x)

    sol = jax.block_until_ready(solve(watching, x0, throw=False, **keywords))
    jax.effects_barrier()
    return sol, np.reshape(seen, (-1, np.size(x0)))


def residuals(F, x0, solver, solve=ix.fixed_point):
    """Those of each evaluation."""
    sol = solve(F, x0, solver=solver, history=True, throw=False)
    return np.asarray(sol.history.residual)[: int(sol.nfev)], sol


def half(x):
    return 0.5 * x + 1


def leaves_its_domain(x):
    """From 0 plain iteration, and every method's first step, leads to where the root has no value."""
    return jnp.sqrt(4 - 8 * x)


def jump(x):
    """There is no fixed point."""
    return jnp.where(x > 0.5, 0.2 * x - 0.5, 0.2 * x + 1)


# README.


def test_the_leaves_of_a_partial():
    """Every array that F depends on: the leaves of F itself (a `jax.tree_util.Partial`)."""
    F = jax.tree_util.Partial(lambda a, x: jnp.cos(a * x), 0.9)
    x, gradient = jax.value_and_grad(lambda F: ix.fixed_point(F, 1.0).x)(F)
    close(gradient.args[0], -x * np.sin(0.9 * x) / (1 + 0.9 * np.sin(0.9 * x)))


@pytest.mark.parametrize("which", ["rtol", "atol"])
def test_tolerances_of_each_entry(which):
    """Both tolerances may differ from one entry of x to the next."""
    F = lambda x: jnp.array([0.5, 0.9]) * x + 1
    tolerance = {"rtol": 0.0, "atol": 0.0} | {which: jnp.array([1e-9, 1e-2])}
    sol = ix.fixed_point(F, jnp.zeros(2), solver=ix.Picard(), **tolerance)
    residual, allowed = np.abs(F(sol.x) - sol.x), np.array([1e-9, 1e-2]) * (sol.x if which == "rtol" else 1)
    assert np.all(residual <= allowed)
    assert residual[1] > 1e-3  # not solved any better than asked


@pytest.mark.parametrize("solver", [ix.Picard(), ix.Anderson(), ix.PseudoTransient()], ids=str)
def test_solvers_for_fixed_points_only(solver):
    got = re.escape(repr(solver))
    with pytest.raises(ValueError, match=rf"^`root\(solver=\.\.\.\)`: expected a solver for a root, got {got}\."):
        ix.root(jnp.cos, 1.0, solver=solver)


@pytest.mark.parametrize("solver", [optx.LevenbergMarquardt(1e-12, 1e-12), optx.BFGS(1e-14, 1e-14)], ids=type_name)
def test_a_fixed_point_by_least_squares_and_by_minimisation(solver):
    """Any least-squares solver or minimiser of Optimistix: both (fixed-point solvers: fixed points)."""
    solve = lambda a: ix.fixed_point(lambda x: 0.5 * jnp.cos(x) + a, 1.0, solver=solver, atol=1e-7).x
    x, gradient = jax.value_and_grad(solve)(0.7)
    close(0.5 * np.cos(x) + 0.7, x, 1e-6)
    close(gradient, 1 / (1 + 0.5 * np.sin(x)), 1e-6)


def test_what_is_raised_where():
    """ConvergenceError as it is outside `jit`, from a derivative and under `vmap` too; inside, JAX's with its text.

    And a linear solve that fails is in that error only, not in `sol.status`.
    """
    domain = lambda a: ix.fixed_point(lambda x: jnp.sqrt(a - x), 0.5, solver=ix.Picard())
    with pytest.raises(ix.ConvergenceError, match=r"^`fixed_point`: The residual is NaN") as eager:
        domain(-1.0)
    assert isinstance(eager.value, RuntimeError)
    lanes = jax.vmap(lambda a: domain(a).x)
    with pytest.raises(ix.ConvergenceError, match=r"^`fixed_point`: 1 of 2 solves failed, at index 1"):
        lanes(jnp.array([3.0, -1.0]))
    with pytest.raises(jax.errors.JaxRuntimeError, match="`fixed_point`: 1 of 2 solves failed, at index 1"):
        jax.block_until_ready(jax.jit(lanes)(jnp.array([3.0, -1.0])))
    singular = lambda a: ix.fixed_point(lambda x: jnp.stack([a * jnp.cos(x[0]), x[1]]), jnp.ones(2), solver=ix.Picard())
    assert bool(singular(0.5).success)
    text = "`fixed_point`, derivative: The linear solve of the deriv"
    for mode in (jax.grad, jax.jacfwd, jax.jacrev):
        with pytest.raises(ix.ConvergenceError, match="^" + text):
            mode(lambda a: singular(a).x[0])(0.5)
        with pytest.raises(ix.ConvergenceError, match=r"^`fixed_point`, derivative: 2 of 2 solves failed"):
            jax.vmap(mode(lambda a: singular(a).x[0]))(jnp.array([0.5, 0.6]))
    with pytest.raises(jax.errors.JaxRuntimeError, match=text):
        jax.block_until_ready(jax.jit(jax.grad(lambda a: singular(a).x[0]))(0.5))


def test_the_check_is_a_callback_that_throw_decides():
    """Inside `jit` the check is a callback behind a branch; with `throw=False` there is none."""

    def text(throw):
        solve = lambda a: ix.fixed_point(lambda x: jnp.cos(a * x), 1.0, solver=ix.Picard(), throw=throw).x
        return jax.jit(jax.grad(solve)).lower(1.0).as_text()

    assert "callback" not in text(False)
    assert text(True).count("stablehlo.case") > text(False).count("stablehlo.case")
    assert "callback" in text(True)


# The mathematics.

MANY = "Krylov(tolerance="
CHOSEN = {
    ("fixed_point", 4): ("PseudoTransient(linear_solver=SmallLU(), restarts=3)", "SmallLU()"),
    ("fixed_point", 5): ("PseudoTransient(linear_solver=DenseLU(), restarts=3)", "DenseLU()"),
    ("fixed_point", 8): ("PseudoTransient(linear_solver=DenseLU(), restarts=3)", "DenseLU()"),
    ("fixed_point", 9): ("Anderson(memory=9, warmup=40, retries=((0, 1.0),))", "DenseLU()"),
    ("fixed_point", 100): ("Anderson(memory=10, warmup=40, retries=((0, 1.0),))", "DenseLU()"),
    ("fixed_point", 101): ("Anderson(memory=10, warmup=40, retries=((0, 1.0),))", MANY),
    ("fixed_point", 301): ("Anderson(memory=10, warmup=40, retries=((5, 0.5), ", MANY),
    ("root", 4): ("Ladder(linear_solver=SmallLU())", "SmallLU()"),
    ("root", 1000): ("Ladder(linear_solver=DenseLU())", "DenseLU()"),
    ("root", 1001): ("NewtonKrylov(starts=4)", MANY),
}


@pytest.mark.parametrize(("kind", "n"), CHOSEN)
def test_what_is_chosen_by_kind_and_size(kind, n):
    """A is formed up to 100 unknowns of a fixed point and 1000 of a root. `sol.solver` says what was chosen."""
    sol = jax.eval_shape(lambda: SOLVE[kind](lambda x: 0.5 * jnp.cos(x + jnp.mean(x)), jnp.zeros(n), throw=False))
    solver, linear_solver = CHOSEN[kind, n]
    assert sol.solver.startswith(solver)
    assert sol.linear_solver.startswith(linear_solver)
    # From 9 to 300 unknowns `PseudoTransient(restarts=3)` goes on where it stalls.
    assert sol.solver.endswith("restarts=3)") == (kind == "fixed_point" and not 9 <= n <= 300)


def test_what_is_chosen_for_a_batch():
    """With `batch_axis` the size is that of a row, there are no restarts, and above 1000 in all the rows are solved
    row by row."""
    of = lambda rows, n: jax.eval_shape(
        lambda: ix.fixed_point(lambda x: 0.5 * jnp.cos(x), jnp.zeros((rows, n)), batch_axis=0, throw=False)
    )
    assert of(125, 8).solver == "PseudoTransient(linear_solver=DenseLU())"
    assert re.match(r"Anderson\(memory=9, warmup=10, retries=[^a-z]*\)$", of(2, 9).solver)
    assert of(125, 8).linear_solver.startswith(MANY)
    assert of(126, 8).linear_solver == "RowKrylov()"


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_unrolled_has_the_derivative_of_its_steps(damping):
    """`Unrolled(steps)`: the derivative of what `steps` iterations compute, converged or not; `Picard` can be given."""
    F = lambda x, a: a + 0.9 * jnp.sin(x)

    def by_hand(a):
        x = 0.5
        for _ in range(3):
            x = x + damping * (F(x, a) - x)
        return x

    def solve(a):
        return ix.fixed_point(F, 0.5, a, solver=ix.Picard(damping), adjoint=ix.Unrolled(3), throw=False)

    assert name(solve(0.3)) == "NOT_A_SOLUTION"
    close(jax.value_and_grad(lambda a: solve(a).x)(0.3), jax.value_and_grad(by_hand)(0.3), 1e-14)


def test_the_rule_for_a_root():
    """Root: `|A⁻¹R| ≤ atol + rtol·|x|`, whatever the size of R, whoever has found it."""
    R = lambda x: 1e12 * (x**2 - 2)
    exact = np.sqrt(2)
    right, wrong = (ix.custom_root(R)(lambda x0, e=e: jnp.asarray(exact * (1 + e))) for e in (1e-13, 1e-8))
    assert abs(R(right(1.0))) > 0.1
    with pytest.raises(ix.ConvergenceError, match="does not meet the tolerance"):
        wrong(1.0)
    assert abs(R(ix.root(R, 1.0, solver=optx.Newton(1e-13, 1e-1)).x)) > 1e-9
    close(ix.root(R, 1.0, solver=ix.Broyden()).x, exact, 1e-10)


@pytest.mark.parametrize(("dtype", "default"), [("float32", 2.4e-5), ("float64", 3.7e-11)])
def test_default_tolerances(dtype, default):
    """`rtol` is eps^(2/3) of the dtype, and `atol` `rtol·max|x|` and 4·eps of the size of x0, or of the first step."""
    eps = float(np.finfo(dtype).eps)
    for x0 in ([0.0, 0.0], [8.0, 2.0]):
        guess = jnp.asarray(x0, dtype)
        sol = ix.fixed_point(lambda x: half(x) * jnp.array([1.0, 0.1], dtype), guess, solver=ix.Picard(), history=True)
        x = guess
        for _ in range(2):
            x = half(x) * jnp.array([1.0, 0.1], dtype)
        residual = np.abs(half(x) * jnp.array([1.0, 0.1], dtype) - x)
        size = max(x0) if max(x0) else float(np.max(half(guess) * np.array([1.0, 0.1])))
        tolerance = eps ** (2 / 3) * (np.abs(x) + np.max(x)) + 4 * eps * size
        assert sol.x.dtype == dtype
        assert float(sol.history.error[2]) == pytest.approx(float(np.max(residual / tolerance)), rel=1e-3)
    assert np.finfo(dtype).eps ** (2 / 3) == pytest.approx(default, rel=0.02)


def test_holomorphic():
    """For a holomorphic function the result is the same as with complex arithmetic."""
    solve = lambda c: ix.fixed_point(lambda z: c * jnp.exp(z) / 4 + 0.1j * z**2 + 0.2, 0.1 + 0j, solver=ix.Picard()).x
    c = 0.5 + 0.3j
    z = solve(c)
    expected = -np.exp(z) / 4 / (c * np.exp(z) / 4 + 0.2j * z - 1)
    close(jax.jvp(solve, (c,), (1j,))[1], 1j * expected)
    close(jax.grad(solve, holomorphic=True)(c), expected)


# Look inside.


def test_the_bar_is_full_when_it_has_converged(capfd, monkeypatch):
    """It is full when the residual meets the tolerance."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)  # in colour the rest of the bar is drawn, too
    monkeypatch.setenv("COLUMNS", "120")

    def bar(**keywords):
        ix.fixed_point(jnp.cos, 1.0, solver=ix.Picard(), progress=True, throw=False, **keywords)
        jax.effects_barrier()
        return re.search(r"fixed_point (.*) evaluation", capfd.readouterr().err)[1]

    full, part = bar(), bar(max_steps=20)
    assert set(full) == {"━"}
    assert len(part) == len(full)
    assert 0 < part.count("━") < len(full)


def codes(report):
    return [finding.code for finding in report.findings]


def test_findings_about_units():
    """500 steps of plain iteration; `picard-diverges`; `units`: a note, nothing is wrong."""

    def F(x, a):
        return {"g": 1e-3 + 2e-9 * a * x["p"], "p": 1e6 - 2e9 * x["g"]}

    report = ix.diagnose(F, {"g": 1e-3, "p": 1e6}, 1.1, solver=ix.Newton())
    assert report.healthy
    assert codes(report) == ["picard-diverges", "units"]
    assert report.picard.residual.shape == (500,)


@pytest.mark.filterwarnings("ignore:.*compiled anew in each call")  # of a `linear_call`
def test_findings_about_a_rule_and_a_condition():
    """`derivative-wrong`: the rule is not that of the values; `not-transposed`: forward and reverse mode differ;
    `ill-conditioned`: the equations hardly determine x; `picard-count`: how many plain iterations it takes;
    `unreached`. The gravest first."""

    @jax.custom_jvp
    def part(a):
        return 0.3 * a

    @part.defjvp
    def _(primals, tangents):
        return part(*primals), linear_call(lambda _, t: 0.4 * t, lambda _, c: 0.3 * c, (), tangents[0])

    A = jnp.array([[0.4, 0.4], [0.4, 0.4 + 1e-9]])
    F = lambda x, a: {"y": x["y"] - A @ x["y"], "z": 0.9 * x["z"] + part(a)}
    x0 = {"y": jnp.zeros(2), "z": 0.0}
    report = ix.diagnose(F, x0, 1.0, solver=ix.Picard())
    assert codes(report)[:3] == ["derivative-wrong", "not-transposed", "ill-conditioned"]
    assert {"picard-count", "unreached", "independent"} <= set(codes(report)[3:])
    a, _ = report.parameters  # and A
    close(a.forward, 4 / 3 * a.reverse)
    assert 1e9 < report.local.condition_scaled < 1e10
    assert "No parameter changes x0['y']." in str(report)
    count = int(ix.fixed_point(F, x0, 1.0, solver=ix.Picard()).nit)
    assert f"Plain iteration needs {count} iterations" in str(report)


@pytest.mark.float32  # a callback may run in a thread of its own, which has no float64
def test_findings_about_a_derivative_that_cannot_be_had():
    """`no-derivative`: F has none, and why; `picard-not-finite`: where the first NaN arises."""

    @np.errstate(invalid="ignore")
    def host(x):
        return np.sqrt(x)

    root = lambda x: jax.pure_callback(host, x, x, vmap_method="expand_dims")
    report = ix.diagnose(lambda x, a: root(a - 8 * x), jnp.zeros(1), 4.0, solver=ix.Anderson())
    assert set(codes(report)) == {"picard-not-finite", "no-derivative"}
    assert "F has no derivative in reverse mode: it contains `pure_callback`." in " ".join(str(report).split())
    assert report.picard.bad == "iteration 1, at x0[0]"
    # By differences: x = √(4 − 8x) is √20 − 4.
    np.testing.assert_allclose(report.local.eigenvalues.real, -4 / (20**0.5 - 4), rtol=1e-2)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"kind": "minimum"}, 'expected "fixed_point" or "root", got \'minimum\'.'),
        ({"max_steps": -1}, "expected an integer of at least 0, got -1."),
        ({"atol": -1.0}, "expected a number of at least 0, got -1.0 at atol."),
        ({"batch_axis": 3}, "along that axis, got x0 of shape () with axis 3."),
        ({"solver": ix.Newton}, "got the class Newton."),
    ],
    ids=str,
)
def test_diagnose_raises_nothing(keywords, text):
    report = ix.diagnose(jnp.cos, 1.0, **keywords)
    assert codes(report) == ["unusable"]
    assert " ".join(report.verdict.split()).endswith(text)
    assert not jax.jit(lambda x0: jnp.asarray(ix.diagnose(jnp.cos, x0, **keywords).healthy))(1.0)


# Fast.


@pytest.mark.parametrize("case", ["fixed point", "root", "root by Newton", "rows"])
def test_no_matrix_above_1000_unknowns(case):
    """Above 1000 unknowns no matrix is made: neither for the value nor for the gradient."""
    F, R = lambda x, a: jnp.cos(a * x) / 2, lambda x, a: x**3 + x - a
    solve = {
        "fixed point": lambda a: ix.fixed_point(F, jnp.zeros(1001), a, throw=False),
        "root": lambda a: ix.root(R, jnp.zeros(1001), a, throw=False),
        "root by Newton": lambda a: ix.root(R, jnp.zeros(1001), a, solver=ix.Newton(), throw=False),
        "rows": lambda a: ix.fixed_point(F, jnp.zeros((7, 143)), a, batch_axis=0, throw=False),
    }[case]
    text = jax.jit(jax.grad(lambda a: jnp.sum(solve(a).x))).lower(1.0).as_text()
    sizes = [np.prod([int(n) for n in shape[:-1].split("x")]) for shape in re.findall(r"tensor<((?:\d+x)+)", text)]
    assert 1001 <= max(sizes) < 100 * 1001


GENERAL = (lx.SVD(), lx.AutoLinearSolver(well_posed=True), lx.BiCGStab(1e-12, 1e-12), lx.Normal(lx.CG(1e-12, 1e-12)))


@pytest.mark.parametrize("linear_solver", GENERAL, ids=type_name)
def test_linear_solvers_of_lineax(linear_solver):
    """Any other of Lineax's for general matrices."""
    A = np.array([[2.0, 0.3], [-0.5, 1.5]])
    solve = ix.custom_fixed_point(lambda x, b: x + b - A @ x, adjoint=ix.Implicit(linear_solver))
    x = lambda b: solve(lambda x0, b: jnp.linalg.solve(A, jax.lax.stop_gradient(b)))(0.0, b)
    b = jnp.array([1.0, 2.0])
    close(jax.vjp(x, b)[1](b)[0], np.linalg.solve(A.T, b))


def test_the_default_chunk_of_a_sweep():
    """As many as fit into 1 MB: 4096 for two unknowns and two parameters in float64."""
    F = lambda x, a, b: jnp.stack([jnp.cos(a * x[1]), jnp.sin(b * x[0]) / 2])
    sweep = lambda a, b: ix.sweep(F, jnp.ones(2), a, b, solver=ix.Picard(), throw=False).x
    text = str(jax.make_jaxpr(sweep)(jnp.zeros(3 * 4096), jnp.zeros(3 * 4096)))
    assert "f64[3,4096]" in text
    assert re.search(r"\blength=3\b", text)


# When it does not converge.


def test_what_the_messages_begin_with():
    """The message begins with: the table at the top of the page."""
    page = (ROOT / "docs" / "when-it-does-not-converge.md").read_text()
    rows = re.findall(r"^\| (.*?) \| `([A-Z_]+)` \| \[", page, re.MULTILINE)
    assert {status for _, status in rows} | {"RUNNING"} == {status.name for status in ix.Status}
    for beginning, status in rows:
        assert ix.Status[status].text.startswith(beginning)


def test_what_the_messages_end_with():
    """In parentheses: the solver that ran, the iteration, and max|F(x) − x| or, for NaN and bounds, the place in x0."""
    cosine = ix.fixed_point(
        lambda x: {"T": jnp.cos(x["T"])}, {"T": jnp.ones(2)}, solver=ix.Picard(), max_steps=3, throw=False
    )
    assert re.search(r" \(Picard\(\), iteration 3, max\|residual\| = 0\.\d+\)$", cosine.message)
    domain = ix.fixed_point(
        lambda x: {"T": leaves_its_domain(x["T"])}, {"T": jnp.zeros(2)}, solver=ix.Picard(), throw=False
    )
    assert domain.message.endswith(" (Picard(), at iteration 1, first in the component of x0['T'][0])")


STEPPING_BACK = (
    ix.Anderson(),
    ix.Squarem(),
    ix.Broyden(),
    ix.Newton(),
    ix.Ladder(),
    ix.NewtonKrylov(),
    ix.PseudoTransient(),
    ix.Auto(),
)


@pytest.mark.parametrize("solver", STEPPING_BACK, ids=str)
def test_what_steps_back_and_counts_its_evaluations(solver):
    """All but `Picard` step back from a NaN; `nfev`: evaluations of F."""
    sol, points = watched(leaves_its_domain, 0.0, solver=solver)
    assert np.max(points) > 0.5
    assert bool(sol.success)
    close(sol.x, -4 + np.sqrt(20))
    assert int(sol.nfev) == len(points)
    assert int(sol.nit) == len(points) - 1


def test_a_bad_guess_is_where_it_ends():
    """NaN in the guess: no step has been taken. The guess is out of bounds: nothing has been evaluated."""
    for solver in (ix.Auto(), ix.Picard()):
        sol, points = watched(half, jnp.array([1.0, np.nan]), solver=solver)
        assert (name(sol), int(sol.nit), int(sol.nfev)) == ("NON_FINITE_GUESS", 0, 0)
        assert np.all(np.isnan(points[:, 1]))
        np.testing.assert_array_equal(sol.x, [1.0, np.nan])
    sol, points = watched(half, jnp.array([1.0, -1.0]), bounds=(0.0, None))
    assert (name(sol), int(sol.nit), int(sol.nfev), len(points)) == ("GUESS_OUT_OF_BOUNDS", 0, 0, 0)


def test_digits_of_plain_iteration():
    """λ real, near 1: about 2.3/(1 − λ) iterations a digit."""
    solve = lambda atol: ix.fixed_point(lambda x: 0.99 * x + 1, 0.0, solver=ix.Picard(), rtol=0.0, atol=atol)
    assert (int(solve(1e-7).nit) - int(solve(1e-2).nit)) / 5 == pytest.approx(2.3 / 0.01, rel=0.01)


def test_the_second_setting_begins_at_the_best_point_of_the_first():
    """`ix.Anderson(damping=0.5, retries=((3, 0.1),))`; of both x is the best point seen."""
    F = lambda x: jnp.where(x > 0.5, 0.1 * x - 1 + 0.1 * x[::-1], 1 - 0.3 * x)
    found, sol = residuals(F, jnp.array([0.2, 0.1, 0.3]), ix.Anderson(retries=((3, 0.1),)))
    assert name(sol) == "STALLED"
    second = next(k for k in range(2, len(found)) if found[k] == found[:k].min())
    first = int(np.argmin(found[:second]))
    assert 0 < first < second - 1 < len(found) - 2
    close(np.max(np.abs(F(sol.x) - sol.x)), found.min(), 1e-14)


def test_who_says_that_A_is_singular():
    """`ix.Newton` says `SINGULAR`. The default converges all the same, to a point that depends on the guess."""
    F = lambda x: jnp.stack([jnp.cos(x[0]), x[1]])
    assert name(ix.fixed_point(F, jnp.array([1.0, 2.0]), solver=ix.Newton(), throw=False)) == "SINGULAR"
    for guess in (2.0, 3.0):
        close(ix.fixed_point(F, jnp.array([1.0, guess])).x, (0.7390851332, guess))
    sol = ix.fixed_point(F, jnp.array([1.0, 2.0]), solver=ix.Picard(), error_estimate=True)
    assert bool(sol.success)
    assert float(sol.error) == np.inf  # If A is singular the estimate is infinite.


def test_the_error_of_a_root():
    """`error_estimate`: right to first order."""
    sol = ix.root(lambda x: x**2 - 2, 1.0, solver=ix.Broyden(), atol=1e-2, rtol=0.0, error_estimate=True)
    error = abs(float(sol.x) - np.sqrt(2))
    assert error > 1e-5
    assert float(sol.error) == pytest.approx(error, rel=2 * error)


@pytest.mark.parametrize("what", ["nothing", "error_estimate", "polish", "aux"])
def test_evaluations_beside_those_of_the_iteration(what):
    """`error_estimate`: one more evaluation of F; `polish` too; and `aux`."""
    keywords = {
        "nothing": {},
        "error_estimate": {"error_estimate": True},
        "polish": {"adjoint": ix.Implicit(polish=True)},
        "aux": {"has_aux": True},
    }[what]
    F = (lambda x: (half(x), x)) if what == "aux" else half
    sol, points = watched(F, jnp.zeros(2), solver=ix.Picard(), **keywords)
    assert len(points) == int(sol.nfev) + (what != "nothing")


# Docstrings: the solution.


def test_a_row_that_has_ended_goes_on():
    """One that has ended is frozen, and goes on if at the end its neighbours have moved it out of the tolerance."""
    F = lambda x: jnp.stack([0.2 * x[0] + 0.8 * x[1], 0.9 * x[1] + 0.1])  # 5 solves the first row where it begins
    sol = ix.fixed_point(F, jnp.full((2, 1), 5.0), batch_axis=0, solver=ix.Picard(), history=True)
    steps = np.asarray(sol.history.step)
    (neighbour,) = np.flatnonzero(steps[1] > 0)[-1:]
    assert neighbour > 100
    assert not np.any(steps[0, : neighbour + 1])
    close(sol.x, np.ones((2, 1)))
    close(F(sol.x), sol.x, 1e-10)


def test_the_fields_of_a_solution():
    """Under `vmap` every field has the lanes as leading axes; `status` is an int32; None what was not asked for."""

    def solve(a, **keywords):
        F = lambda x: (jnp.cos(a * x), {"sum": jnp.sum(x)})
        return ix.fixed_point(F, jnp.ones(2), solver=ix.Picard(), has_aux=True, throw=False, max_steps=50, **keywords)

    sol = jax.vmap(lambda a: solve(a, error_estimate=True, history=True))(jnp.linspace(0.5, 0.7, 3))
    one = (sol.status, sol.nit, sol.nfev, sol.residual, sol.success, sol.error, sol.aux["sum"], sol.history.every)
    assert [field.shape for field in one] == 8 * [(3,)]
    assert [sol.x.shape, sol.history.residual.shape, sol.history.error.shape] == [(3, 2), (3, 51), (3, 51)]
    assert sol.status.dtype == jnp.int32
    plain = jax.eval_shape(lambda: ix.fixed_point(half, 0.0, throw=False))
    assert plain.aux is plain.error is plain.history is None


def test_what_has_no_derivative():
    """`x`: the only field, with `aux`, that has a derivative."""

    def others(a):
        F = lambda x: jnp.cos(a * x)
        sol = ix.fixed_point(F, 1.0, solver=ix.Picard(), error_estimate=True, history=True, rtol=1e-2)
        return jnp.stack([sol.residual, sol.error, sol.history.residual[1], sol.history.step[0]])

    value, tangent = jax.jvp(others, (0.9,), (1.0,))
    assert np.all(value > 0)
    np.testing.assert_array_equal(tangent, np.zeros(4))


@pytest.mark.parametrize("case", ["Implicit", "Unrolled", "Optimistix", "custom"])
def test_the_guess_of_a_root_has_the_derivative_0(case):
    """Under every adjoint x0 has the derivative 0."""
    R = lambda x: x**2 - 2
    solve = {
        "Implicit": lambda x0: ix.root(R, x0, solver=ix.Newton()).x,
        "Unrolled": lambda x0: ix.root(R, x0, adjoint=ix.Unrolled(3), throw=False).x,
        "Optimistix": lambda x0: ix.root(R, x0, solver=optx.Newton(1e-12, 1e-12)).x,
        "custom": lambda x0: ix.custom_root(R)(lambda x0: np.sqrt(2) + 1e-12 * x0)(x0),
    }[case]
    x, tangent = jax.jvp(solve, (1.0,), (1.0,))
    close(x, np.sqrt(2), 1e-2)
    assert float(tangent) == 0


# Docstrings: the solvers.


def test_the_factor_of_picard():
    """Converges if `|1 + damping·(λ − 1)| < 1`, by that factor an iteration."""
    found, _ = residuals(lambda x: 3 - 2.2 * x, 0.0, ix.Picard(0.5))
    close(found[1:8] / found[:7], 0.6 * np.ones(7))  # 1 − 0.5·3.2 = −0.6


def test_anderson_on_a_linear_map():
    """On a linear F it is GMRES: where ∂F/∂x has 3 eigenvalues, 3 differences are enough."""
    rng = np.random.default_rng(0)
    basis = np.eye(12) + 0.1 * rng.normal(size=(12, 12))
    J, b = basis @ np.diag(np.repeat([0.9, -2.0, 3.0], 4)) @ np.linalg.inv(basis), rng.normal(size=12)
    assert int(ix.fixed_point(lambda x: J @ x + b, jnp.zeros(12), solver=ix.Anderson(3)).nfev) <= 8


@pytest.mark.filterwarnings("ignore:.*compiled anew in each call")  # the ninth that watches this F
def test_the_safeguard_of_anderson():
    """Where F is not finite: next is a step of plain iteration from the best point, with a quarter of the damping."""
    _, points = watched(leaves_its_domain, 0.0, solver=ix.Anderson(damping=0.8))
    close(points[:3, 0], (0, 0.8 * 2, 0.8 / 4 * 2))


@pytest.mark.parametrize(("warmup", "plain"), [(4, 3), (30, 8)])
def test_the_warmup_of_anderson(warmup, plain):
    """Acceleration begins with that evaluation, or where 8 steps in a row have each found the smallest residual."""
    F = lambda x: 0.95 * jnp.sin(x) + jnp.array([0.1, 0.05, 0.02]) * x[::-1] + 0.1
    x0 = jnp.array([1.0, 2.0, 0.5])
    expected, _ = residuals(F, x0, ix.Picard())
    found, _ = residuals(F, x0, ix.Anderson(3, warmup=warmup))
    close(found[: plain + 1], expected[: plain + 1])
    assert abs(found[plain + 1] / expected[plain + 1] - 1) > 1e-3


def test_the_restarts_of_anderson():
    """From x0, and then from points around x0 that are drawn at random; without `retries` it stalls after 500."""
    sol, points = watched(jump, jnp.array([0.2]), solver=ix.Anderson(retries=((3, 0.1),), restarts=2))
    assert name(sol) == "STALLED"
    first, second = np.flatnonzero(points[:, 0] == 0.2)[[0, -1]]
    assert first == 0
    assert second > 2 * 50
    assert len(points) > second + 2 * 50
    alone = ix.fixed_point(jump, jnp.array([0.2]), solver=ix.Anderson(), throw=False)
    assert (name(alone), 500 < int(alone.nfev) < 510) == ("NO_PROGRESS", True)


def test_the_plain_steps_of_pseudo_transient():
    """Plain iteration, until the residual has decreased five times in a row; after 30 steps, from the best point."""
    F = lambda x: 0.95 * jnp.sin(x) + 0.1
    expected, _ = residuals(F, 1.0, ix.Picard())
    found, _ = residuals(F, 1.0, ix.PseudoTransient())
    close(found[:6], expected[:6])
    assert abs(found[6] / expected[6] - 1) > 1e-2
    cycle = lambda x: 1 - 3 * jnp.tanh(x)
    expected, _ = residuals(cycle, 0.2, ix.Picard())
    found, sol = residuals(cycle, 0.2, ix.PseudoTransient())
    close(found[:31], expected[:31])
    assert found[31] < found[:31].min()
    assert bool(sol.success)


def test_the_restarts_of_pseudo_transient():
    """It begins again from points around x0, where it finds no better point in 50 evaluations."""
    counts = [
        int(ix.fixed_point(jump, jnp.array([0.2]), solver=ix.PseudoTransient(restarts=r), throw=False).nfev)
        for r in (0, 2)
    ]
    assert counts[0] > 50
    assert counts[1] > counts[0] + 2 * 50


def test_how_newton_converges_and_stalls():
    """Converges quadratically; `Status.STALLED` where no fraction of the step decreases R (a kink)."""
    found, _ = residuals(lambda x: x**2 - 2, 2.0, ix.Newton(), ix.root)
    error = found / np.sqrt(8)
    assert np.all(error[1:] <= 0.5 * error[:-1] ** 2 + 1e-15)
    assert name(ix.root(lambda x: jnp.abs(x) + 1, 0.5, solver=ix.Newton(), throw=False)) == "STALLED"


def test_the_default_linear_solver_of_newton():
    """By the structure of A, or by size: `SmallLU`, LAPACK's LU, and without a matrix BiCGStab, then GMRES."""
    newton = {"solver": ix.Newton(), "throw": False}
    of = lambda n, s="dense": jax.eval_shape(lambda: ix.root(jnp.cos, jnp.ones(n), sparsity=s, **newton)).solver
    assert of(201, None) == "Newton(linear_solver=201 blocks of at most 1, 1 tangents)"
    for n, linear_solver in ((4, "SmallLU()"), (1000, "DenseLU()"), (1001, MANY)):
        assert of(n).startswith(f"Newton(linear_solver={linear_solver}")


def test_the_ladder_draws_the_same_points_each_time():
    """From points around x0, drawn at random, always the same."""
    text = lambda: jax.jit(lambda x0: ix.root(lambda x: x**2 + 1, x0, solver=ix.Ladder(), throw=False).x).lower(0.7)
    assert text().as_text() == text().as_text()


# Docstrings: other functions.


def test_a_solver_of_ones_own_costs_one_evaluation():
    """`custom_fixed_point`, `custom_root`: one evaluation of F beside the solver's own."""
    for custom, F in ((ix.custom_fixed_point, half), (ix.custom_root, lambda x: half(x) - x)):

        def solve(F, x0, throw, custom=custom):
            return custom(F, throw=throw)(lambda x0: jnp.asarray(2.0))(x0)

        x, points = watched(F, 0.0, solve)
        assert (float(x), len(points)) == (2.0, 1)


def test_neumann_solves_nothing():
    """`Neumann`: needs products with J only, no linear solve."""

    def text(adjoint):
        solve = lambda a: ix.fixed_point(
            lambda x: jnp.cos(a * x) / 2, jnp.zeros(6), solver=ix.Picard(), adjoint=adjoint
        )
        return jax.jit(jax.grad(lambda a: jnp.sum(solve(a).x))).lower(1.0).as_text()

    assert "getrf" in text(ix.Implicit())
    assert "getrf" not in text(ix.Neumann(3))


@pytest.mark.parametrize("around", [jax.grad, jax.vmap], ids=["grad", "vmap"])
def test_no_bar_of_a_sweep_that_python_does_not_see(around):
    """`progress`: not inside `jit`, `grad` or `vmap`."""
    total = lambda s: jnp.sum(ix.sweep(lambda x, a: s * half(x) + a, 0.0, np.ones(3), progress=True).x)
    with pytest.raises(ValueError, match=r"^`sweep\(progress=...\)`: expected False inside .*, got True\."):
        around(total)(0.5 if around is jax.grad else np.ones(2))


def test_axes_to_draw_in():
    """`ax`: the axes of matplotlib to draw in."""
    sol = ix.fixed_point(jnp.cos, 1.0, solver=ix.Picard(), history=True)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert ix.plot_convergence(sol, right) is figure
    assert (len(left.lines), len(right.lines)) == (0, 2)


# The texts of errors: the argument, what was expected, what it got.

ROWS = jnp.ones((3, 2))
FOREIGN = optx.FixedPointIteration(1e-9, 1e-9)
WITH_MATRIX = r"expected a solver that factorises a matrix, got GMRES\."
BY_ROW = r"`fixed_point\(batch_axis=\.\.\., .*\)`: expected a solver that works row by row: .*, got "
KEEPS = r"`fixed_point\(bounds=\.\.\.\)`: expected a solver that keeps to them, any of implicitax, got "
NOT_SEEN = r"=\.\.\.\)`: expected False with this `solver` or `adjoint`, got True\."

MISTAKES = {
    "damping of Anderson": (
        lambda: ix.Anderson(damping=1.5),
        r"^`Anderson\(damping=\.\.\.\)`: expected a factor in \(0, 1\], got 1\.5\.",
    ),
    "long memory": (lambda: ix.Anderson(memory=21), r"^`Anderson\(memory=\.\.\.\)`: expected 1 to 20, got 21\."),
    "memory of Broyden": (
        lambda: ix.Broyden(0),
        r"^`Broyden\(memory=\.\.\.\)`: expected an integer of at least 1, got 0\.",
    ),
    "no matrix for Ladder": (
        lambda: ix.root(jnp.cos, 1.0, solver=ix.Ladder(lx.GMRES(1e-8, 1e-8))),
        rf"^`Ladder\(linear_solver=\.\.\.\)`: {WITH_MATRIX}",
    ),
    "no matrix for PseudoTransient": (
        lambda: ix.fixed_point(jnp.cos, 1.0, solver=ix.PseudoTransient(lx.GMRES(1e-8, 1e-8))),
        rf"^`PseudoTransient\(linear_solver=\.\.\.\)`: {WITH_MATRIX}",
    ),
    "bounds, Optimistix": (
        lambda: ix.fixed_point(jnp.cos, 1.0, bounds=(0.0, None), solver=FOREIGN),
        rf"^{KEEPS}FixedPointIteration\(",
    ),
    "bounds, unrolled": (
        lambda: ix.fixed_point(jnp.cos, 1.0, bounds=(0.0, None), adjoint=ix.Unrolled(3)),
        rf"^{KEEPS}Unrolled\(steps=3\)\.",
    ),
    "bounds of another structure": (
        lambda: ix.fixed_point(jnp.cos, 1.0, bounds=({"T": 0.0}, None)),
        r"^`fixed_point\(bounds=\.\.\.\)`: expected one number, or a pytree prefix of x0, which is one number or "
        r"array, got \{'T': \*\} \(bounds is a dict, x0 float64\[\]\)",
    ),
    "tolerance of another shape": (
        lambda: ix.fixed_point(jnp.cos, jnp.ones(2), atol=np.ones(3)),
        r"^`fixed_point\(atol=\.\.\.\)`: expected a tolerance that broadcasts to .* \(2,\) of x0, got the shape \(3,",
    ),
    "unrolled rows": (lambda: ix.fixed_point(half, ROWS, batch_axis=0, adjoint=ix.Unrolled(3)), rf"^{BY_ROW}Unrolled"),
    "rows by Krylov": (
        lambda: ix.fixed_point(half, ROWS, batch_axis=0, solver=ix.NewtonKrylov()),
        rf"^{BY_ROW}NewtonKr",
    ),
    "rows by Optimistix": (lambda: ix.fixed_point(half, ROWS, batch_axis=0, solver=FOREIGN), rf"^{BY_ROW}FixedPointIt"),
    "history of Optimistix": (
        lambda: ix.fixed_point(half, 0.0, history=True, solver=FOREIGN),
        rf"^`fixed_point\(history{NOT_SEEN}",
    ),
    "progress unrolled": (
        lambda: ix.root(half, 0.0, progress=True, adjoint=ix.Unrolled(3)),
        rf"^`root\(progress{NOT_SEEN}",
    ),
    "no history": (
        lambda: ix.plot_convergence(ix.fixed_point(half, 0.0, solver=ix.Picard())),
        r"^`plot_convergence\(sol\)`: expected a `Solution` with a history, got one without\.",
    ),
    "no solution": (
        lambda: ix.plot_convergence([1.0]),
        r"^`plot_convergence\(sol\)`: expected a `Solution` with a history, got list\.",
    ),
    "series for a root": (
        lambda: ix.root(half, 0.0, adjoint=ix.Neumann(2)),
        r"^`root\(adjoint=\.\.\.\)`: expected `ix\.Implicit\(\)` or `ix\.Unrolled\(steps\)`, got Neumann\(terms=2\)\.",
    ),
    "terms": (lambda: ix.Neumann(1.5), r"^`Neumann\(terms=\.\.\.\)`: expected an integer of at least 0, got 1\.5\."),
    "steps": (lambda: ix.Unrolled(2.5), r"^`Unrolled\(steps=\.\.\.\)`: expected an integer of at least 1, got 2\.5\."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(mistake):
    make, text = MISTAKES[mistake]
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("argument", ["plot_convergence(...)", "diagnosis.plot()"])
def test_figures_need_matplotlib(monkeypatch, argument):
    """`ImportError` without matplotlib; a `Diagnosis` needs the extra `cli`."""
    if argument == "diagnosis.plot()":
        draw = ix.diagnose(jnp.cos, 1.0, kind="none").plot
    else:
        sol = ix.fixed_point(jnp.cos, 1.0, solver=ix.Picard(), history=True)
        draw = lambda: ix.plot_convergence(sol)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=rf"^`{re.escape(argument)}`: expected the package matplotlib, got none\. .*\[cli\]"
    ):
        draw()
