"""Weights in pages of 2 MB, where the kernel has them.

A pass reads all weights once. With pages of 4 KB the processor looks up an address for each; inner
products, which do little else than read, take a tenth longer.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

# Of Linux: the number of the advice (since 6.1), the sizes of pages.
_COLLAPSE = 25
LARGE = 2 << 20
_SMALL = 4096
# Less memory is not worth the call.
_LEAST_BYTES = 4 * LARGE
# In an entry of /proc/self/pagemap: the page is in memory.
_PRESENT = 1 << 63

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
    """Context after which the memory that was allocated in it is in large pages.

    Nothing happens where the kernel has no such call, or where parts of a page are not in memory,
    so that the process does not grow.
    """
    pages = LargePages()
    before = set(_mappings()) if wanted else set()
    yield pages
    if wanted:
        pages.bytes = collapse(_added(before, _mappings()))


def collapse(ranges: Iterable[Range]) -> int:
    """Moves memory to large pages; returns the bytes that are in them."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pages = [
                page
                for start, end in ranges
                for page in range(-(-start // LARGE) * LARGE, end // LARGE * LARGE, LARGE)
                if _is_whole(pagemap, page)
            ]
    except (OSError, AttributeError):
        return 0
    return LARGE * sum(madvise(page, LARGE, _COLLAPSE) == 0 for page in pages)


def _is_whole(pagemap: BinaryIO, page: int) -> bool:
    """Whether all small pages of a large one are in memory."""
    count = LARGE // _SMALL
    pagemap.seek(page // _SMALL * 8)
    entries = array("Q", pagemap.read(count * 8))
    return len(entries) == count and all(entry & _PRESENT for entry in entries)


def _mappings() -> list[Range]:
    """The process's memory that belongs to no file."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, rights, _, _, file, *name = line.split(maxsplit=5)
        if rights == "rw-p" and file == "0" and (not name or name[0] in ("[heap]",)):
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _added(before: set[Range], after: list[Range]) -> list[Range]:
    """What is large in ``after`` and not in ``before``."""
    found = []
    for start, end in after:
        # A mapping grows at its end, that of a heap, or at its start.
        known = [(s, e) for s, e in before if s < end and e > start]
        edges = [start, *(edge for known_range in sorted(known) for edge in known_range), end]
        found += list(zip(edges[::2], edges[1::2], strict=True))
    return [(start, end) for start, end in found if end - start >= _LEAST_BYTES]
