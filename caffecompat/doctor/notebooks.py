"""The Python code of a notebook, without what IPython alone understands."""

from __future__ import annotations

import json
import re

# Cells in another language, or that are written to a file.
_FOREIGN_CELL = re.compile(
    r"%%(?:bash|sh|script|cmd|html|HTML|js|javascript|latex|markdown|svg|SVG|perl|ruby|python2"
    r"|cython|writefile|file)\b"
)
# A magic (%matplotlib inline), a shell command (!ls) or a question (net.blobs?). A line that goes
# on with "% (a, b)" or "!= b" is Python.
_IPYTHON_LINE = re.compile(
    r"\s*(?:%%?[A-Za-z_]|% (?:matplotlib|pylab|load_ext|run|time|cd)\b|!(?!=)|\?|[\w.]+\?\??\s*$)"
)
_IPYTHON_VALUE = re.compile(r"(\s*[\w, .\[\]]+=\s*)[!%][\w./]")


def code_of_notebook(text: str) -> str:
    """The code of all cells, one after another; lines that are no Python do nothing.

    Raises:
        ValueError, KeyError, AttributeError, TypeError: this is no notebook.
    """
    cells = json.loads(text)
    cells = cells.get("cells") or [c for sheet in cells["worksheets"] for c in sheet["cells"]]
    sources = [
        "".join(cell.get("source") or cell.get("input") or [])
        for cell in cells
        if cell.get("cell_type") == "code"
    ]
    return "\n".join(line for source in sources for line in _python_lines(source.splitlines()))


def _python_lines(lines: list[str]) -> list[str]:
    """The lines of a cell; those of IPython do nothing, and keep their place and indentation."""
    if lines and _FOREIGN_CELL.match(lines[0]):
        return ["pass"] * len(lines)
    python: list[str] = []
    replacement = ""
    goes_on = False
    for line in lines:
        if not goes_on:
            replacement = _replacement(line)
        python.append(replacement or line)
        goes_on = bool(replacement) and line.rstrip().endswith("\\")
    return python


def _replacement(line: str) -> str:
    """What stands for a line of IPython's; empty for Python."""
    if _IPYTHON_LINE.match(line):
        return f"{line[: len(line) - len(line.lstrip())]}pass"
    found = _IPYTHON_VALUE.match(line)
    return f"{found[1]}None" if found else ""
