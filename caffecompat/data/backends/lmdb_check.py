"""The check of all pages of an LMDB file before LMDB's library writes to it.

The library trusts the file. Reading does not use the library
(:mod:`caffecompat.data.backends.lmdb_pages`), but resuming an unfinished database does, even after
a crash of the machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from caffecompat.data.backends.lmdb_pages import Child, Leaf, LmdbFile, Tree
from caffecompat.input_files import PathLike

_FIRST_PAGE = 2
# Flags of the tree of free pages; the second mask includes that of a database without a folder.
_INTEGER_KEYS, _FREE_FLAGS = 8, 0x4000


def check_file(path: PathLike) -> None:
    """Checks every page in use (only the header of large values) and the list of free pages.

    Reads each branch and leaf page, and 16 bytes per large value.

    Raises:
        FileProblem: the file cannot be opened.
        ValueError: it is damaged; the message says where.
    """
    file = LmdbFile(path)
    try:
        # Other flags mean another order of keys or another form of values than in Caffe's files.
        if file.meta.main.flags or file.meta.free.flags & ~_FREE_FLAGS != _INTEGER_KEYS:
            raise ValueError("its meta page has flags that no database of Caffe's has")
        used = bytearray(file.meta.last_page + 1)
        for _ in _leaves(file, file.meta.main, used, integers=False):
            pass
        for leaf in _leaves(file, file.meta.free, used, integers=True):
            for place in range(len(leaf.keys)):
                _take_free_pages(file.value(leaf, place), used)
    finally:
        file.close()


def _leaves(file: LmdbFile, tree: Tree, used: bytearray, integers: bool) -> Iterator[Leaf]:
    """The leaves of a tree; checks its page counts, and that no page is used twice."""
    level = [Child(tree.root, None, None)] if tree.depth else []
    branch_pages = overflow_pages = entries = 0
    for _ in range(tree.depth - 1):
        branch_pages += len(level)
        for child in level:
            _use(child.number, 1, used)
        level = [below for child in level for below in file.children(child, integers)]
    for child in level:
        _use(child.number, 1, used)
        leaf = file.leaf(child, integers)
        entries += len(leaf.keys)
        for _, size, page in leaf.values:
            if page:
                count = file.check_overflow(page, size)
                overflow_pages += count
                _use(page, count, used)
        yield leaf
    found = (branch_pages, len(level), overflow_pages, entries)
    expected = (tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries)
    if found != expected:
        raise ValueError(
            f"its branch, leaf and overflow pages and records are {found}, but its meta page "
            f"states {expected}"
        )


def _use(page: int, count: int, used: bytearray) -> None:
    if any(used[page : page + count]):
        raise ValueError(f"page {page} is used twice")
    used[page : page + count] = b"\1" * count


def _take_free_pages(value: bytes, used: bytearray) -> None:
    """Checks the free pages of one transaction: their count, then their numbers, descending."""
    if len(value) < 8 or len(value) % 8:
        raise ValueError("its list of free pages is damaged")
    count, *pages = struct.unpack(f"<{len(value) // 8}Q", value)
    if count > len(pages):
        raise ValueError("its list of free pages is longer than the record that holds it")
    for page in pages[:count]:
        if not _FIRST_PAGE <= page < len(used):
            raise ValueError(
                f"its list of free pages has page {page}, which the file does not have"
            )
        _use(page, 1, used)
