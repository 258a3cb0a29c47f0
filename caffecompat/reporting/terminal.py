"""What a terminal can show: how wide it is, and whether it has colours."""

from __future__ import annotations

import io
import logging
import os
import sys
import unicodedata
from typing import TextIO

# SGR codes of the terminals' standard.
_BOLD, _RED, _YELLOW = "1", "31", "33"
_WIDTH_UNKNOWN = 80
# A name in a message is shown in so many characters.
_LONGEST_NAME = 200


def columns() -> int:
    """The width of the terminal in characters: ``COLUMNS`` if it is set, else what it says itself.

    80 where there is no terminal, or one that does not know its size.
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
    """Lets a stream write what its encoding cannot hold as backslash escapes, instead of failing.

    Names in model files may be any bytes, and a terminal may know ASCII alone.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def printable(text: str, keep: str = "") -> str:
    """``text`` with its control characters as escapes, so that none can command a terminal.

    Names in files may hold any. Characters that reorder or break lines are escaped too.

    Args:
        keep: control characters that stay, e.g. newlines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if _commands(c) and c not in keep else c for c in text
    )


def _commands(character: str) -> bool:
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
    """Whether somebody reads ``stream`` on a terminal, rather than a file or another program."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def colour_wanted(stream: TextIO) -> bool:
    """Whether text for ``stream`` may be coloured.

    Only a terminal gets colours, none that calls itself ``dumb``, and nobody who sets ``NO_COLOR``
    to anything but nothing.
    """
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return not refused and is_terminal(stream)


def as_error(text: str, stream: TextIO) -> str:
    """``text`` in red where ``stream`` shows colours."""
    return _painted(text, _RED, stream)


def as_warning(text: str, stream: TextIO) -> str:
    """``text`` in yellow where ``stream`` shows colours."""
    return _painted(text, _YELLOW, stream)


def as_name(text: str, stream: TextIO) -> str:
    """``text`` in bold type where ``stream`` shows colours."""
    return _painted(text, _BOLD, stream)


def as_level(text: str, level: int, stream: TextIO) -> str:
    """``text`` in the colour of a warning or an error, by ``level`` of Python's logging."""
    if level >= logging.ERROR:
        return as_error(text, stream)
    return as_warning(text, stream) if level >= logging.WARNING else text


def _painted(text: str, code: str, stream: TextIO) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text and colour_wanted(stream) else text
