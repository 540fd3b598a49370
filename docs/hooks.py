"""Pages that are written elsewhere: the README and the like, and the scripts in `examples/` with what they print.

A script is made of cells, as editors know them: `# %% [markdown]` begins a text in comments, `# %%` a piece of code.
"""

import html
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import scripts  # noqa: E402

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# Where a file of the repository is in the site.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
PAGES |= {f"examples/{path.name}": f"{path.stem}.md" for path in EXAMPLES}
PAGES |= {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")}

CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)
LINK = re.compile(r"\[([^\]\n]*)\]\(([\w./-]+)\)")
MATH = re.compile(r"\$<code>(.*?)</code>\$", re.DOTALL)
END = "\x1e"  # ASCII's record separator: printed where a cell begins


def on_files(files: Files, config: MkDocsConfig) -> Files:
    elsewhere = [(ROOT / source, page) for source, page in PAGES.items() if not source.startswith("docs/")]
    with ThreadPoolExecutor(2) as pool:  # each script is a process of its own, and takes some time
        contents = pool.map(
            lambda path: from_script(path) if path.suffix == ".py" else path.read_text(), dict(elsewhere)
        )
        for (_, page), content in zip(elsewhere, contents):
            files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that are right in the repository, made right in the site; a file that is no page keeps its name only."""

    def move(link: re.Match[str]) -> str:
        text, target = link[1], link[2].removeprefix("../")
        if target in PAGES:
            return f"[{text}]({PAGES[target]})"
        if target.startswith("docs/images/"):
            return f"[{text}]({target.removeprefix('docs/')})"
        return text if (ROOT / target).exists() else link[0]

    return LINK.sub(move, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Mathematics, which GitHub too takes between $` and `$, as MathML: a browser typesets it by itself."""
    return MATH.sub(lambda found: latex2mathml.converter.convert(html.unescape(found[1])), content)


def from_script(path: Path) -> str:
    """The page of a script: its texts, its code, and below each cell what it has printed."""
    code = path.read_text()
    printed = run(CELL.sub(lambda _: f"print({END!r})\n", code), path)
    kinds, cells = CELL.split(code)[1::2], CELL.split(code)[2::2]
    page = []
    for kind, cell, output in zip(kinds, cells, printed, strict=True):
        if "[markdown]" in kind:
            page.append(re.sub(r"^# ?", "", cell, flags=re.MULTILINE))
        else:
            page.append(f"```python\n{cell.strip()}\n```\n")
        if output:
            page.append(f"```text\n{output}```\n")
    return "\n".join(page)


def run(code: str, path: Path) -> list[str]:
    """What each cell prints; in a process of its own, since a script may set JAX's precision. Compiled quickly: no page
    shows a time."""
    environment = os.environ | {"XLA_FLAGS": scripts.QUICK}
    code = f"__file__ = {str(path)!r}\n{code}"  # beside which a script has its data
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{path.name} failed:\n{done.stderr}")
    return done.stdout.split(f"{END}\n")[1:]
