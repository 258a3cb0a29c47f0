"""A file as memory, without reading it."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import BinaryIO

import numpy as np

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import open_input


def map_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> memoryview:
    """The bytes of the file at ``path``, loaded page by page when they are looked at.

    The pages are private: they can be written to, and the file does not change. The mapping lives
    as long as anything that looks into it.

    Args:
        path: the file.
        max_bytes: the largest size to accept; None for any, since nothing is allocated for it.

    Raises:
        FileProblem: the file is missing, a folder, a pipe or a device, or cannot be read.
        FormatError: it is empty, or larger than ``max_bytes``.
    """
    with open_input(path, max_bytes) as file:
        size = _not_empty(file, path)
        try:
            return memoryview(_map(file.fileno(), size))
        except (OSError, ValueError) as error:
            raise FileProblem(f"{path}: cannot be mapped into memory: {error}") from error


def read_head(path: str | os.PathLike[str], size: int = 4096) -> bytes:
    """The first ``size`` bytes of a file, for recognising it.

    Raises:
        FileProblem, FormatError: as :func:`map_file`.
    """
    with open_input(path) as file:
        _not_empty(file, path)
        try:
            return file.read(size)
        except OSError as error:
            raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error


def check_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> int:
    """The size in bytes of a regular, non-empty file that can be opened.

    Raises:
        FileProblem, FormatError: as :func:`map_file`.
    """
    with open_input(path, max_bytes) as file:
        return _not_empty(file, path)


def _not_empty(file: BinaryIO, path: str | os.PathLike[str]) -> int:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise FormatError(f"{path}: the file is empty; was its download or its writer stopped?")
    return size


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
