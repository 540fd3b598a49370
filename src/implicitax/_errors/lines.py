"""The user's own line of code: where an operation stands, or an error arose."""

import linecache
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

_OURS = str(Path(__file__).parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")})


class Line(NamedTuple):
    file: str
    number: int

    @property
    def source(self) -> str:
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        where = f"{Path(self.file).name}, line {self.number}"
        return f"{where}: `{self.source}`" if self.source else where


def line_of(equation: Any) -> Line | None:
    """Of an equation of a jaxpr; None where there is none of the user's."""
    trace = equation.source_info.traceback
    frames = () if trace is None else trace.frames
    return next((Line(f.file_name, f.line_num) for f in frames if is_users(f.file_name)), None)


def line_of_error(error: BaseException) -> Line | None:
    """The innermost line of the user's that an error has passed through."""
    found, trace = None, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        found = Line(name, trace.tb_lineno) if is_users(name) else found
        trace = trace.tb_next
    return found


def is_users(file: str) -> bool:
    """Whether a file is neither ours, nor Python's, nor an installed package's."""
    return not file.startswith((_OURS, *_LIBRARIES)) and "site-packages" not in file
