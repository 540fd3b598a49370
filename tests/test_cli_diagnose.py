"""The commands `diagnose` and `bench`."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

from implicitax._app.commands import app

MODEL = """
import jax.numpy as jnp

number = 3

def F(x, a, b):
    return jnp.stack([jnp.sqrt(a - x[0] * x[1]), jnp.sqrt((57 - x[1]) / (b * jnp.sqrt(a - x[0] * x[1])))])

def problem():
    return F, jnp.array([1.5, 3.5]), (10.0, 3.0)

def cycle():
    return lambda x, p: {"T": p["a"] - 2.9 * jnp.tanh(x["T"])}, {"T": jnp.zeros(2)}, ({"a": jnp.array([1.0, 2.0])},)

def through(s):
    return {"T": jnp.cos(0.6 * s["T"]) + 0.1 * s["soil"], "soil": s["soil"]}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "300", "NO_COLOR": "1"})


def said(result) -> str:
    """Everything on the screen in one line, without the frames around it."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.output).split())


def test_a_healthy_problem(model, tmp_path):
    plot, numbers = tmp_path / "plot.png", tmp_path / "numbers.json"
    result = invoke(
        "diagnose", f"{model}:F", "--x0", "[1.5, 3.5]", "--args", "[10, 3]", "--plot", plot, "--json", numbers
    )
    assert result.exit_code == 0, result.output
    assert said(result).startswith("The answer is right")
    assert plot.stat().st_size > 20_000
    report = json.loads(numbers.read_text())
    assert report["healthy"]
    assert [p["name"] for p in report["parameters"]] == ["args[0]", "args[1]"]
    assert report["parameters"][0]["reverse"] == pytest.approx(report["parameters"][0]["differences"], rel=1e-7)


def test_a_stranger_finds_the_cycle(model):
    result = invoke("diagnose", f"{model}:cycle", "--solver", "picard", "--max-steps", "15")
    assert result.exit_code == 1
    assert "Plain iteration cycles with period 2" in said(result)
    assert "ix.Auto() converges in" in said(result)


def test_a_stranger_finds_the_leaf_that_is_passed_through(model):
    result = invoke("diagnose", f"{model}:through", "--x0", '{"T": [1, 1], "soil": 2}')
    assert result.exit_code == 1
    assert "F returns x0['soil'] as it is" in said(result)


@pytest.mark.parametrize(
    ("target", "options", "text"),
    [
        ("{model}", [], "expected package.module:function or file.py:function"),
        ("missing.py:F", [], "expected a file that exists, got missing.py"),
        ("no_such_package.model:F", [], "expected a module that can be imported from here, got no_such_package.model"),
        ("{model}:G", [], "got G, which it does not have. It has F, problem, cycle, through."),
        ("{model}:number", [], "expected a function, got number"),
        ("{model}:F", [], "expected --x0, or a function without arguments that returns (F, x0, args)"),
        ("{model}:F", ["--x0", "[1.5,"], "--x0: expected JSON such as"),
        ("{model}:F", ["--x0", '["a"]'], "expected numbers, lists of them"),
        ("{model}:F", ["--x0", "[1, 2]", "--args", "3"], "--args: expected a list such as"),
        ("{model}:problem", ["--solver", "magic"], "expected one of auto, picard"),
        ("{model}:problem", ["--plot", "figure.txt"], "expected a file name that ends in one of"),
        ("{model}:problem", ["--json", "no/such/folder/numbers.json"], "expected a folder that exists"),
    ],
)
def test_wrong_usage(model, target, options, text):
    result = invoke("diagnose", target.format(model=model), *options)
    assert result.exit_code == 2
    assert text in said(result)
    assert "Traceback" not in result.output


def test_a_module_that_fails(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_module\n")
    result = invoke("diagnose", f"{path}:F")
    assert result.exit_code == 2
    assert "fails when it is imported: ModuleNotFoundError" in said(result)


def test_a_function_that_returns_no_problem(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def wrong():\n    return 3.0\n")
    result = invoke("diagnose", f"{path}:wrong")
    assert result.exit_code == 2
    assert "expected wrong() to return (F, x0, args) with a tuple of arguments, got float." in said(result)


def test_the_precision_is_left_as_it_was(model):
    with jax.enable_x64(False):
        assert invoke("diagnose", f"{model}:problem").exit_code == 0
        assert jnp.array(1.0).dtype == jnp.float32


def test_help_names_every_option():
    text = said(invoke("diagnose", "--help"))
    for option in ("--x0", "--args", "--kind", "--solver", "--max-steps", "--batch-axis", "--x64", "--plot", "--json"):
        assert option in text


def test_bench_without_a_folder():
    result = invoke("bench", "--quick", "--json", "no/such/folder/numbers.json")
    assert result.exit_code == 2
    assert "expected a folder that exists, got no/such/folder." in said(result)


def test_bench(tmp_path):
    numbers = tmp_path / "numbers.json"
    result = invoke("bench", "--quick", "--json", numbers)
    assert result.exit_code == 0, result.output
    rows = json.loads(numbers.read_text())
    assert {row["who"] for row in rows} == {"implicitax", "Optimistix", "by hand"}
    # All to the same accuracy.
    assert all(row["residual"] < 1e-8 and row["value"] > 0 and row["gradient"] > 0 for row in rows)
    assert "2 unknowns" in said(result)
