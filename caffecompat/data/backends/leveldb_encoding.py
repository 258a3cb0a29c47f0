"""What tables and logs of a LevelDB share: entries, the encoding of numbers and strings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from caffecompat.errors import FormatError
from caffecompat.input_files import open_input

DAMAGED = "the database is damaged, copy it again or create it again"


class Entry(NamedTuple):
    """One write of a key; among several writes the one with the highest sequence number counts.

    The value starts at ``start`` in block ``block`` of its file, or in the file if ``block`` is -1.
    """

    key: bytes
    sequence: int
    deleted: bool
    block: int
    start: int
    length: int


class Part(Protocol):
    """A table or a log; ``size`` is its file's length in bytes."""

    size: int

    def entries(self) -> Iterator[Entry]:
        """All writes in order of (key, newest first)."""

    def value(self, block: int, start: int, length: int) -> bytes:
        """The value that an entry points to."""


def read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """A string after its length, and the position after it."""
    length, at = read_number(data, at)
    if at + length > len(data):
        raise ValueError(f"a string of {length} bytes runs over the end")
    return data[at : at + length], at + length


def read_numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """``count`` numbers, and the position after them."""
    values = []
    for _ in range(count):
        value, at = read_number(data, at)
        values.append(value)
    return values, at


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the position after it.

    Raises:
        ValueError, IndexError: it has more than 64 bits, or does not end.
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {at} has no end")


def file_content(folder: str, name: str, max_bytes: int) -> bytes:
    """A file of the database, read whole.

    Raises:
        FileProblem: it cannot be read.
        FormatError: it is larger than ``max_bytes``.
    """
    path = os.path.join(folder, name)
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise FormatError(
                f"{path}: {size:,} bytes, more than the {max_bytes:,} that such a file of a "
                f"LevelDB may have; {DAMAGED}"
            )
        return file.read(size)
