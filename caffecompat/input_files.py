"""Input files before anything is read from them: their kind, their size, what they claim.

A file from elsewhere may be a pipe that never answers, a device that never ends, or a few
megabytes that claim to hold terabytes. Every reader opens its file here, and holds what the
content claims against a limit before memory is allocated for it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO, TypeAlias

from caffecompat.errors import FileProblem, FormatError

PathLike: TypeAlias = str | os.PathLike[str]

STANDARD_INPUT = "-"

MEBIBYTE = 1 << 20

# The largest text file (prototxt, solver, list, log) that is read without being asked to.
MAX_TEXT_BYTES = 512 * MEBIBYTE

_PIECE = 4 * MEBIBYTE

# What a file may claim to hold: this many times its own size, and this much for small files.
CLAIM_FACTOR = 4
CLAIM_ALLOWANCE = 64 * MEBIBYTE

# How a user lifts a limit; the last words of each message about one.
REMEDY = "if you trust the file, raise the limit with --max-bytes (max_bytes in Python)"


def open_input(path: PathLike, max_bytes: int | None = None) -> BinaryIO:
    """Opens a regular file for reading.

    The kind is asked of the opened file, not of its name, so nothing can be swapped between the
    two; a pipe without a writer does not block.

    Args:
        path: the file; a symbolic link is followed.
        max_bytes: the largest size to accept; None for any.

    Raises:
        FileProblem: no such file, a folder, a pipe, a device or a socket, or not readable.
        FormatError: it is larger than ``max_bytes``.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise FileProblem(f"{name}: {_reason(error)}") from error
    try:
        status = os.fstat(descriptor)
        check_regular(status, name)
        check_size(status.st_size, max_bytes, name)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_input(path: PathLike, max_bytes: int | None = None) -> bytes:
    """The whole content of a regular file, or of standard input where ``path`` is ``-``.

    Args:
        path: the file.
        max_bytes: the largest size to read; None for :data:`MAX_TEXT_BYTES`.

    Raises:
        FileProblem, FormatError: as :func:`open_input`; a file that grows while it is read, and
            standard input, are held against ``max_bytes`` too.
    """
    limit = MAX_TEXT_BYTES if max_bytes is None else max_bytes
    if os.fspath(path) == STANDARD_INPUT:
        return _read_up_to(sys.stdin.buffer, limit, "standard input")
    with open_input(path, limit) as file:
        return _read_up_to(file, limit, os.fspath(path))


def check_regular(status: os.stat_result, name: str) -> None:
    """Refuses everything that is not a regular file.

    Raises:
        FileProblem: a folder, a pipe, a device or a socket, which the message names.
    """
    if stat.S_ISREG(status.st_mode):
        return
    kind = _kind(status.st_mode)
    raise FileProblem(f"{name}: is {kind}, expected a file")


def check_size(size: int, max_bytes: int | None, name: str) -> None:
    """Refuses a size above a limit.

    Raises:
        FormatError: ``size`` is larger than ``max_bytes``.
    """
    if max_bytes is not None and size > max_bytes:
        raise FormatError(
            f"{name}: {size:,} bytes, more than the limit of {max_bytes:,} for such a file; "
            f"{REMEDY}"
        )


class StandardInput:
    """What came through standard input; it stands where a path of a prototxt does.

    Attributes:
        data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __fspath__(self) -> str:
        """The name in messages."""
        return "standard input"


def path_or_standard_input(path: str, max_bytes: int | None = None) -> PathLike:
    """``path``, or the content of standard input where it is ``-``.

    Raises:
        FormatError: there is more than ``max_bytes`` (512 MiB) of it.
    """
    return StandardInput(read_input(path, max_bytes)) if path == STANDARD_INPUT else path


class ClaimedBytes:
    """Adds up what a file claims to hold, and refuses it before it is allocated.

    Args:
        path: the file's name in messages.
        file_bytes: its size on disk.
        max_bytes: the most that it may claim; None for four times its size plus 64 MiB.
        remedy: the last words of the message: what a user can do about it.
    """

    def __init__(
        self,
        path: PathLike,
        file_bytes: int,
        max_bytes: int | None = None,
        remedy: str = REMEDY,
    ) -> None:
        self._path = os.fspath(path)
        self._remedy = remedy
        self._file_bytes = file_bytes
        self.remedy = remedy
        default = CLAIM_FACTOR * file_bytes + CLAIM_ALLOWANCE
        self.limit = default if max_bytes is None else max_bytes
        self.total = 0

    def add(self, size: int, what: str = "its content") -> None:
        """Counts ``size`` more bytes that ``what`` (the noun in the message) would take.

        Raises:
            FormatError: the sum is above the limit.
        """
        self.total += size
        if self.total > self.limit:
            raise FormatError(
                f"{self._path}: {what} would take {self.total:,} bytes or more, but the file has "
                f"{self._file_bytes:,} and the limit is {self.limit:,}; {self._remedy}"
            )


def _read_up_to(file: BinaryIO, max_bytes: int, name: str) -> bytes:
    # Piece by piece, as to ask for the limit at once would allocate as much.
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := file.read(min(_PIECE, max_bytes + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            check_size(size, max_bytes, name)
    except OSError as error:
        raise FileProblem(f"{name}: {_reason(error)}") from error
    return b"".join(pieces)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no such file (from {Path.cwd()})"
    if isinstance(error, OSError) and error.errno == errno.ENXIO:
        return "is a pipe or a socket, expected a file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be read: {text}"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")
