"""Opening of input files: checks of the file type, the file size and the claimed content size.

An untrusted path may name a pipe without a writer, an endless device, or a file of a few
megabytes whose header claims terabytes. Every reader opens its files here and checks claimed
sizes against a limit before it allocates memory.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

from caffecompat.errors import FileProblem, FormatError, nearest_name

PathLike: TypeAlias = str | os.PathLike[str]

STANDARD_INPUT = "-"

MEBIBYTE = 1 << 20

# The default limit for text files (prototxt, solver, image list, log).
MAX_TEXT_BYTES = 512 * MEBIBYTE

# Of a path that is made of an address, one of the two slashes may be left.
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|file):/")

# Of a folder, so many entries are compared with the name of a missing file.
_MOST_BESIDE = 2000

_BYTES_PER_READ = 4 * MEBIBYTE

# The default limit for claimed content: CLAIM_FACTOR * file size + CLAIM_ALLOWANCE.
CLAIM_FACTOR = 4
CLAIM_ALLOWANCE = 64 * MEBIBYTE


def limit_remedy(max_bytes: int) -> str:
    """The end of a message about a limit: what to add to the command."""
    return f"if you trust the file, add --max-bytes {max_bytes} (max_bytes={max_bytes} in Python)"


def default_claims(file_bytes: int) -> int:
    """The bytes that the content of a file may claim by default."""
    return CLAIM_FACTOR * file_bytes + CLAIM_ALLOWANCE


def open_input(path: PathLike, max_bytes: int | None = None) -> BinaryIO:
    """Opens a regular file for reading.

    The type check uses the open descriptor, so the file cannot be replaced between check and use.
    A pipe without a writer does not block.

    Args:
        path: the file; symbolic links are followed.
        max_bytes: the largest accepted size in bytes; None for no limit.

    Raises:
        FileProblem: the file is missing, not readable, or a folder, pipe, device or socket.
        FormatError: the file is larger than ``max_bytes``.
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


def check_input(path: PathLike) -> None:
    """Refuses what :func:`open_input` does not open, without reading anything.

    Raises:
        FileProblem: as :func:`open_input`.
    """
    open_input(path).close()


def read_input(path: PathLike, max_bytes: int | None = None, remedy: str | None = None) -> bytes:
    """The whole content of a regular file, or of standard input where ``path`` is ``-``.

    Args:
        path: the file.
        max_bytes: the largest size to read; None for :data:`MAX_TEXT_BYTES`.
        remedy: the end of the message about a larger one, where ``--max-bytes`` is not its limit.

    Raises:
        FileProblem, FormatError: as :func:`open_input`. ``max_bytes`` also limits standard input
            and a file that grows while it is read.
    """
    limit = MAX_TEXT_BYTES if max_bytes is None else max_bytes
    if os.fspath(path) == STANDARD_INPUT:
        return _read_up_to(sys.stdin.buffer, limit, "standard input", remedy)
    with open_input(path) as file:
        check_size(os.fstat(file.fileno()).st_size, limit, os.fspath(path), remedy)
        return _read_up_to(file, limit, os.fspath(path), remedy)


def check_regular(status: os.stat_result, name: str) -> None:
    """Refuses everything but regular files.

    Raises:
        FileProblem: ``name`` is a folder, a pipe, a device or a socket; the message says which.
    """
    if stat.S_ISREG(status.st_mode):
        return
    kind = _kind(status.st_mode)
    raise FileProblem(f"{name}: is {kind}, expected a file")


