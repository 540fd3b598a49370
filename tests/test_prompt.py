"""What a user sees at the prompt: solutions that show themselves, and errors that know other libraries' words."""

import collections
import copy
import dataclasses
import html
import importlib.metadata
import logging
import pickle
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import implicitax as ix
import scripts

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


# Other libraries' words ----------------------------------------------------------------------------------------------


def F(x, a):
    return jnp.exp(-a * x)


def R(x, a):
    return x**2 - a


def text_of(call, kind=TypeError):
    with pytest.raises(kind) as caught:
        call()
    return " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


WORDS = {
    "tol": "The tolerances are `rtol` and `atol`.",
    "xtol": "The tolerances are `rtol` and `atol`.",
    "maxiter": "The bound on the iterations is `max_steps`.",
    "max_iter": "The bound on the iterations is `max_steps`.",
    "args": "follows the guess, one by one. Call `fixed_point(F, x0, *args)`.",
    "params": "follows the guess, one by one. Call `fixed_point(F, x0, *args)`.",
    "method": "What solves it is `solver`, an instance.",
    "jac": "Derivatives of F are JAX's, and none need be given.",
    "fprime": "Derivatives of F are JAX's",
    "fun": "The function comes first, and has no keyword. Call `fixed_point(F, x0, *args)`.",
    "y0": "The guess comes second.",
    "implicit_diff": "`adjoint=ix.Unrolled(steps)` for the derivative of the iteration itself.",
    "implicit_diff_solve": "`adjoint=ix.Implicit(linear_solver=lineax.QR())`",
    "disp": "`history=True`",
    "verbose": "`callback=print`",
    "bracket": "`bounds=(lower, upper)`",
    "jac_sparsity": "is `sparsity`",
    "damping": "`solver=ix.Picard(damping=0.5)`",
    "history_size": "`solver=ix.Anderson(memory=5)`",
    "tags": "`adjoint=ix.Implicit(lineax.CG(1e-10, 1e-10), tags=lineax.positive_semidefinite_tag)`",
    "full_output": "in the `Solution`",
    "jit": "A solve is compiled by itself",
    "vmap": "`ix.sweep`",
    "max_step": "Perhaps `max_steps` is meant.",
    "nonsense": "Look for a misspelt name.",
}


@pytest.mark.parametrize("word", WORDS)
def test_a_keyword_of_another_library(word):
    text = text_of(lambda: ix.fixed_point(F, 0.5, 1.0, **{word: 1}))
    assert text.startswith(f"`fixed_point({word}=...)`: expected one of the keywords solver, ")
    assert f"got the keyword {word}. " in text
    assert WORDS[word] in text


DOORS = {
    "root": (lambda: ix.root(fun=R, x0=1.0), "`root(fun=...)`: ", "Call `root(R, x0, *args)`."),
    "layer": (lambda: ix.FixedPointLayer(F, tol=1.0), "`FixedPointLayer(tol=...)`: ", "`rtol` and `atol`"),
    "the guess of a layer": (
        lambda: ix.RootLayer(R, x0=1.0),
        "`RootLayer(x0=...)`: ",
        "The guess of a layer is `init`",
    ),
    "a layer without a function": (lambda: ix.RootLayer(fun=R), "`RootLayer(fun=...)`: ", "Call `RootLayer(R, init="),
    "sweep": (lambda: ix.sweep(F, 0.5, jnp.ones(3), maxiter=3), "`sweep(maxiter=...)`: ", "`max_steps`"),
    "sweep, callback": (
        lambda: ix.sweep(F, 0.5, jnp.ones(3), callback=print),
        "`sweep(callback=...)`: ",
        "not of `sweep`",
    ),
    "sweep, history": (lambda: ix.sweep(F, 0.5, jnp.ones(3), history=True), "`sweep(history=...)`: ", "not of `sweep`"),
    "diagnose": (lambda: ix.diagnose(F, 0.5, 1.0, tol=1.0), "`diagnose(tol=...)`: ", "`rtol` and `atol`"),
    "diagnose, aux": (lambda: ix.diagnose(F, 0.5, has_aux=True), "`diagnose(has_aux=...)`: ", "`lambda *a: F(*a)[0]`"),
    "custom": (
        lambda: ix.custom_root(optimality_fun=R),
        "`custom_root(optimality_fun=...)`: ",
        "Call `custom_root(R, ",
    ),
    "custom, solver": (lambda: ix.custom_root(R, solver=1), "`custom_root(solver=...)`: ", "decorated is the solver"),
    "custom, aux": (lambda: ix.custom_root(R, has_aux=True), "`custom_root(has_aux=...)`: ", "`lambda *a: R(*a)[0]`"),
}


