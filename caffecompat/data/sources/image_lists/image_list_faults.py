"""Diagnosis of image lists whose lines or names are wrong: the likely cause and the remedy."""

from __future__ import annotations

import os
import shlex

from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name

BACKSLASH = b"\\"


def why_no_label(path: str, line: bytes, number: int) -> str:
    """A clause about a line that does not end in a number; ``number`` counts lines from 1."""
    shown = f"line {number} is {_shown(line)}"
    name, space, label = line.rpartition(b" ")
    for separator, what in ((b"\t", "a tab"), (b",", "a comma"), (b";", "a semicolon")):
        if line.rpartition(separator)[2].strip().isdigit() and separator in line:
            mended = _replaced(path, separator)
            return f"{shown}, with {what} before the label, expected one space; {mended}"
    if space and not label:
        mended = _edited(path, "sed", "s/ *$//")
        return f"{shown}, with a space at its end; to remove such spaces: {mended}"
    if not space:
        return (
            f"{shown}, which has no label, expected a name, one space, a number; for images "
            "without labels give: --no-labels"
        )
    if name.isdigit():
        return (
            f"{shown}, with the label before the name, expected after it; to swap them: "
            f"{_edited(path, 'awk', '{print $2, $1}')}"
        )
    return (
        f"{shown}, whose label is a word; caffecompat convert-imageset takes it with "
        "--number-labels, which numbers the words in alphabetical order, or with --labels FILE, "
        "one word per line, the first for label 0"
    )


def refuse_absent(path: str, root: str, names: list[bytes]) -> None:
    """Checks that a file exists for at least one of the names; stops at the first.

    Args:
        path: the list, for the message.
        root: the prefix of each name, including a slash.
        names: the names as listed.

    Raises:
        DataError: there is none; the message has the likely cause.
    """
    prefix = os.fsencode(root)
    if any(os.path.lexists(prefix + name) for name in names if b"\0" not in name):
        return
    first = prefix + names[0]
    raise DataError(
        f"{path}: none of its {len(names):,} images exists (ROOT and the name in line 1 make "
        f"{_shown(first)}); {_cause(path, root, names[0])}"
    )


def _cause(path: str, root: str, name: bytes) -> str:
    prefix = os.fsencode(root)
    if root and not root.endswith("/") and _exists(prefix + b"/" + name):
        return f"did you mean {root}/ ?"
    if b"\t" in name:
        return (
            f"line 1 has a tab, expected one space before the label; {_replaced(path, bytes([9]))}"
        )
    if _exists(name):
        outside = "/" if name.startswith(b"/") else "./"
        return f"the names have their folder already; did you mean {outside} in place of {root} ?"
    if _exists(prefix + name.replace(b"\\", b"/")):
        return f"the names have backslashes; {_replaced(path, BACKSLASH, '/')}"
    beside = os.path.join(os.path.dirname(path), root)
    if _exists(os.fsencode(beside) + name):
        return f"did you mean {beside} ?"
    if not os.path.isdir(root or "."):
        return f"there is no folder {root} (from {os.getcwd()})"
    return f"ROOT is the prefix of the names, from {os.getcwd()}; correct ROOT or the list"


def _exists(path: bytes) -> bool:
    return b"\0" not in path and os.path.isfile(path)


def _replaced(path: str, separator: bytes, by: str = " ") -> str:
    written = {b"\t": r"\t", b"\\": r"\\"}.get(separator, separator.decode())
    stem, suffix = os.path.splitext(path)
    target = shlex.quote(f"{stem}_mended{suffix}")
    return f"to replace them: tr '{written}' '{by}' < {shlex.quote(path)} > {target}"


def _edited(path: str, program: str, script: str) -> str:
    stem, suffix = os.path.splitext(path)
    target = shlex.quote(f"{stem}_mended{suffix}")
    return f"{program} '{script}' {shlex.quote(path)} > {target}"


def _shown(name: bytes) -> str:
    return repr(short_name(name.decode(errors="backslashreplace")))
