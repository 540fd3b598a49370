"""What the documents show is run: every ```python block, every example, and every output that a comment promises."""

import re
import textwrap
import types
from pathlib import Path

import pytest

import implicitax as ix
import scripts

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def script(page: str) -> str:
    """The ```python blocks of a page one after the other, each line at the line number that it has in the page."""
    lines = [""] * (page.count("\n") + 1)
    for block in BLOCK.finditer(page):
        first = page.count("\n", 0, block.start(2))
        for i, line in enumerate(textwrap.dedent(block[2]).splitlines()):
            lines[first + i] = line
    return "\n".join(lines)


def promised(code: str) -> list[str]:
    """What `print(...)  # output` says it prints; a print without a comment promises an output that is not shown."""
    return [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]


def run(path: Path, folder: Path, *arguments: str) -> str:
    """What a script prints. In a process of its own, since it may set JAX's precision; a warning is an error."""
    done = scripts.run(path, folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page(page, tmp_path):
    code = script(page.read_text())
    if not code.strip():
        pytest.skip("no code")
    path = tmp_path / f"{page.stem}.py"
    path.write_text(code)
    assert run(path, tmp_path).splitlines() == promised(code)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_example(example, tmp_path):
    """Each has its own checks, as assertions. Those that have a figure draw it."""
    has_figure = "--figure" in example.read_text()
    assert run(example, tmp_path, *(["--figure", "figure.png"] if has_figure else []))
    assert not has_figure or (tmp_path / "figure.png").stat().st_size > 30_000


def test_blocks_keep_their_line_numbers():
    page = "text\n```python\na = 1\n```\n\n```py\nnot run\n```\n\n- item\n\n  ```python\n  b = 2\n  ```\n"
    assert [(i, line) for i, line in enumerate(script(page).splitlines(), 1) if line] == [(3, "a = 1"), (13, "b = 2")]


def test_every_public_name_is_in_the_reference():
    described = re.findall(r"^::: implicitax\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert len(described) == len(set(described))
    # A submodule that was imported is an attribute too.
    names = {name for name, value in vars(ix).items() if not isinstance(value, types.ModuleType)}
    assert set(described) == {name for name in names if not name.startswith("_")}


def test_every_status_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [status.name for status in ix.Status if f"| `{status.name}` |" not in readme] == ["RUNNING"]


def test_the_two_commands_are_targets_of_make():
    bash = re.search(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert bash is not None
    assert bash[1].splitlines() == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{line.split()[1]}: " in makefile for line in bash[1].splitlines())
