"""What a type checker says of a user's code: nothing of what is right, something of each line that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

RIGHT = """
from typing import Any, NamedTuple, assert_type

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jax import Array

import implicitax as ix


class State(eqx.Module):
    T: Array
    flux: Array


class Pair(NamedTuple):
    u: Array
    v: Array


def F(x: Array, a: float) -> Array:
    return jnp.exp(-a * x)


def with_aux(x: Array, a: float) -> tuple[Array, dict[str, int]]:
    return jnp.exp(-a * x), {"n": 1}


def step(x: State, a: float) -> State:
    return State(x.T * a, x.flux)


state = State(jnp.ones(2), jnp.ones(3))
assert_type(ix.fixed_point(F, 0.5, 1.0), ix.Solution[Array, None])
assert_type(ix.fixed_point(F, 1, 1.0).x, Array)
assert_type(ix.fixed_point(F, np.ones(2), 1.0).x, Array)
assert_type(ix.fixed_point(F, jnp.ones(2), 1.0).x, Array)
assert_type(ix.fixed_point(step, state, 1.0).x, State)
assert_type(ix.fixed_point(step, x0=state).x.T, Array)
assert_type(ix.root(lambda x, a: {"p": x["p"] - a, "q": x["q"]}, {"p": 1.0, "q": jnp.ones(2)}, 8.0).x, dict[str, Array])
assert_type(ix.root(lambda x: [x[0] - 1, x[1]], [1.0, 2.0]).x, list[Array])
assert_type(ix.root(lambda x: (x[0] - 1, x[1]), (jnp.ones(2), {"a": jnp.ones(2)})).x, tuple[Array, dict[str, Array]])
assert_type(ix.fixed_point(lambda x: Pair(x.v, x.u), Pair(jnp.ones(()), jnp.ones(()))).x, Pair)
assert_type(ix.fixed_point(with_aux, 0.5, 1.0, has_aux=True), ix.Solution[Array, dict[str, int]])
assert_type(ix.fixed_point(with_aux, 0.5, 1.0, has_aux=True).aux["n"], int)
assert_type(ix.fixed_point(F, 0.5, 1.0, has_aux=False).aux, None)


def maybe(yes: bool) -> Any:
    return ix.fixed_point(F, 0.5, 1.0, has_aux=yes).aux


sol = ix.root(
    F,
    0.5,
    1.0,
    solver=ix.Newton(lx.LU()),
    adjoint=ix.Implicit(lx.QR()),
    rtol=1e-3,
    atol={"a": 1e-3},
    residual_atol=1e-3,
    max_steps=10,
    batch_axis=None,
    bounds=(0.0, None),
    constraint=None,
    sparsity="dense",
    error_estimate=True,
    history=True,
    progress=False,
    callback=print,
    throw=False,
)
ix.fixed_point(F, 0.5, 1.0, solver=ix.Auto(), adjoint=ix.Unrolled(3))
ix.fixed_point(F, 0.5, 1.0, solver=optx.Newton(rtol=1e-3, atol=1e-3))
ix.fixed_point(F, 0.5, 1.0, solver=optx.FixedPointIteration(rtol=1e-3, atol=1e-3))
ix.fixed_point(F, 0.5, 1.0, solver=optx.BFGS(rtol=1e-3, atol=1e-3))
ix.fixed_point(F, 0.5, 1.0, solver=None, adjoint=None)
assert_type(sol.x, Array)
assert_type(sol.success, Array)
assert_type(sol.nit, Array)
assert_type(sol.message, str)
assert_type(sol.solver, str)
anything: ix.Solution = sol
print(anything.x.nonsense, sol, ix.__version__)


@ix.custom_fixed_point(F)
def solve(x0: Array, a: float, *, verbose: bool = False) -> Array:
    return x0


assert_type(solve(jnp.ones(2), 1.0, verbose=True), Array)


@ix.custom_root(lambda x, a: x, rtol=1e-3)
def solve_state(x0: State, a: float = 1.0) -> State:
    return x0


assert_type(solve_state(state), State)

layer = ix.FixedPointLayer(step, init=state, solver=ix.Picard())
assert_type(layer(1.0), State)
assert_type(layer.solve(1.0).x, State)
assert_type(ix.RootLayer(F, init=0.5)(1.0), Array)
assert_type(ix.RootLayer(F, 0.5)(1.0, x0=jnp.ones(2)), Array)


def guess(F: Any, a: float) -> State:
    return state


assert_type(ix.FixedPointLayer(step, init_fn=guess)(1.0), State)
print(ix.FixedPointLayer(step)(1.0, x0=state).nonsense)


class Network(eqx.Module):
    layer: ix.FixedPointLayer[Array]
    other: ix.RootLayer


