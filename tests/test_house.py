"""How the package is built: which rooms there are, who imports whom, and how large a thing may be. Nothing runs."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "implicitax"

# Data flows down this list: a room imports only from rooms above itself.
ROOMS = (
    "_xla",
    "_tree",
    "_errors",
    "_solution",
    "_problem",
    "_linear",
    "_methods",
    "_loop",
    "_rule",
    "_plan",
    "_solve",
    "_layers",
    "_custom",
    "_sweep",
    "_diagnose",
    "__init__",
    # The command line is a user of the package like any other.
    "_app",
    "cli",
)
# And so it is inside a room, in which the files are in this order; `__init__` comes last, and only hands names on.
FILES = {
    "_tree": ("arithmetic", "layout"),
    "_errors": (
        *("raising", "lines", "words", "trees", "call", "problem", "python"),
        *("keywords", "values", "sparsity", "sweep"),
    ),
    "_solution": ("status", "advice", "summary", "show", "solution"),
    "_problem": (
        *("constraint", "overdetermined", "slopes"),
        *(f"pattern.{file}" for file in ("pattern", "colour", "names", "indexing", "moves", "values", "dependence")),
        *(
            f"pattern.{file}"
            for file in ("local", "reductions", "products", "walk", "control", "loops", "detect", "given")
        ),
        *("pattern", "equations", "content", "numbers", "call", "trace"),
    ),
    "_linear": (
        *("dense", "small_lu", "sparse", "blocks", "tridiagonal", "block_tridiagonal", "banded"),
        *("elimination", "sparse_lu", "forms", "assemble", "trust", "structure"),
        *("neumann", "gmres", "krylov", "linearise", "tagged", "solve"),
    ),
    "_methods": (
        *("contract", "picard", "settings", "anderson", "bracket", "broyden", "squarem", "newton", "newton_krylov"),
        *("trust_region", "rungs", "ladder", "pseudo_transient", "foreign"),
    ),
    "_loop": (
        *("bounds", "domain", "verdict", "watch", "evaluate", "row", "batch", "loop"),
        *("persist", "judge", "attempt"),
    ),
    "_rule": ("adjoints", "rows", "conditions", "block", "system", "implicit", "attach"),
    "_plan": ("keywords", "typed", "prefix", "auto", "plan", "limits"),
    "_sweep": ("lanes", "chunks", "sweep"),
    "_diagnose": (
        *("convergence", "record", "problem", "evaluate", "picard", "local", "gradient", "cost", "shape"),
        *("moved", "inside", "nans", "elsewhere", "jump", "temperature", "mistaken", "untraced", "evidence"),
        *("derivatives", "meant", "words", "report", "plot", "diagnosis", "diagnose", "pattern"),
    ),
    "_app": ("measure", "systems", "panels", "demo", "bench", "target", "commands"),
}
ORDER = [name for room in ROOMS for name in (*(f"{room}.{file}" for file in FILES.get(room, ())), room)]

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}
MOST_ROOMS, MOST_LINES, MOST_OF_A_FUNCTION, MOST_POSITIONAL, DEEPEST = 18, 300, 60, 5, 2


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


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def lines_of(function: ast.FunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    first, count = function.body[0], function.end_lineno - function.lineno + 1
    return count - (first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0)


def depth_of(node: ast.AST) -> int:
    """How many functions stand inside each other here."""
    below = max(map(depth_of, ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, ast.FunctionDef)


def positional(function: ast.FunctionDef) -> int:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len([name for name in names if name not in ("self", "cls")])


def test_the_rooms():
    inside = [path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert sorted(inside) == sorted(ROOMS)
    assert len(ROOMS) <= MOST_ROOMS
    assert sorted(ORDER) == sorted(MODULES)


def test_imports_go_up():
    wrong = {}
    for i, module in enumerate(ORDER):
        below = imports(module, MODULES[module]) - set(ORDER[:i])
        # An `__init__` stands below its files, and they do not import from it.
        wrong |= {module: sorted(below)} if below else {}
    assert not wrong, f"imported from at or below themselves: {wrong}"


def test_the_reader_of_imports_sees_every_form(tmp_path):
    path = tmp_path / "contract.py"
    path.write_text(
        "import implicitax as ix\nimport implicitax._loop\nfrom . import anderson\nfrom .picard import Picard\n"
        "from .. import _tree\nfrom .._linear import small_lu, SMALL\n"
        "def f():\n    from implicitax import _solve, root\n"
    )
    wanted = {"__init__", "_loop", "_methods.anderson", "_methods.picard", "_tree"}
    assert imports("_methods.contract", path) == wanted | {"_linear", "_linear.small_lu", "_solve"}


def test_a_file_can_be_held_in_mind():
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lengths.items() if n > MOST_LINES} == {}


def test_a_function_can_be_held_in_mind():
    every = [(f"{module}.{f.name}", f) for module, tree in TREES.items() for f in functions(tree)]
    assert {name: lines_of(f) for name, f in every if lines_of(f) > MOST_OF_A_FUNCTION} == {}
    assert {name: positional(f) for name, f in every if positional(f) > MOST_POSITIONAL} == {}
    assert {name: depth_of(f) for name, f in every if depth_of(f) > DEEPEST} == {}


def test_the_measures_measure():
    tree = ast.parse(
        'def f(a, b, *, c):\n    """Two\n    lines."""\n    def g():\n        def h(self, x): pass\n    return g\n'
    )
    f, g, h = functions(tree)
    assert [lines_of(f), positional(f), positional(h), depth_of(f), depth_of(g)] == [4, 2, 1, 3, 2]


def test_private_doors_are_in_one_file():
    """What JAX and Equinox do not promise to keep: nothing private of JAX, the rest in `_xla.py`."""
    private = ".".join(("jax", "_src"))  # not written out: this file is searched too
    folders = ("src", "tests", "examples", "benchmarks")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if private in path.read_text()]
    assert found == []
    doors = ("equinox.internal", "unsafe_", "DO_NOT_USE", "unvmap", "filter_primitive")
    users = {module for module, path in MODULES.items() if any(door in path.read_text() for door in doors)}
    assert users == {"_xla"}


def test_every_choice_of_auto_is_in_one_file():
    """Outside of `_methods/` no concrete method is named but in the table of `Auto`, in the row-wise linear solve of a
    batch, which is Anderson's method, and where `diagnose` compares solvers. So a new method touches nothing else."""
    methods = {"Anderson", "Broyden", "Ladder", "Newton", "NewtonKrylov", "Picard", "PseudoTransient", "Squarem"}
    naming = {
        module
        for module, tree in TREES.items()
        if not module.startswith("_methods")
        and methods & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    }
    assert naming == {"_plan.auto", "_rule.rows", "_diagnose.cost", "_diagnose.gradient"}


def test_no_method_is_told_by_its_class():
    """What the loop wants to know of a method it reads off the contract."""
    asked = {
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        for name in ast.walk(node.args[1])
        if isinstance(name, ast.Name) and name.id in ("Anderson", "Broyden", "Ladder", "Newton", "Picard", "Squarem")
    }
    assert asked == set()


def test_where_is_ours():
    """`jnp.where` makes a call in every program: `_xla.where` does not."""
    rooms = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in ("_app", "_diagnose")]
    assert [path.name for path in rooms if "jnp.where(" in path.read_text()] == ["_xla.py"]
