"""``--flagfile``: flags from a text file, as programs with Google's gflags take them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from caffecompat.errors import FormatError
from caffecompat.input_files import read_input

_NAMES = {"-flagfile", "--flagfile"}
_MOST_BYTES = 1 << 20


def with_flag_files(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the flags of each file in the place of the ``--flagfile`` that names it.

    A file has a flag in each line, ``-name=value``, ``-name value`` or ``-name``; a value goes to
    the end of its line, without quotes. Lines that begin with ``#`` are comments.
    ``--flagfile a,b`` names two files, and a file may name others.

    Raises:
        FileProblem: a file cannot be read.
        FormatError: a line is no flag, or a file names itself.
    """
    return list(_expanded(arguments, ()))


def _expanded(arguments: Sequence[str], inside: tuple[str, ...]) -> Iterator[str]:
    words = iter(arguments)
    for word in words:
        name, joined, value = word.partition("=")
        if word == "--":
            yield from [word, *words]
        elif name not in _NAMES:
            yield word
        else:
            value = value if joined else next(words, "")
            for path in [value] if os.path.exists(value) else value.split(","):
                yield from _expanded(list(_flags(path, inside)), (*inside, path))


def _flags(path: str, inside: tuple[str, ...]) -> Iterator[str]:
    """The words of a file."""
    if not path:
        raise FormatError("--flagfile: expected the name of a file; write --flagfile=FILE")
    if path in inside:
        raise FormatError(f"{path}: names itself by --flagfile; take that line out")
    text = read_input(path, _MOST_BYTES).decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.splitlines(), 1):
        flag = line.strip()
        if not flag or flag.startswith("#"):
            continue
        if not flag.startswith("-"):
            raise FormatError(
                f"{path}:{number}: {flag!r} is no flag; write one in each line, -name=value, and "
                "# before a comment"
            )
        name, joined, _ = flag.partition("=")
        yield from [flag] if joined and not name.count(" ") else flag.split(None, 1)