many = ix.sweep(F, 0.5, jnp.ones(3), in_axes=(None, None, 0), kind="root", solver=ix.Newton(), batch_size=10)
assert_type(many.x, Array)
assert_type(ix.sweep(step, state, jnp.ones(3)).x, State)
assert_type(ix.sweep(F, {"a": 1.0}, jnp.ones(3)).x, dict[str, Array])
assert_type(ix.sweep(with_aux, 0.5, jnp.ones(3), has_aux=True).aux, Any)
grad = jax.grad(lambda a: ix.fixed_point(F, 0.5, a).x)(1.0)
assert_type(ix.diagnose(F, 0.5, 1.0, solver=ix.Picard(), max_steps=3).healthy, bool)
"""

WRONG = """
from typing import Any

import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax import Array

import implicitax as ix


def F(x: Array, a: float) -> Array:
    return jnp.exp(-a * x)


@ix.custom_fixed_point(F)
def solve(x0: Array, a: float) -> Array:
    return x0


ix.fixed_point(F, 0.5, 1.0, solver="picard")  # to parameter "solver"
ix.fixed_point(F, 0.5, 1.0, solver=ix.Picard)  # to parameter "solver"
ix.root(F, 0.5, 1.0, solver=optx.Newton)  # to parameter "solver"
ix.root(F, 0.5, 1.0, solver=lx.LU())  # to parameter "solver"
ix.root(F, 0.5, 1.0, adjoint="implicit")  # to parameter "adjoint"
ix.root(F, 0.5, 1.0, adjoint=ix.Implicit)  # to parameter "adjoint"
ix.root(F, 0.5, 1.0, adjoint=lx.LU())  # to parameter "adjoint"
ix.root(F, 0.5, 1.0, tol=1e-3)  # No overloads
ix.root(F, 0.5, 1.0, maxiter=3)  # No overloads
ix.root(F, 0.5, args=(1.0,))  # No overloads
ix.root(F, 0.5, 1.0, max_steps=1e3)  # to parameter "max_steps"
ix.root(F, 0.5, 1.0, callback=3)  # to parameter "callback"
ix.root(0.5, F)  # to parameter "F"
ix.root(F)  # No overloads
ix.root(F, 0.5, 1.0).value  # "value" is unknown
ix.root(F, 0.5, 1.0).params  # "params" is unknown
ix.fixed_point(F, {"a": 0.5}, 1.0).x.shape  # "shape" is unknown
ix.fixed_point(F, 0.5, 1.0).aux["n"]  # "None" is not subscriptable
ix.FixedPointLayer(F, init=0.5, solver="anderson")  # to parameter "solver"
ix.FixedPointLayer(F, init=0.5, tol=1e-3)  # No overloads
ix.RootLayer(F, init=0.5, init_fn=F)  # to parameter "init_fn"
ix.FixedPointLayer(F, init=0.5)(1.0).nonsense  # "nonsense" is unknown
ix.sweep(F, 0.5, jnp.ones(3), solver=ix.Newton)  # to parameter "solver"
ix.sweep(F, 0.5, jnp.ones(3), kind="minimum")  # to parameter "kind"
ix.sweep(F, 0.5, jnp.ones(3), batch_axis=0)  # No overloads
ix.diagnose(F, 0.5, 1.0, solver="newton")  # to parameter "solver"
ix.diagnose(F, 0.5, 1.0, adjoint=ix.OneStep())  # No parameter named "adjoint"
ix.custom_root(F, solver=ix.Newton())  # No parameter named "solver"
ix.Implicit(linear_solver=lx.LU)  # to parameter "linear_solver"
ix.Newton(linear_solver="lu")  # to parameter "linear_solver"
solve(jnp.ones(2))  # Argument missing for parameter "a"
solve(jnp.ones(2), "a")  # to parameter "a"
solve(jnp.ones(2), 1.0, 2.0)  # Expected 2 positional arguments
solve(jnp.ones(2), 1.0).nonsense  # "nonsense" is unknown
"""
CHECKED = [(number, line) for number, line in enumerate(WRONG.splitlines()) if "  # " in line]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What is said of the two scripts, by file and line: one process for both, since it takes seconds to start."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(SOURCE)]}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    quiet = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2
    lines: dict[tuple[str, int], list[str]] = {}
    for found in report["generalDiagnostics"]:
        place = Path(found["file"]).name, found["range"]["start"]["line"]
        lines.setdefault(place, []).append(found["message"])
    return lines


def test_nothing_is_said_of_what_is_right(said):
    assert {line: texts for (file, line), texts in said.items() if file == "right.py"} == {}


@pytest.mark.parametrize(("number", "line"), CHECKED, ids=[line.partition("  # ")[0] for _, line in CHECKED])
def test_each_wrong_line_is_found(said, number, line):
    assert line.partition("  # ")[2] in "\n".join(said[("wrong.py", number)])


def test_nothing_else_is_found_wrong(said):
    assert {line for file, line in said if file == "wrong.py"} == {number for number, _ in CHECKED}
