"""Memory-mapped files."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import BinaryIO

import numpy as np

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import open_input


def map_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> memoryview:
    """The bytes of the file at ``path``, loaded page by page on access.

    The pages are private: writing to them does not change the file. The mapping exists as long as
    any view into it.

    Args:
        path: the file.
        max_bytes: the largest accepted size; None for no limit, since no memory is allocated.

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
    """The first ``size`` bytes of a file, to recognise its type.

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
    """Checks that a file can be opened, is regular and is not empty; returns its size in bytes.

    Raises:
        FileProblem, FormatError: as :func:`map_file`.
    """
    with open_input(path, max_bytes) as file:
        return _not_empty(file, path)


def _not_empty(file: BinaryIO, path: str | os.PathLike[str]) -> int:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise FormatError(
            f"{path}: the file is empty; perhaps its download or the program that wrote it was "
            "stopped: get it again"
        )
    return size


def release_pages(array: np.ndarray) -> None:
    """Releases the memory of a view into a mapped file; the next access reads the file again.

    Only for arrays that have not been written to: changes are lost. Does nothing for arrays that
    own their memory, and on systems without ``madvise``.
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
        # Private writable pages count as committed memory, which a small machine may refuse.
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
