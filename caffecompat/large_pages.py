"""Weights and blobs in pages of 2 MB, where the kernel has them.

A pass reads all weights once. With pages of 4 KB the processor looks up an address for each; inner
products, which do little else than read, take a tenth longer. On a virtual machine whose host has
cut its memory into small pages too, a lookup takes longer, and a training up to half as long again.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from torch import nn

# Of Linux: the number of the advice (since 6.1), and the sizes of pages.
_COLLAPSE = 25
LARGE = 2 << 20
_SMALL = mmap.PAGESIZE
# The bit of an entry of /proc/self/pagemap which says that the page is in memory.
_PRESENT = 63

# First address and the one after the last.
Range: TypeAlias = tuple[int, int]


@dataclass
class LargePages:
    """Attributes:
    bytes: how much memory has moved to large pages.
    """

    bytes: int = 0

    def __str__(self) -> str:
        return f"moved {self.bytes >> 20} MB to pages of 2 MB" if self.bytes else ""


@contextmanager
def large_pages(wanted: bool = True) -> Iterator[LargePages]:
    """Context after which the memory that was filled in it is in large pages.

    Nothing happens where the kernel has no such call, or where a part of a page is not in memory,
    so that the process does not grow.
    """
    pages = LargePages()
    if not wanted or not sys.platform.startswith("linux"):
        yield pages
        return
    _release_free_memory()
    before = set(_whole_pages(_mappings()))
    yield pages
    pages.bytes = _collapse(page for page in _whole_pages(_mappings()) if page not in before)


def collapse_memory() -> LargePages:
    """Moves all memory of the process, as far as it is in use, to large pages."""
    pages = LargePages()
    if sys.platform.startswith("linux"):
        pages.bytes = _collapse(_whole_pages(_mappings()))
    return pages


def collapse(ranges: Iterable[Range]) -> int:
    """Moves memory to large pages; returns the bytes that are in them."""
    return _collapse(_whole_pages(ranges)) if sys.platform.startswith("linux") else 0


def collapse_parameters(module: nn.Module) -> int:
    """The same for the parameters of a module on the CPU."""
    return collapse((p.data_ptr(), p.data_ptr() + p.nbytes) for p in module.parameters())


def _collapse(pages: Iterable[int]) -> int:
    madvise = getattr(_c_library(), "madvise", None)
    if madvise is None:
        return 0
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return LARGE * sum(madvise(page, LARGE, _COLLAPSE) == 0 for page in pages)


def _release_free_memory() -> None:
    """Gives memory that was freed back to the kernel, so that what is filled next is seen."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _c_library() -> Any:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def _whole_pages(ranges: Iterable[Range]) -> list[int]:
    """The addresses of large pages within ``ranges`` all of whose small pages are in memory."""
    count = LARGE // _SMALL
    found: list[int] = []
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            for start, end in ranges:
                first, last = -(-start // LARGE), end // LARGE
                if last <= first:
                    continue
                file.seek(first * count * 8)
                entries = np.frombuffer(file.read((last - first) * count * 8), np.uint64)
                whole = (entries.reshape(-1, count) >> np.uint64(_PRESENT)).all(1)
                found += [(first + int(page)) * LARGE for page in np.flatnonzero(whole)]
    except (OSError, ValueError):
        return []
    return found


def _mappings() -> list[Range]:
    """The process's memory that belongs to no file."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, rights, _, _, file, *name = line.split(maxsplit=5)
        if rights == "rw-p" and file == "0" and name in ([], ["[heap]"]):
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
