"""The entry point of the command line, `implicitax`."""

import io
import sys
from importlib.util import find_spec

NEEDED = ("typer", "rich", "matplotlib")  # the extra `cli`


def main() -> None:
    """Runs the command line; says what to install if its packages are missing."""
    missing = ", ".join(name for name in NEEDED if find_spec(name) is None)
    if missing:
        sys.exit(f"implicitax: the command line needs {missing}. Install with: pip install 'implicitax[cli]'")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or pipe that cannot show Greek letters gets question marks, not an error.
        sys.stdout.reconfigure(errors="replace")
    from ._app.commands import app

    app(prog_name="implicitax")


if __name__ == "__main__":
    main()
