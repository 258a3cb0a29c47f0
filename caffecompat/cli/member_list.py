"""Text files whose lines are arguments of a verb: the members of an ensemble."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from typing import NoReturn

# The largest such file, in bytes.
_MAX_BYTES = 1 << 20


def member_lines(path: str, max_bytes: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """The place (``file:line``) and the words of each line that has any; # begins a comment.

    Raises:
        FileProblem, FormatError: the file cannot be read, or is larger than 1 MiB.
        DataError: a line has an open quote.
    """
    from caffecompat.errors import DataError
    from caffecompat.input_files import read_input

    text = read_input(path, max_bytes or _MAX_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{path}:{number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error
        if words:
            yield place, words


def parse_member(
    words: list[str],
    place: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    defaults: dict[str, object],
) -> argparse.Namespace:
    """The arguments on one line; those that it does not give are ``defaults``.

    Raises:
        DataError: they are wrong.
    """
    parser = _LineParser(place)
    add_arguments(parser)
    return parser.parse_args(words, argparse.Namespace(**defaults))


class _LineParser(argparse.ArgumentParser):
    """Parses one line of a file; a mistake is an error of the file."""

    def __init__(self, place: str) -> None:
        super().__init__(add_help=False)
        self._place = place

    def error(self, message: str) -> NoReturn:
        from caffecompat.errors import DataError

        raise DataError(f"{self._place}: {message}")