@pytest.mark.parametrize("door", DOORS)
def test_at_every_door(door):
    call, argument, counterpart = DOORS[door]
    text = text_of(call)
    assert text == text.strip()
    assert text.startswith(argument)
    assert counterpart in text


CALLS = {
    "nothing": (ix.root, "`root(R=...)`: expected a function R(x, *args), got None."),
    "no guess": (lambda: ix.fixed_point(F), "`fixed_point(x0=...)`: expected at least one number"),
    "Optimistix' order": (
        lambda: ix.fixed_point(F, optx.Newton(rtol=1e-3, atol=1e-3), 0.5, 1.0),
        "`fixed_point(x0=...)`: expected the guess as the second argument, got a solver, "
        "Newton(rtol=0.001, atol=0.001). That is the order of Optimistix, `fixed_point(fn, solver, y0, args)`. "
        "Call `fixed_point(F, x0, *args, solver=solver)`.",
    ),
    "its order with a class": (lambda: ix.root(R, optx.Newton, 0.5, 1.0), "got a solver, the class Newton."),
    "its order with ours": (lambda: ix.root(R, ix.Newton(), 0.5, 1.0), "got a solver, Newton()."),
    "arguments packed": (
        lambda: ix.root(lambda x, a, b: x - a * b, 0.5, (1.0, 2.0)),
        "`root(R=...)`: expected a function of x and 1 more, got one of (x, a, b). One argument is given besides x, a "
        "Python tuple, which R gets as it is. Call `root(R, x0, *args)`, with the star, or one by one.",
    ),
    "one argument packed": (
        lambda: ix.root(R, 0.5, (1.0,)),
        "`root`: One argument is given besides x, a Python tuple, which R gets as it is.",
    ),
    "too many": (
        lambda: ix.fixed_point(F, 0.5, 1.0, 2.0),
        "`fixed_point(F=...)`: expected a function of x and 2 more, got one of (x, a).",
    ),
    "too many for a layer": (
        lambda: ix.FixedPointLayer(F, 0.5)(1.0, 2.0),
        "`FixedPointLayer(F=...)`: expected a function of x and 2 more, got one of (x, a). F is called with x, and "
        "then with the arguments given besides x0, one by one. Call `layer(*args, x0=x0)` with as many as F takes",
    ),
    "no function for the solver": (
        lambda: ix.custom_root(lambda x0, a: x0)(1.0, 2.0),
        "`custom_root(R)(solve)`: expected one solver(x0, *args), got a Python float, a Python float. Perhaps "
        "`@ix.custom_root` stands above the solver without the R that it solves.",
    ),
    "no function": (lambda: ix.custom_fixed_point(3.0), "`custom_fixed_point(F=...)`: expected a function F(x, *args)"),
    "a layer": (
        lambda: ix.RootLayer(0.5, R),
        "`RootLayer(R=...)`: expected a function R(x, *args), got a Python float",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_as_elsewhere(name):
    call, text = CALLS[name]
    assert text in text_of(call, (TypeError, ValueError))


def test_an_error_of_the_function_itself_stays_what_it_is():
    def broken(x, a):
        return x + "text"

    with pytest.raises(TypeError, match="unsupported operand") as caught:
        ix.root(broken, 1.0, 2.0)
    assert caught.value.__cause__ is None
    assert "`root" not in " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


SOLVERS = {
    "newton": "`solver=ix.Newton()`",
    "hybr": "`solver=ix.Newton()`",
    "picard": "`solver=ix.Picard()`",
    "df-sane": "`solver=ix.Broyden()`",
    "anderson": "`solver=ix.Anderson()`",
    "nonsense": "Write for instance `solver=ix.Newton()`.",
    ix.Newton: "Make an instance of the class: `solver=ix.Newton()`.",
    optx.Newton: "Make an instance of the class: `solver=optx.Newton(rtol=1e-8, atol=1e-8)`.",
    lx.QR(): "`adjoint=ix.Implicit(linear_solver=lineax.QR())`",
    ix.SmallLU(): "`adjoint=ix.Implicit(linear_solver=lineax.QR())`",
    ix.Implicit(): "write `adjoint=ix.Implicit(...)`",
}


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_no_solver(solver):
    text = text_of(lambda: ix.fixed_point(F, 0.5, 1.0, solver=solver))
    assert text.startswith("`fixed_point(solver=...)`: expected a solver such as")
    assert SOLVERS[solver] in text


ADJOINTS = {
    "implicit": "Write `adjoint=ix.Implicit()`.",
    ix.OneStep: "Write `adjoint=ix.OneStep()`.",
    optx.ImplicitAdjoint(): "Write `adjoint=ix.Implicit()`.",
    optx.RecursiveCheckpointAdjoint(): "Write `adjoint=ix.Unrolled(steps)`.",
    lx.LU(): "`adjoint=ix.Implicit(linear_solver=lineax.LU(...))`",
    ix.SmallLU(): "`adjoint=ix.Implicit(linear_solver=ix.SmallLU())`",
    3: "A linear solver goes into `ix.Implicit(linear_solver=...)`.",
}


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=str)
def test_no_adjoint(adjoint):
    text = text_of(lambda: ix.fixed_point(F, 0.5, 1.0, adjoint=adjoint))
    assert text.startswith("`fixed_point(adjoint=...)`: expected one of")
    assert ADJOINTS[adjoint] in text


SHOWN = {lx.LU: "the class LU", "lu": "'lu'", ix.Newton(): "a Newton"}


@pytest.mark.parametrize("linear_solver", SHOWN, ids=str)
def test_no_linear_solver(linear_solver):
    text = text_of(lambda: ix.Implicit(linear_solver=linear_solver))
    assert text.startswith(
        f"`Implicit(linear_solver=...)`: expected a Lineax linear solver, got {SHOWN[linear_solver]}. "
    )


def test_no_linear_solver_for_steps(tmp_path):
    """Outside of the tests, in which jaxtyping looks at the arguments of a method first."""
    script = tmp_path / "newton.py"
    script.write_text(
        "import implicitax as ix, lineax as lx\n"
        "for wrong in (lx.LU, 'lu', ix.Newton()):\n"
        "    try:\n"
        "        ix.Newton(linear_solver=wrong)\n"
        "    except TypeError as error:\n"
        "        print(error)\n"
    )
    lines = scripts.run(script, tmp_path).stdout.splitlines()
    start = "`Newton(linear_solver=...)`: expected a Lineax linear solver, got "
    assert [line.startswith(f"{start}{shown}. ") for line, shown in zip(lines, SHOWN.values())] == [True] * 3


INSTEAD = {
    **dict.fromkeys(("value", "params", "sol", "root"), "the solution is `x`"),
    "fun": "is `residual`",
    "state": "it is `status`, `residual`, `nit` and `nfev`",
    "stats": "they are `nit` and `nfev`",
    "result": "how it ended is `status`, and in words `message`",
    "converged": "whether it was solved is `success`",
    "n_iter": "iterations are `nit`",
    "nonsense": "It has `x`, `success`, `status`, `message`, `nit`",
}


@pytest.mark.parametrize("name", INSTEAD)
def test_an_attribute_of_another_library(name):
    sol = ix.fixed_point(F, 0.5, 1.0)
    text = text_of(lambda: getattr(sol, name), AttributeError)
    assert text.startswith(f"A `Solution` has no `{name}`")
    assert INSTEAD[name] in text
    assert not hasattr(sol, name)


def test_the_names_that_are_there_are_those_in_the_error():
    sol = ix.fixed_point(F, 0.5, 1.0)
    named = re.findall(r"`(\w+)`", text_of(lambda: sol.nonsense, AttributeError))[2:]
    assert all(hasattr(sol, name) for name in named)
    fields = {field.name for field in dataclasses.fields(sol)} - {"component", "summary"}
    assert fields <= set(named)


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, lambda sol: pickle.loads(pickle.dumps(sol))])
def test_a_solution_is_copied_and_pickled(copy_of):
    sol = ix.fixed_point(lambda x: {"T": F(x["T"], 1.0)}, {"T": 0.5})
    again = copy_of(sol)
    assert repr(again) == repr(sol)
    assert jax.tree.structure(again) == jax.tree.structure(sol)
    assert again.x["T"] == sol.x["T"]
    assert eqx.tree_at(lambda sol: sol.x["T"], sol, jnp.ones(())).x["T"] == 1


