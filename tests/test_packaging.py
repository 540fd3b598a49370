"""What is stated in more than one file is the same in all of them."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lowest_versions_are_the_lower_bounds():
    bounds = dict(requirement.split(">=") for requirement in PROJECT["dependencies"])
    lines = (ROOT / "constraints" / "lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert lowest.pop("jaxlib") == lowest["jax"]
    assert lowest == bounds


def test_the_version():
    version = re.escape(PROJECT["version"])
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_types_are_shipped():
    assert (ROOT / "src" / "implicitax" / "py.typed").exists()
