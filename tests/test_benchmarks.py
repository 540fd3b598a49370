"""The speed benchmarks run, and what they compare is accurate; of times nothing is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHEAP = "small", "million", "dense"

# As in an environment without jaxopt, which no test needs; in a process of its own, since it sets JAX's devices.
COMMAND = """
import runpy, sys
sys.modules["jaxopt"] = None
sys.argv = ["benchmarks.speed", *sys.argv[1:]]
runpy.run_module("benchmarks.speed", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed")
    regimes = [word for name in CHEAP for word in ("--only", name)]
    command = [sys.executable, "-W", "error", "-c", COMMAND, "--quick", "--folder", str(path), *regimes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def kept(folder):
    return json.loads((folder / "benchmarks" / "results" / "speed.json").read_text())


def test_what_is_kept_beside_the_figures(kept):
    assert tuple(kept) == CHEAP
    for content in kept.values():
        assert content["quick"]
        assert {"implicitax", "jax", "optimistix"} <= content["versions"].keys()
        assert content["machine"]["cores"] >= 1


@pytest.mark.parametrize("name", CHEAP)
def test_every_candidate_is_accurate(kept, name):
    records = kept[name]["records"]
    assert {"implicitax", "Optimistix FixedPointIteration", "by hand"} <= {
        record["who"].removesuffix(", LU") for record in records
    }
    for record in records:
        assert record["low"] <= record["seconds"] <= record["high"]
        if record["who"] != "empty call":
            assert record["residual"] <= 2e-10
        if record["what"] != "value":
            assert record.get("gradient error", 0) <= 1e-8


@pytest.mark.parametrize("name", CHEAP)
def test_the_goals(kept, name):
    """Those of ours only, and each says what was reached."""
    goals = [(r["who"], goal) for r in kept[name]["records"] for goal in r.get("goals", [])]
    assert {who for who, _ in goals} == {"implicitax"}
    assert all(goal["met"] == (goal["reached"] <= goal["limit"]) for _, goal in goals)


def test_the_page(folder, kept):
    page = (folder / "docs" / "speed.md").read_text()
    assert page.count("A quick run") == len(CHEAP)
    goals = [goal for content in kept.values() for r in content["records"] for goal in r.get("goals", [])]
    assert all(goal["text"] in page for goal in goals)
    assert page.count("```") % 2 == 0
    assert "```python" not in page
    for name in ("million", "dense"):
        assert f"images/speed-{name}.png" in page
        assert (folder / "docs" / "images" / f"speed-{name}.png").stat().st_size > 10_000
