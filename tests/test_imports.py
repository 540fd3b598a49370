"""The direction of imports, and what no file may hold: read from the sources, nothing runs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "implicitax"

# Data flows down this list, and a module imports only from above itself.
ORDER = (
    "_tree",
    "_bounds",
    "_errors",
    "_layout",
    "_fingerprint",
    "_checks",
    "_problem",
    "_solution",
    "_watch",
    "_linear.neumann",
    "_linear.dense",
    "_linear.gmres",
    "_linear.krylov",
    "_linear.small_lu",
    "_linear",
    "_methods.base",
    "_methods.picard",
    "_methods.anderson",
    "_methods.newton",
    "_methods.broyden",
    "_methods.trust_region",
    "_methods.rungs",
    "_methods.ladder",
    "_methods.newton_krylov",
    "_methods.pseudo_transient",
    "_methods.auto",
    "_methods.foreign",
    "_methods",
    "_loop",
    "_rows",
    "_quick",
    "_adjoints",
    "_adjoint",
    "_options",
    "_limits",
    "_run",
    "_solve",
    "_layers",
    "_custom",
    "_lanes",
    "_sweep",
    "_convergence",
    "_diagnose.record",
    "_diagnose.problem",
    "_diagnose.picard",
    "_diagnose.local",
    "_diagnose.gradient",
    "_diagnose.cost",
    "_diagnose.words",
    "_diagnose.report",
    "_diagnose.plot",
    "_diagnose.diagnosis",
    "_diagnose",
    "__init__",
    # The command line is a user of the package like any other.
    "_measure",
    "_systems",
    "_plot",
    "_demo",
    "_bench",
    "_target",
    "_commands",
    "cli",
)

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
FILES = [
    path for folder in ("src", "tests", "examples", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))
]


def imports(module: str, path: Path) -> set[str]:
    """The modules of the package that a module imports, at any place of its code."""
    dotted = ["implicitax", *module.split(".")]
    package = [part for part in dotted if part != "__init__"] if path.name == "__init__.py" else dotted[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # `from . import name` imports a module if there is one of that name, or else something of the package.
            found.update(name if _name(name) in MODULES else base for name in (f"{base}.{a.name}" for a in node.names))
    return {_name(name) for name in found if name.partition(".")[0] == "implicitax"}


def _name(dotted: str) -> str:
    return dotted.removeprefix("implicitax").removeprefix(".") or "__init__"


def test_every_module_is_in_the_list():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_up(module):
    above = ORDER[: ORDER.index(module)]
    wrong = imports(module, MODULES[module]) - set(above)
    assert not wrong, f"{module} imports {sorted(wrong)}, which the list has at or below it"


def test_the_reader_of_imports_sees_every_form(tmp_path):
    path = tmp_path / "base.py"
    path.write_text(
        "import implicitax as ix\nimport implicitax._loop\nfrom . import anderson\nfrom .picard import Picard\n"
        "from .. import _tree\nfrom .._linear import small_lu, SMALL\n"
        "def f():\n    from implicitax import _solve, root\n"
    )
    wanted = {"__init__", "_loop", "_methods.anderson", "_methods.picard", "_tree"}
    assert imports("_methods.base", path) == wanted | {"_linear", "_linear.small_lu", "_solve"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_private_of_jax(path):
    private = ".".join(("jax", "_src"))  # not written out: this file is searched too
    assert private not in path.read_text()


@pytest.mark.parametrize("module", MODULES)
def test_a_file_can_be_held_in_mind(module):
    assert len(MODULES[module].read_text().splitlines()) <= 320