def check_size(size: int, max_bytes: int | None, name: str, remedy: str | None = None) -> None:
    """Refuses a size above a limit.

    Args:
        size, max_bytes: in bytes; None for no limit.
        name: the file's name in the message.
        remedy: its end; None for the advice of a limit that admits the size, and lets the content
            claim no less than by default.

    Raises:
        FormatError: ``size`` is larger than ``max_bytes``.
    """
    if max_bytes is not None and size > max_bytes:
        raise FormatError(
            f"{name}: {size:,} bytes, more than the limit of {max_bytes:,} for such a file; "
            f"{remedy or limit_remedy(max(size, default_claims(size)))}"
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
    """Adds up the sizes that a file claims for its content, and refuses a sum above a limit.

    Args:
        path: the file's name in messages.
        file_bytes: its size on disk.
        max_bytes: the limit; None for four times ``file_bytes`` plus 64 MiB.
        remedy: the end of the message, which tells the user what to do; None for the advice of a
            limit that is enough.
        most: returns the most that the file can claim in all, for that advice; None where one
            :meth:`add` has all of it.

    Attributes:
        limit: the limit in bytes.
        total: the sum so far, in bytes.
    """

    def __init__(
        self,
        path: PathLike,
        file_bytes: int,
        max_bytes: int | None = None,
        remedy: str | None = None,
        most: Callable[[], int] = lambda: 0,
    ) -> None:
        self._path = os.fspath(path)
        self._file_bytes = file_bytes
        self._remedy = remedy
        self._most = most
        self.limit = default_claims(file_bytes) if max_bytes is None else max_bytes
        self.total = 0

    def add(self, size: int, what: str = "its content") -> None:
        """Adds ``size`` bytes for ``what``, a noun for the message.

        Raises:
            FormatError: the sum is above the limit.
        """
        self.total += size
        if self.total > self.limit:
            raise FormatError(
                f"{self._path}: {what} would take {self.total:,} bytes or more, but the file has "
                f"{self._file_bytes:,} and the limit is {self.limit:,}; {self.remedy()}"
            )

    def remedy(self, least: int = 0) -> str:
        """The end of a message about the limit.

        Args:
            least: what else the advised limit must admit.
        """
        if self._remedy is not None:
            return self._remedy
        default = default_claims(self._file_bytes)
        return limit_remedy(max(self.total, self._most(), default, least))


def _read_up_to(file: BinaryIO, max_bytes: int, name: str, remedy: str | None) -> bytes:
    # In pieces, because one read of max_bytes would allocate as much.
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := file.read(min(_BYTES_PER_READ, max_bytes + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            check_size(size, max_bytes, name, remedy)
    except OSError as error:
        raise FileProblem(f"{name}: {_reason(error)}") from error
    return b"".join(pieces)


def folder_with(path: PathLike, near: PathLike | None = None) -> Path | None:
    """The folder from which a relative path leads to something, where it does not from here.

    Caffe's files name others relative to the folder in which a program starts, mostly the root
    of a project. Tried are the folder of the file ``near``, for a path that begins with
    ".." those in it, those above it, and those above the current one; for a name without a folder,
    which may be anywhere by chance, the first alone.

    Args:
        path: what is not there from the current folder.
        near: a file, for instance the one that names ``path``.
    """
    if os.path.isabs(path) or not os.fspath(path):
        return None
    here = Path.cwd()
    folders = [] if near is None else list(Path(os.path.abspath(near)).parents)
    folders = folders[:1] if len(Path(path).parts) == 1 else [*folders, *here.parents]
    # Everything lies below the root; what has the name of a folder there is another thing.
    above = [one for one in folders if one.parent != one]
    tried = [*above[:1], *_below(path, near), *above[1:]]
    return next((one for one in tried if os.path.exists(one / os.fspath(path))), None)


def _below(path: PathLike, near: PathLike | None) -> list[Path]:
    """The folders beside ``near`` in which a path that begins with ".." may hold.

    Any of them leads to the same; those with programs come first, as one is started there.
    """
    if near is None or Path(path).parts[0] != "..":
        return []
    beside = Path(os.path.abspath(near)).parent
    try:
        found = [one for one in sorted(beside.iterdir()) if one.is_dir()]
        return sorted(found, key=lambda one: not any(one.glob("*.py")))
    except OSError:
        return []


def counterpart(path: PathLike, near: PathLike | None = None) -> str | None:
    """What the end of a path that is not there leads to, from here.

    Projects name their files by the paths of another machine, or by the folder that they were once
    in. Tried are the longest ends first, from the current folder, that of the file ``near`` and
    those above it; a name without a folder, which may be anywhere by chance, beside ``near`` alone.

    Args:
        path: what is not there.
        near: a file, for instance the one that names ``path``.
    """
    given = Path(os.fspath(path).replace("\\", "/"))
    parts = given.parts[1:] if given.parts else ()
    above = [] if near is None else list(Path(os.path.abspath(near)).parents)
    folders = [Path.cwd(), *(folder for folder in above if folder.parent != folder)]
    for start in range(len(parts)):
        end = Path(*parts[start:])
        single = start == len(parts) - 1
        for folder in above[:1] if single else folders:
            if os.path.exists(folder / end):
                return _shown(folder / end)
    return None


def _shown(path: Path) -> str:
    """A path as one may write it here: from the current folder if it lies below that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def written_here(path: PathLike, near: PathLike | None = None) -> str:
    """What a message about a missing path says of its :func:`counterpart`; empty without one."""
    found = counterpart(path, near)
    return "" if found is None else f"; here it may be {found}"


def _alike(path: str) -> str:
    """The file of the same kind beside a missing one whose name is most like it; else empty."""
    folder, name = os.path.split(path)
    end = os.path.splitext(name)[1]
    try:
        with os.scandir(folder or ".") as entries:
            beside = [one.name for one in islice(entries, _MOST_BESIDE) if one.name.endswith(end)]
    except (OSError, ValueError):
        return ""
    near = nearest_name(name, beside) if end else None
    return "" if near is None else f"; did you mean {os.path.join(folder, near)!r}?"


def elsewhere(folder: Path | None) -> str:
    """What a message about a missing path adds, within its brackets, if ``folder`` has it."""
    return "" if folder is None else f"; from {folder} there is one"


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        name = error.filename
        if isinstance(name, str) and _ADDRESS.match(name):
            return (
                "this is an address; nothing is read from a network: download it, and name the file"
            )
        if isinstance(name, str) and os.path.islink(name):
            return f"is a link to {os.readlink(name)}, which is not there (from {Path.cwd()})"
        there = folder_with(name) if isinstance(name, str) else None
        hint = elsewhere(there)
        if isinstance(name, str) and not hint:
            hint = written_here(name) or _alike(name)
        return f"there is no such file (from {Path.cwd()}{hint})"
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
    return kinds.get(stat.S_IFMT(mode), "not a regular file")