# Structures that are not alike ---------------------------------------------------------------------------------------


class Leaf(eqx.Module):
    T: jax.Array
    layers: int = eqx.field(static=True, default=1)


class Canopy(eqx.Module):
    leaf: Leaf
    fluxes: list


Pair = collections.namedtuple("Pair", "u v")
TWO = {"a": np.ones(2), "b": np.ones(3)}
LEAF, CANOPY = Leaf(np.ones(2)), Canopy(Leaf(np.ones(2)), [1.0])
ORDERED = collections.OrderedDict(a=1.0, b=2.0)

RETURNED = {
    "a leaf is missing": (TWO, lambda x: {"a": x["a"]}, "{'a': *} (only in x0: x['b'], float64[3])"),
    "a leaf is too many": (TWO, lambda x: {**x, "c": 1.0}, "(only in the output of F: x['c'], float64[])"),
    "None for a leaf": (TWO, lambda x: {**x, "b": None}, "{'a': *, 'b': *} (only in x0: x['b'], float64[3])"),
    "a list for a tuple": (
        (1.0, 2.0),
        lambda x: [x[0] / 2, x[1] / 2],
        "[*, *] (x is a tuple in x0, a list in the output of F)",
    ),
    "a tuple for a dict": (TWO, lambda x: (x["a"], x["b"]), "only in the output of F: x[0], float64[2]; x[1], float64"),
    "a tuple for a named one": (Pair(1.0, 2.0), lambda x: (x.u / 2, x.v / 2), "only in x0: x.u, a Python float; x.v"),
    "one array": (TWO, lambda x: x["a"], "got one number or array (only in x0: x['a'], float64[2]; "),
    "nothing": (np.ones(2), lambda x: None, "got None (only in x0: x, float64[2])"),
    "a static field": (
        LEAF,
        lambda x: Leaf(x.T / 2, 3),
        "(x.layers, which is static, is 1 in x0, 3 in the output of F)",
    ),
    "a static field below": (
        CANOPY,
        lambda x: Canopy(Leaf(x.leaf.T / 2, 3), x.fluxes),
        "(x.leaf.layers, which is static, is 1 in x0, 3 in the output of F)",
    ),
    "a tuple below": (
        CANOPY,
        lambda x: Canopy(x.leaf, tuple(x.fluxes)),
        "(x.fluxes is a list in x0, a tuple in the output of F)",
    ),
    "another order": (
        ORDERED,
        lambda x: collections.OrderedDict(b=x["b"] / 2, a=x["a"] / 2),
        "(x has ['a'], ['b'] in x0, ['b'], ['a'] in the output of F)",
    ),
    "another dict": (
        {"a": 1.0, "b": 2.0},
        lambda x: collections.OrderedDict(a=x["a"] / 2, b=x["b"] / 2),
        "(x is a dict in x0, a OrderedDict in the output of F)",
    ),
}


