"""Properties of the terminal (width, colours), and text that is safe to print on it."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

# SGR codes of ECMA-48.
_BOLD, _RED, _YELLOW = "1", "31", "33"
_STYLE = re.compile(rf"(\x1b\[(?:0|{_BOLD}|{_RED}|{_YELLOW})m)")
_WIDTH_UNKNOWN = 80
# In characters; longer names in messages are shortened.
_LONGEST_NAME = 200


def columns() -> int:
    """The width of the terminal in characters: ``COLUMNS`` if set, else the terminal's own value.

    80 if there is no terminal or it does not report its size.
    """
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        try:
            width = os.get_terminal_size(stream.fileno()).columns if stream else 0
        except (OSError, ValueError):
            continue
        if width:
            return width
    return _WIDTH_UNKNOWN


def accept_any_text(stream: TextIO | None) -> None:
    """Makes a stream write characters outside its encoding as backslash escapes, not raise.

    Names in model files may contain any bytes, and a terminal may support ASCII only.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def printable(text: str, keep: str = "") -> str:
    """``text`` with control characters as escapes, so that none reaches the terminal.

    Names in files may contain any of them. Characters that reorder or break lines are escaped,
    too.

    Args:
        keep: control characters that are not escaped, e.g. newlines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if _is_control(c) and c not in keep else c for c in text
    )


class PrintableOutput:
    """Standard output as :func:`printable` allows it: nothing in it commands a terminal.

    Line ends, tabs and the styles of this module pass. All else that the wrapped stream has is
    there, too.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        parts = _STYLE.split(text)
        # Between the texts, at odd places, stand the styles.
        parts[::2] = [printable(part, keep="\n\t") for part in parts[::2]]
        self._stream.write("".join(parts))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def _is_control(character: str) -> bool:
    # Control and format characters, line and paragraph separators.
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, two dots in place of its middle."""
    if len(text) <= width:
        return text
    if width <= 2:
        return "." * width
    front = (width - 1) // 2
    return f"{text[:front]}..{text[len(text) - (width - 2 - front) :]}"


def short_name(text: str) -> str:
    """A name for a message; a very long one loses its middle."""
    return shorten(text, _LONGEST_NAME)


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal, not a file or a pipe."""
    try:
        return stream.isatty()
    except ValueError:  # a closed stream
        return False


def colour_wanted(stream: TextIO) -> bool:
    """Whether to colour text for ``stream``.

    True for a terminal, unless ``TERM`` is ``dumb`` or ``NO_COLOR`` is set and not empty.
    """
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return not refused and is_terminal(stream)


def as_error(text: str, stream: TextIO) -> str:
    """``text`` in red if ``stream`` supports colours."""
    return _styled(text, _RED, stream)


def as_warning(text: str, stream: TextIO) -> str:
    """``text`` in yellow if ``stream`` supports colours."""
    return _styled(text, _YELLOW, stream)


def as_name(text: str, stream: TextIO) -> str:
    """``text`` in bold if ``stream`` supports colours."""
    return _styled(text, _BOLD, stream)


def as_level(text: str, level: int, stream: TextIO) -> str:
    """``text`` in the colour of a warning or an error, by ``level`` of Python's logging."""
    if level >= logging.ERROR:
        return as_error(text, stream)
    return as_warning(text, stream) if level >= logging.WARNING else text


def _styled(text: str, code: str, stream: TextIO) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text and colour_wanted(stream) else text
