"""What a user sees at the prompt: solutions that show themselves, and errors that know other libraries' words."""

import html
import importlib.metadata
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import implicitax as ix

ROOT = Path(__file__).parent.parent


def shown(text: str) -> dict[str, str]:
    """Name and text of each part: the colons stand under each other, what goes on in the next line is indented more."""
    parts: dict[str, str] = {}
    colon = text.index(": ")
    for line in text.splitlines():
        if line[colon : colon + 2] == ": " and line[:colon].strip().isidentifier():
            parts[line[:colon].strip()] = line[colon + 2 :]
        else:
            parts[list(parts)[-1]] += "\n" + line.strip()
    return parts


# A Solution shows itself ---------------------------------------------------------------------------------------------


def test_a_solution():
    sol = ix.fixed_point(lambda x, a: jnp.exp(-a * x), 0.5, 1.0)
    parts = shown(repr(sol))
    assert list(parts) == ["message", "success", "status", "x", "residual", "nit", "nfev", "solver", "linear_solver"]
    assert parts["message"] == "Converged: the residual at x meets the tolerance."
    assert (parts["success"], parts["status"], parts["x"]) == ("True", "CONVERGED", "0.56714329")
    assert (int(parts["nit"]), int(parts["nfev"])) == (sol.nit, sol.nfev)
    assert float(parts["residual"]) == pytest.approx(float(sol.residual), rel=1e-2)
    assert (parts["solver"], parts["linear_solver"]) == (sol.solver, sol.linear_solver)
    assert str(sol) == repr(sol) == f"{sol}"


def test_a_failed_solution_says_what_to_try():
    sol = ix.root(lambda x: x**2 + 1, 1.0, throw=False)
    parts = shown(repr(sol))
    assert (parts["success"], parts["status"]) == ("False", sol.message and ix.Status(int(sol.status)).name)
    assert " ".join(parts["message"].split()) == sol.message
    assert max(map(len, repr(sol).splitlines())) < 120


def test_pytrees_aux_and_what_was_asked_for():
    def F(x, a):
        return {"leaf": jnp.cos(a * x["leaf"]), "wide": jnp.exp(-x["wide"])}, {"twice": 2 * x["leaf"], "name": "leaf"}

    x0 = {"leaf": jnp.ones(2), "wide": jnp.ones((3, 40))}
    sol = ix.fixed_point(F, x0, 1.0, has_aux=True, error_estimate=True, history=True)
    parts = shown(repr(sol))
    assert parts["x"].startswith(
        "['leaf']: [0.73908513, 0.73908513]\n['wide']: [[0.56714329, 0.56714329, 0.56714329, ...,"
    )
    assert parts["x"].endswith("float64[3,40]")
    assert parts["aux"] == "['name']: 'leaf'\n['twice']: [1.47817027, 1.47817027]"
    assert float(parts["error"]) == pytest.approx(float(sol.error), rel=1e-2)
    assert parts["history"] == "residual, error and step"


@pytest.mark.parametrize("shape", [(1000,), (100, 100), (30, 30, 30), (2, 3, 4, 5, 6), (1200, 1000)])
def test_a_large_x_is_shortened(shape):
    sol = ix.fixed_point(jnp.cos, jnp.ones(2))
    sol = jax.tree.map(lambda leaf: leaf, sol)
    large = type(sol)(jnp.ones(shape), *(getattr(sol, name) for name in list(vars(sol))[1:]))
    text = shown(repr(large))["x"]
    assert text.endswith(f"float64[{','.join(map(str, shape))}]")
    assert len(text.splitlines()) < 20
    assert len(text) < 1000


def test_many_leaves_are_counted():
    sol = ix.fixed_point(lambda x: [jnp.cos(xi) for xi in x], [jnp.ones(()) for _ in range(30)])
    parts = shown(repr(sol))
    assert parts["x"].splitlines()[0] == "[0]: 0.73908513"
    assert parts["x"].splitlines()[-1] == "... and 22 leaves more"


def test_lanes_are_counted_by_status_and_the_worst_is_named():
    a = jnp.array([-0.5, 1.0, 4.0, -0.25])
    sol = jax.vmap(lambda a: ix.root(lambda x: x**2 - a, 1.0, throw=False))(a)
    parts = shown(repr(sol))
    assert parts["success"] == "2 of 4"
    assert parts["status"] == "2 CONVERGED, 2 STALLED"
    residual = np.asarray(sol.residual)
    worst = 0 if residual[0] >= residual[3] else 3
    assert parts["worst"] == f"index {worst}: STALLED, residual {residual[worst]:.3g}, nit {sol.nit[worst]}"
    assert parts["nit"] == f"{sol.nit.min()} to {sol.nit.max()}"


