"""The command line: `implicitax demo` prints right numbers and saves a figure."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from typer.testing import CliRunner

from implicitax import cli
from implicitax._app.commands import app

STEPS = (10, 400)


class Demo(NamedTuple):
    """One run of `implicitax demo` in this process."""

    lines: list[str]
    figure: Path
    untouched: bool

    def row(self, start: str, after: str = "") -> list[str]:
        """The words of the first line after the one that holds `after` that starts with `start`, without `start`."""
        first = next(i for i, line in enumerate(self.lines) if after in line)
        return next(line for line in self.lines[first:] if line.startswith(start))[len(start) :].split()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    figure = tmp_path_factory.mktemp("demo") / "figure.png"
    before = _settings()
    result = _invoke("demo", "--plot", str(figure), "--steps", ",".join(map(str, STEPS)))
    assert result.exit_code == 0, result.output
    return Demo(_plain(result.output).splitlines(), figure, before == _settings())


def _settings() -> Any:
    """What a run must not change: JAX's precision, matplotlib's settings, and that no backend is chosen."""
    # To read the backend would choose one.
    style = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    return jnp.array(1.0).dtype, style, "matplotlib.pyplot" in sys.modules


def _invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100", "NO_COLOR": "1"}, catch_exceptions=False)


def _plain(text: str) -> str:
    # Where the environment forces a terminal, the text comes with its escape codes.
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


REFERENCE = {
    "x₀": 2,
    "x₁": 3,
    "∂x₀/∂α": 37 / 205,
    "∂x₁/∂α": -27 / 205,
    "∂x₀/∂β": 36 / 205,
    "∂x₁/∂β": -126 / 205,
}


@pytest.mark.parametrize(("name", "expected"), REFERENCE.items())
def test_reference_values(demo: Demo, name: str, expected: float) -> None:
    """Closed form, unrolled, implicit forward, implicit reverse, finite differences."""
    values = [float(word) for word in demo.row(name, after="Reference system")]
    assert len(values) == 5
    np.testing.assert_allclose(values, expected, rtol=0, atol=6e-9)


def test_reference_differences(demo: Demo) -> None:
    unrolled, forward, reverse, finite = map(float, demo.row("vs closed form"))
    assert max(unrolled, forward, reverse) < 1e-14
    assert finite < 1e-8


def _sister_values() -> dict[str, float]:
    """At α = 4, β = 1: x₀² = s with s³ + s = 4, by Cardano's formula, and x₁ = x₀³."""
    s = np.cbrt(2 + np.sqrt(4 + 1 / 27)) + np.cbrt(2 - np.sqrt(4 + 1 / 27))
    x0 = np.sqrt(s)
    by_alpha, by_beta = 1 / (2 * x0 * (1 + 3 * s**2)), -(s**3) / (x0 * (1 + 3 * s**2))
    return {
        "x₀": x0,
        "x₁": x0**3,
        "∂x₀/∂α": by_alpha,
        "∂x₁/∂α": 3 * s * by_alpha,
        "∂x₀/∂β": by_beta,
        "∂x₁/∂β": x0**3 + 3 * s * by_beta,
    }


@pytest.mark.parametrize(("name", "expected"), _sister_values().items())
def test_sister_values(demo: Demo, name: str, expected: float) -> None:
    values = [float(word) for word in demo.row(name, after="Sister system")]
    np.testing.assert_allclose(values, [expected, -expected], rtol=0, atol=6e-9)


def _growth(demo: Demo) -> dict[tuple[int, str], list[str]]:
    """The words after the name of the way, by the number of iterations and the way."""
    rows, n = {}, 0
    first = next(i for i, line in enumerate(demo.lines) if "number of iterations N grows" in line)
    for line in demo.lines[first:]:
        found = re.match(r"\s*(\d*)\s+(unrolled|same loop|Picard|Auto)\s+(\d.*)", line)
        if found:
            n = int(found[1] or n)
            rows[n, found[2]] = found[3].split()
    return rows


def _bytes(words: list[str]) -> float:
    return float(words[-2]) * {"B": 1, "kB": 1e3, "MB": 1e6}[words[-1]]


def test_memory_grows_unrolled_only(demo: Demo) -> None:
    rows = _growth(demo)
    assert len(rows) == 4 * len(STEPS)
    few, many = STEPS
    assert _bytes(rows[many, "unrolled"]) > 10 * _bytes(rows[few, "unrolled"])
    for way in ("same loop", "Picard"):
        assert _bytes(rows[many, way]) == _bytes(rows[few, way])
    # With so few steps `Auto` makes no first attempt, which has variables of its own.
    assert _bytes(rows[many, "Auto"]) < 2 * _bytes(rows[few, "Auto"])


def test_unconverged_derivative_is_refused(demo: Demo) -> None:
    rows = _growth(demo)
    for way in ("same loop", "Picard"):
        assert rows[STEPS[0], way][2] == "refused"
        assert float(rows[STEPS[1], way][2]) < 1e-10
    assert float(rows[STEPS[0], "unrolled"][2]) > 1e-6


def test_figure(demo: Demo) -> None:
    data = demo.figure.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert 1500 < width < 2500
    assert 900 < height < 1400
    assert 50_000 < len(data) < 1_000_000
    # Long file names are not broken over lines.
    assert f"Figure: {demo.figure}" in demo.lines


def test_leaves_the_process_as_it_was(demo: Demo) -> None:
    assert demo.untouched


def test_subprocess(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "implicitax.cli", "demo", "--plot", "figure.pdf", "--steps", "10"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert "0.18048780" in result.stdout
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help")])
def test_help(arguments: tuple[str, ...]) -> None:
    result = _invoke(*arguments)
    assert result.exit_code == 0
    words = ("demo",) if len(arguments) == 1 else ("--plot", "demo.png", "--steps", "10,100,1000,10000", "two roots")
    assert all(word in _plain(result.output) for word in words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "10,x"), "whole numbers of at least 1"),
        (("--steps", "0"), "whole numbers of at least 1"),
        (("--plot", "figure.xyz"), "ends in one of"),
        (("--plot", "no/such/folder/figure.png"), "a folder that exists"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], message: str) -> None:
    result = _invoke("demo", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(_plain(result.output).replace("│", " ").split())


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name in ("rich", "matplotlib") else object())
    with pytest.raises(SystemExit) as error:
        cli.main()
    # A text as the code: Python prints it to stderr and exits with 1.
    assert "needs rich, matplotlib" in str(error.value.code)
    assert "pip install 'implicitax[cli]'" in str(error.value.code)