@pytest.mark.parametrize("name", RETURNED)
def test_another_structure_out_than_in(name):
    x0, function, words = RETURNED[name]
    for call in (
        lambda: ix.fixed_point(function, x0),
        lambda: ix.FixedPointLayer(function, init=x0)(),
        lambda: ix.sweep(lambda x, a: function(x), x0, jnp.ones(3)),
        lambda: jax.jit(lambda: ix.fixed_point(function, x0).x)(),
    ):
        text = text_of(call, ValueError)
        assert words in text
        assert "expected the structure of x0, " in text
        assert "PyTreeDef" not in text


PREFIXES = {
    "one is missing": (TWO, {"a": 1e-3}, "got {'a': *} (there is no atol['b'])"),
    "one is too many": (TWO, {"a": 1e-3, "b": 1e-3, "c": 1e-3}, "(there is no x0['c'])"),
    "a tuple for a dict": (TWO, (1e-3, 1e-3), "got (*, *) (atol is a tuple, x0 a dict)"),
    "a list for a module": (LEAF, [1e-3], "a pytree prefix of x0, which is a Leaf with x0.T, got [*] (atol is a list"),
    "a static field": (LEAF, Leaf(1e-3, 7), "(`layers`, which is static, is 7 in atol, 1 in x0)"),
    "below": (CANOPY, Canopy(1e-3, (1e-3,)), "(atol.fluxes is a tuple, x0.fluxes a list)"),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_a_tolerance_or_a_bound_of_another_structure(name):
    x0, prefix, words = PREFIXES[name]
    function = lambda x: jax.tree.map(lambda leaf: leaf / 2, x)
    text = text_of(lambda: ix.fixed_point(function, x0, atol=prefix), ValueError)
    assert words in text
    assert "PyTreeDef" not in text
    text = text_of(lambda: ix.fixed_point(function, x0, bounds=(None, prefix)), ValueError)
    assert words.replace("atol", "bounds") in text


AXES = {
    "one is missing": ({"p": 0}, "which is {'p': *, 'q': *}, got {'p': 0} (there is no axes['q'])"),
    "one is too many": ({"p": 0, "q": None, "r": 0}, "(there is no args[0]['r'])"),
    "a list": ([0, 0], "(axes is a list, args[0] a dict)"),
}


@pytest.mark.parametrize("name", AXES)
def test_axes_of_another_structure(name):
    axes, words = AXES[name]
    args = {"p": jnp.ones(4), "q": jnp.ones(4)}
    text = text_of(
        lambda: ix.sweep(lambda x, a: jnp.cos(x) * a["p"], 1.0, args, in_axes=(None, None, axes)), ValueError
    )
    assert text.startswith("`sweep(in_axes=...)`: expected one axis, or axes in a pytree prefix of args[0], ")
    assert words in text
    assert "PyTreeDef" not in text


def test_axes_of_a_module_with_another_static_field():
    axes = (None, None, Leaf(0, 5))
    text = text_of(lambda: ix.sweep(lambda x, m: x / 2 + m.T[0], 1.0, Leaf(jnp.ones((3, 2))), in_axes=axes), ValueError)
    assert "(`layers`, which is static, is 5 in axes, 1 in args[0])" in text


def test_what_somebody_elses_solver_returns_beside_x():
    @ix.custom_fixed_point(lambda x, a: x / 2 + a)
    def solve(x0, a):
        return 2 * a, {"nit": 1}

    text = text_of(lambda: solve(1.0, 2.0))
    assert "`custom_fixed_point`: F was called with what your solver returned, a tuple with x[0], x[1]['nit']" in text
    assert "which is not like x0, one number or array" in text
    assert text.endswith("It has to return x alone.")


def test_an_error_of_the_function_with_what_a_solver_returned_stays_what_it_is():
    solve = ix.custom_root(lambda x, a: x + "text")(lambda x0, a: a)
    assert "your solver" not in text_of(lambda: solve(1.0, 2.0))


@pytest.mark.parametrize(
    ("preconditioner", "words"),
    [
        (lambda x, v: v["a"], "got one number or array (only in v: v['a'], float64[2]; v['b'], float64[3]; "),
        (lambda x, v: {"a": v["a"]}, "got {'a': *} (only in v: v['b'], float64[3])"),
        (lambda x, v: {**v, "b": v["b"][:2]}, "(the shape of v['b'] is (3,), of what is returned (2,))"),
    ],
)
def test_a_preconditioner_that_returns_less(preconditioner, words):
    R = lambda x: jax.tree.map(lambda leaf: leaf**2 - 2, x)
    text = text_of(lambda: ix.root(R, TWO, solver=ix.NewtonKrylov(preconditioner)), ValueError)
    assert (
        "`NewtonKrylov(preconditioner=...)`: expected a function of x and v that returns a pytree like v, {'a'" in text
    )
    assert words in text
    assert "PyTreeDef" not in text


# Options of other libraries' solvers ---------------------------------------------------------------------------------

BISECTION = optx.Bisection(rtol=1e-12, atol=1e-12)


def cube(x, a):
    return x**3 - a


def test_bisection():
    solve = lambda a, upper: ix.root(cube, 1.0, a, solver=BISECTION, options={"lower": 0.0, "upper": upper})
    sol = solve(8.0, 5.0)
    assert abs(sol.x - 2) < 1e-10
    assert sol.solver == "Bisection(rtol=1e-12, atol=1e-12)"
    derivative, of_the_bound = jax.grad(lambda a, upper: solve(a, upper).x, argnums=(0, 1))(8.0, 5.0)
    assert abs(derivative - 1 / 12) < 1e-9
    assert of_the_bound == 0
    lanes = jax.vmap(lambda a: solve(a, 1 + a).x)(jnp.array([8.0, 27.0]))
    assert np.allclose(lanes, [2, 3], atol=1e-10)
    assert np.allclose(jax.jit(lambda a: solve(a, a).x)(27.0), 3)


@pytest.mark.parametrize("upper", [{"T": 3.0}, 3.0])
def test_bisection_of_a_fixed_point_in_a_pytree(upper):
    F = lambda x: {"T": jnp.cos(x["T"])}
    sol = ix.fixed_point(F, {"T": 1.0}, solver=BISECTION, options={"lower": 0.0, "upper": upper})
    assert abs(sol.x["T"] - 0.7390851332151607) < 1e-10


def test_options_at_other_doors():
    keywords = {"solver": BISECTION, "options": {"lower": 0.0, "upper": 30.0}}
    assert np.allclose(ix.RootLayer(cube, 1.0, **keywords)(8.0), 2)
    assert np.allclose(ix.sweep(cube, 1.0, jnp.array([8.0, 27.0]), kind="root", **keywords).x, [2, 3])


def test_a_box_of_several_leaves():
    """Newton's full step from 1.8 leads to 6.09, near another root."""
    R = lambda x: {"a": jnp.sin(x["a"]), "b": x["b"] - x["a"][0] - 1}
    x0, newton = {"a": jnp.array([1.8, 3.0]), "b": 1.0}, optx.Newton(rtol=1e-12, atol=1e-12)
    box = {"lower": 0.0, "upper": {"a": 4.0, "b": np.inf}}
    sol = ix.root(R, x0, solver=newton, options=box)
    assert np.allclose(sol.x["a"], [np.pi, np.pi])
    assert np.allclose(sol.x["b"], 1 + np.pi)
    assert np.allclose(ix.root(R, x0, solver=newton).x["a"], [2 * np.pi, np.pi])


def test_other_numbers_in_the_options_compile_nothing_anew():
    solve = lambda upper: ix.root(cube, 1.0, 8.0, solver=BISECTION, options={"lower": 0.0, "upper": upper}).x
    solve(5.0)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        compiled = []
        handler = logging.Handler()
        patch.setattr(handler, "emit", lambda record: compiled.append(record.getMessage()))
        logging.getLogger("jax").addHandler(handler)
        solve(6.0)
        logging.getLogger("jax").removeHandler(handler)
    assert not [text for text in compiled if text.startswith("Compiling")]


OPTIONS = {
    "lacking": (
        {"solver": BISECTION},
        "`root(solver=Bisection(...))`: expected its option 'lower', got no options. That solver of Optimistix asks "
        "for it. Give `options=dict(lower=..., upper=...)`.",
    ),
    "one lacking": (
        {"solver": BISECTION, "options": {"lower": 0.0}},
        "expected its option 'upper', got the options lower",
    ),
    "with ours": (
        {"options": {"lower": 0.0}},
        "`root(options=...)`: expected none with a solver of implicitax, got {'lower': 0.0}.",
    ),
    "no dict": ({"solver": BISECTION, "options": 3}, "`root(options=...)`: expected a dict, got 3."),
    "another structure": (
        {"solver": BISECTION, "options": {"lower": {"a": 0.0}, "upper": 1.0}},
        "`root(options=...)`: expected one number, or a pytree prefix of x0, which is one number or array, got "
        "{'a': *}",
    ),
    "bounds": ({"solver": BISECTION, "bounds": (0.0, 5.0)}, "what Optimistix knows of bounds is in `options`"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_wrong_options(name):
    keywords, text = OPTIONS[name]
    assert text in text_of(lambda: ix.root(cube, 1.0, 8.0, **keywords), (TypeError, ValueError))


# The usual mistakes --------------------------------------------------------------------------------------------------

MISTAKES = {
    "a method's tolerance": (
        lambda: ix.Newton(rtol=1e-8),
        "`Newton(rtol=...)`: expected one of the arguments linear_solver, got the argument rtol. That is a keyword of "
        "the call, not of what solves it. Write `ix.root(R, x0, solver=ix.Newton(...), rtol=1e-8)`.",
    ),
    "a method's limit": (lambda: ix.Picard(0.5, maxiter=3), "`ix.root(R, x0, solver=ix.Picard(...), max_steps=200)`"),
    "the memory": (lambda: ix.Anderson(m=5), "How much is kept is `memory`."),
    "the damping": (lambda: ix.Picard(beta=0.5), "It is `damping`, in (0, 1]."),
    "no damping": (lambda: ix.Newton(beta=0.5), "`Newton(beta=...)`: expected one of the arguments linear_solver"),
    "no argument": (lambda: ix.Auto(depth=5), "`Auto(depth=...)`: expected no argument, got the argument depth."),
    "an adjoint's solver": (lambda: ix.Implicit(solve=lx.LU()), "What solves with A is `linear_solver`."),
    "a misspelt argument": (lambda: ix.Unrolled(step=3), "Perhaps `steps` is meant."),
    "unpacked": (
        lambda: (lambda x, info: x)(*ix.fixed_point(F, 0.5, 1.0)),
        "A `Solution` is no tuple: the solution is",
    ),
    "a dict": (lambda: ix.fixed_point(F, 0.5, 1.0)["x"], "A `Solution` is no dict: write `sol.x`."),
    "a dict, fun": (lambda: ix.fixed_point(F, 0.5, 1.0)["fun"], "is `residual`"),
    "the guess of a layer": (lambda: ix.FixedPointLayer(F)(1.0), "x0 by its name: `layer(*args, x0=x0)`"),
    "a list of numbers": (lambda: ix.root(lambda x: x**2 - 2, [1.0, 2.0]), "For one array give `jnp.array(x0)`."),
    "a list for an array": (
        lambda: ix.root(lambda x: jnp.stack([x[0] - 1, x[1] - 2]), [1.0, 2.0]),
        "Or give x0 as one array: `jnp.array(x0)`.",
    ),
    "a comparison": (
        lambda: ix.root(lambda x: x == 1, 1.0),
        "expected float64[] at x0, got bool[]. It is true or false. Return from R the difference of two sides",
    ),
    "text for a guess": (lambda: ix.fixed_point(F, "1.0", 1.0), "at least one number to solve for, got a Python str"),
    "an argument by its name": (
        lambda: ix.fixed_point(F, 0.5, a=1.0),
        "what F reads goes into `*args`, without its name",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_usual_mistake(name):
    call, words = MISTAKES[name]
    assert words in text_of(call, (TypeError, ValueError))


NAMES = {
    "root_find": "`ix.root(R, x0)`",
    "FixedPointIteration": "with `solver=ix.Picard()` the same iteration",
    "Bisection": "`ix.root(R, x0, bounds=(lower, upper))`",
    "RecursiveCheckpointAdjoint": "`ix.Unrolled(steps)`",
    "fixed_piont": "perhaps `ix.fixed_point`",
    "xyzzy": "implicitax has no `xyzzy`.",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_another_library(name):
    text = text_of(lambda: getattr(ix, name), AttributeError)
    assert text.startswith(f"implicitax has no `{name}`")
    assert NAMES[name] in text
    assert not hasattr(ix, name)


def test_a_method_from_outside_may_have_what_arguments_it_likes():
    class Mine(ix.Picard):
        def __init__(self, factor, **rest):
            super().__init__(damping=factor)

    assert Mine(factor=0.5, anything=3).damping == 0.5
