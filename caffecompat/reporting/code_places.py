"""Where in a user's own code an exception was raised."""

from __future__ import annotations

import os
import sysconfig
from types import TracebackType

# Where the files lie that a user does not change.
_LIBRARIES = (
    "<",
    *{f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")},
    f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}",
)


def last_place(trace: TracebackType | None) -> tuple[str, int] | None:
    """File and line of the innermost frame that is no library's; None if there is none."""
    place = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        # Compiled Cython names its source by the path of the machine that it was built on.
        if not name.startswith(_LIBRARIES) and not name.endswith(".pyx"):
            place = (name, trace.tb_lineno)
        trace = trace.tb_next
    return place


def raised_at(error: BaseException) -> str:
    """``"file.py:12"``: the user's line that raised an error or does not parse; else ``""``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    place = last_place(error.__traceback__)
    return f"{place[0]}:{place[1]}" if place else ""
