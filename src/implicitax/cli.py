"""The entry point of the command line, `implicitax`."""

import sys
from importlib.util import find_spec

NEEDED = ("typer", "rich", "matplotlib")  # the extra `cli`


def main() -> None:
    """Runs the command line; says what to install if its packages are missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"implicitax: the command line needs {', '.join(missing)}. Install it with: pip install implicitax[cli]")
    from ._commands import app

    app(prog_name="implicitax")


if __name__ == "__main__":
    main()