def test_of_lanes_that_all_converged_the_worst_has_the_largest_residual():
    sol = jax.vmap(jax.vmap(lambda a: ix.fixed_point(lambda x: jnp.exp(-a * x), 0.5)))(jnp.array([[1.0], [1.7]]))
    parts = shown(repr(sol))
    assert parts["success"] == "2 of 2"
    where = tuple(map(int, np.unravel_index(np.argmax(sol.residual), sol.residual.shape)))
    assert parts["worst"].startswith(f"index {where}: CONVERGED")


def test_a_nan_is_the_worst():
    a = jnp.array([1.0, jnp.nan, -0.5])
    sol = jax.vmap(lambda a: ix.root(lambda x: x**2 - a, 1.0, throw=False))(a)
    assert shown(repr(sol))["worst"].startswith("index 1: NON_FINITE")


def test_rows_of_a_batch():
    a = jnp.array([1.0, 1e9])
    jumps = lambda x: jnp.where(x > 0.5, 0.0, 1.0)
    F = lambda x: jnp.stack([jnp.cos(x[0]), jumps(x[1])])
    sol = ix.fixed_point(F, jnp.ones(2), batch_axis=0, throw=False)
    parts = shown(repr(sol))
    assert parts["success"] == "1 of 2"
    assert parts["worst"].startswith("index 1: ")
    assert "1 of 2 rows failed, at index 1" in " ".join(parts["message"].split())
    assert a.shape == (2,)


def test_no_lanes():
    sol = ix.sweep(lambda x, a: jnp.cos(a * x), 1.0, jnp.ones(0))
    assert shown(repr(sol))["success"] == "0 of 0"


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.jacfwd])
def test_traced_it_is_short(transform):
    texts = []

    def solve(a):
        sol = ix.fixed_point(lambda x: {"T": jnp.exp(-a * x["T"])}, {"T": 0.5})
        texts.extend((repr(sol), sol._repr_html_()))
        return sol.x["T"]

    transform(solve)(jnp.ones(3) if transform is jax.vmap else 1.0)
    text, in_html = texts[:2]
    if transform is jax.jacfwd:  # how it ended is known there, though x is not
        assert shown(text)["status"] == "CONVERGED"
        assert shown(text)["x"] == "['T']: float64[]"
        return
    assert text.startswith("Solution(x['T']=float64[], solver=PseudoTransient(")
    assert text.endswith(", traced: its numbers are known outside")
    assert len(text.splitlines()) == 1
    assert in_html == f"<pre>{html.escape(text)}</pre>"


@pytest.mark.parametrize(
    "change",
    [
        lambda leaf: None,
        lambda leaf: "<leaf>",
        lambda leaf: leaf * 77,
        lambda leaf: leaf + 0.5,
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        lambda leaf: np.asarray(leaf),
        lambda leaf: np.arange(leaf.size),
        lambda leaf: np.asarray("text"),
    ],
)
def test_whatever_a_function_of_pytrees_has_made_of_it_is_shown(change):
    sol = ix.root(lambda x: x**2 + 1, 1.0, throw=False)
    changed = jax.tree.map(change, sol)
    assert "solver" in repr(changed)
    assert "<leaf>" not in changed._repr_html_()


def test_a_solution_that_was_donated():
    sol = ix.fixed_point(jnp.cos, jnp.ones(2))
    sol.status.delete()
    assert repr(sol).startswith("Solution(x=float64[2]")


def test_in_a_notebook_all_is_escaped():
    sol = ix.fixed_point(lambda x: ({"<b>&": jnp.cos(x["<b>&"])}, "</pre><script>"), {"<b>&": 1.0}, has_aux=True)
    page = sol._repr_html_()
    assert "<b>" not in page
    assert "script>" not in page.replace("script&gt;", "")
    assert "['<b>&']: 0.73908513" in html.unescape(page)
    assert re.sub(r"<[^>]*>", "", page.replace("</tr>", "\n").replace("</th>", ": ")).count("\n") == len(
        shown(repr(sol))
    )


# The version ---------------------------------------------------------------------------------------------------------


def test_the_version():
    assert ix.__version__ == importlib.metadata.version("implicitax")


def test_the_version_of_a_source_tree_that_is_not_installed(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    stated = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert ix._version() == stated[1]
    monkeypatch.setattr(ix, "__file__", "/nowhere/src/implicitax/__init__.py")
    assert ix._version() == "unknown"
