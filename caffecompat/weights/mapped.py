"""A file as memory, without reading it."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from pathlib import Path

import numpy as np

from caffecompat.errors import FileProblem, FormatError


def map_file(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of the file at ``path``, loaded page by page when they are looked at.

    The pages are private: they can be written to, and the file does not change. The mapping lives
    as long as anything that looks into it.

    Raises:
        FileProblem: the file is missing, a folder, or cannot be read.
        FormatError: it is empty.
    """
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            return memoryview(_map(file.fileno(), size))
    except (OSError, ValueError) as error:
        raise FileProblem(f"{path}: cannot be mapped into memory: {error}") from error


def read_head(path: str | os.PathLike[str], size: int = 4096) -> bytes:
    """The first ``size`` bytes of a file, for recognising it.

    Raises:
        FileProblem, FormatError: as :func:`map_file`.
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error


def check_file(path: str | os.PathLike[str]) -> int:
    """The size in bytes of a regular, non-empty file.

    Raises:
        FileProblem: there is no such file, or it is a folder, a pipe or a device.
        FormatError: it is empty.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError as error:
        raise FileProblem(f"{path}: there is no such file (from {os.getcwd()})") from error
    except (OSError, ValueError) as error:
        raise FileProblem(f"{path}: cannot be read: {error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise FileProblem(f"{path}: this is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise FileProblem(f"{path}: this is not a regular file")
    if not status.st_size:
        raise FormatError(f"{path}: the file is empty; was its download or its writer stopped?")
    return status.st_size


def forget(array: np.ndarray) -> None:
    """Gives back the memory behind a view into a mapped file; it is read again when looked at.

    Only for arrays that nobody has written to: changes would be lost. Arrays with memory of
    their own, and systems that cannot do it, are left alone.
    """
    source = _mapping(array)
    if source is None or not hasattr(source, "madvise") or not array.flags.c_contiguous:
        return
    first = array.__array_interface__["data"][0]
    start = first - np.frombuffer(source, np.uint8).__array_interface__["data"][0]
    inside = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - inside
    if length > 0:
        with contextlib.suppress(OSError, ValueError):
            source.madvise(mmap.MADV_DONTNEED, inside, length)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def _map(descriptor: int, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    except OSError:
        # Private writable pages need a promise of memory that a small machine may not give.
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
