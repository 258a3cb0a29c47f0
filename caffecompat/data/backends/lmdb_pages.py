"""The LMDB page reader: every page is checked before it is used.

LMDB's own library maps the file into memory and trusts every number in it: a signal ends the
process if the file is damaged or is cut off while it is open. This module reads pages with ordinary
file reads and checks each number before it is used. It takes no lock and writes nothing. Source of
the layout: mdb.c of LMDB 0.9 (data version 1), 64 bit, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from caffecompat.data.backends.random_access import RandomAccessFile
from caffecompat.input_files import PathLike

# Page header: number, unused, flags, end of the node offsets, start of the nodes.
_HEADER = struct.Struct("<QHHHH")
# Header of overflow pages: number, unused, flags, number of pages.
_OVERFLOW_HEADER = struct.Struct("<QHHI")
# Meta page: magic, version, and the address and size of the writer's map.
_META = struct.Struct("<IIQQ")
# Tree: page size or unused, flags, depth, branch, leaf and overflow pages, entries, root.
_TREE = struct.Struct("<IHHQQQQQ")
# After the trees of free pages and of records: the last page in use, and the transaction.
_META_END = struct.Struct("<QQ")
# Node: low and high half of a size or page number, flags (or the third part), length of the key.
_NODE = struct.Struct("<HHHH")
_NUMBER = struct.Struct("<Q")

_MAGIC = 0xBEEFC0DE
_VERSION = 1
BRANCH, LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
# Excludes flags that a writer uses only in memory.
_KIND_MASK = 0x6F
_NAMES = {BRANCH: "a branch page", LEAF: "a leaf page", _OVERFLOW: "an overflow page"}
_BIG_VALUE, _SUB_DATABASE, _DUPLICATES = 1, 2, 4
_DUPSORT = 4
_OTHER_ORDER = 2 | 8
_NO_PAGE = (1 << 64) - 1
_FIRST_PAGE = 2
_MAX_LEVELS = 32
_PAGE_SIZES = tuple(1 << power for power in range(8, 16))
# Bytes of the smallest entry: its offset, its header and one byte of key.
_MIN_ENTRY = 11


@dataclass(frozen=True)
class Tree:
    """The description of a B+tree in a meta page."""

    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


@dataclass(frozen=True)
class Meta:
    """The state of a database after its latest transaction."""

    page_size: int
    last_page: int
    transaction: int
    free: Tree
    main: Tree


class Child(NamedTuple):
    """A page and the bounds of its keys: at least ``low``, less than ``high`` (None: no bound)."""

    number: int
    low: bytes | None
    high: bytes | None


# The location of a value: start, length in bytes, first overflow page. The start is a position in
# the file, or in the leaf page if the overflow page is 0. A plain tuple, since each record has one.
Value: TypeAlias = tuple[int, int, int]


class Leaf(NamedTuple):
    """The records of a leaf page in order of their keys.

    ``data`` is the page; ``overflow_pages`` is the number of overflow pages of its values.
    """

    data: bytes
    keys: list[bytes]
    values: list[Value]
    overflow_pages: int


class LmdbFile:
    """The data file of an LMDB, open for reading.

    Args:
        path: ``data.mdb``.

    Raises:
        FileProblem: it cannot be opened, or is not a regular file.
        ValueError: it is not an LMDB, of an unsupported kind, or cut off; the message says why.
    """

    def __init__(self, path: PathLike) -> None:
        self._file = RandomAccessFile(path)
        self.size = self._file.size
        self.meta = self._read_meta()
        self._check_trees()
        self._pages = self.meta.last_page + 1

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()

    def was_written(self) -> bool:
        """Whether another process has changed the database since it was opened."""
        try:
            return self._read_meta() != self.meta
        except ValueError:
            return True

    def count(self, number: int) -> int:
        """Number of records of a leaf page, by its header alone.

        Raises:
            ValueError: it is not a leaf page.
        """
        header = self._file.read(number * self.meta.page_size, _HEADER.size)
        return (self._bounds(header, number, LEAF)[0] - _HEADER.size) // 2

    def child(self, branch: Child, place: int) -> Child:
        """The page at index ``place`` below a branch page that :meth:`children` has checked.

        Raises:
            ValueError: the page is damaged now.
        """
        data, offsets, _ = self._page(branch.number, BRANCH)
        low, high = branch.low, branch.high
        if not 0 <= place < len(offsets):
            raise ValueError(f"page {branch.number} has {len(offsets)} branches")
        number, key = self._branch_node(data, offsets[place], branch.number)
        if place:
            low = key
        if place + 1 < len(offsets):
            high = self._branch_node(data, offsets[place + 1], branch.number)[1]
        if not _FIRST_PAGE <= number < self._pages:
            raise ValueError(f"page {branch.number} names a page that the file does not have")
        return Child(number, low, high)

    @staticmethod
    def _branch_node(data: bytes, at: int, page: int) -> tuple[int, bytes]:
        """The page number and the key of a node."""
        low, middle, high, key_size = _NODE.unpack_from(data, at)
        if at + 8 + key_size > len(data):
            raise ValueError(f"a key of page {page} runs over its end")
        return low | middle << 16 | high << 32, data[at + 8 : at + 8 + key_size]

    def children(self, branch: Child, integers: bool = False) -> list[Child]:
        """The pages below a branch page.

        Args:
            branch: the page.
            integers: whether keys are little-endian numbers in numeric order; their bytes are
                reversed here, which makes the numeric order the byte order.

        Raises:
            ValueError: the page is damaged.
        """
        data, offsets, remaining = self._page(branch.number, BRANCH)
        if len(offsets) < 2:
            raise ValueError(
                f"page {branch.number} has {len(offsets)} branches, expected 2 or more"
            )
        numbers: list[int] = []
        keys: list[bytes] = []
        for at in offsets:
            child, key = self._branch_node(data, at, branch.number)
            numbers.append(child)
            keys.append(key)
            remaining -= 8 + len(key) + len(key) % 2
        if remaining < 0:
            raise ValueError(f"the branches of page {branch.number} overlap")
        if max(numbers) >= self._pages or min(numbers) < _FIRST_PAGE:
            raise ValueError(f"page {branch.number} names a page that the file does not have")
        if integers:
            keys = [key[::-1] for key in keys]
        # The key of the first branch is unused; the page's own lower bound replaces it.
        bounds = [branch.low, *keys[1:], branch.high]
        if not _rising(keys[1:], branch.low, branch.high, strictly=True):
            raise ValueError(f"the keys of page {branch.number} are not in order")
        return [Child(n, bounds[i], bounds[i + 1]) for i, n in enumerate(numbers)]

    def leaf(self, child: Child, integers: bool = False) -> Leaf:
        """The records of a leaf page; values are not read; ``integers`` as in :meth:`children`.

        Raises:
            ValueError: the page is damaged.
        """
        number, page_size = child.number, self.meta.page_size
        data, offsets, remaining = self._page(number, LEAF)
        keys: list[bytes] = []
        values: list[Value] = []
        overflow_pages = 0
        for at in offsets:
            low, high, flags, key_size = _NODE.unpack_from(data, at)
            size, content = low | high << 16, at + 8 + key_size
            keys.append(data[at + 8 : content])
            if flags == 0 and content + size <= page_size:
                values.append((content, size, 0))
                remaining -= (8 + key_size + size + 1) & -2
            elif flags == _BIG_VALUE and content + 8 <= page_size:
                (page,) = _NUMBER.unpack_from(data, content)
                remaining -= 16 + key_size + key_size % 2
                values.append((page * page_size + _HEADER.size, size, page))
                pages = self.pages_of(size)
                overflow_pages += pages
                if not _FIRST_PAGE <= page <= self._pages - pages:
                    raise ValueError(
                        f"page {number} has a value of {size:,} bytes at page {page}, but the "
                        f"database has {self._pages:,} pages"
                    )
            else:
                raise ValueError(self._invalid_node(number, flags))
        if remaining < 0:
            raise ValueError(f"the records of page {number} overlap")
        if integers:
            keys = [key[::-1] for key in keys]
        if not keys[0] or not _rising(keys, child.low, child.high, strictly=False):
            raise ValueError(f"the keys of page {number} are not in order")
        return Leaf(data, keys, values, overflow_pages)

    def value(self, leaf: Leaf, place: int) -> bytes:
        """The value at index ``place`` of a leaf.

        Raises:
            ValueError: its overflow page is damaged, or the file has been cut off.
        """
        start, size, page = leaf.values[place]
        if not page:
            return leaf.data[start : start + size]
        self.check_overflow(page, size)
        return self._file.read(start, size)

    def check_overflow(self, page: int, size: int) -> int:
        """Number of overflow pages of a value of ``size`` bytes, by the header of the first one.

        Raises:
            ValueError: it is not an overflow page, or of another length.
        """
        header = self._file.read(page * self.meta.page_size, _OVERFLOW_HEADER.size)
        number, _, flags, count = _OVERFLOW_HEADER.unpack(header)
        _check_page(page, number, flags, _OVERFLOW)
        if not self.pages_of(size) <= count <= self._pages - page:
            raise ValueError(
                f"page {page} says that its value has {count} pages, expected {self.pages_of(size)}"
            )
        return int(count)

    def pages_of(self, size: int) -> int:
        """Number of overflow pages that a value of ``size`` bytes needs."""
        return -(-(_HEADER.size + size) // self.meta.page_size)

    def _page(self, number: int, kind: int) -> tuple[bytes, tuple[int, ...], int]:
        """A page, the offsets of its nodes, and the number of bytes of all nodes."""
        size = self.meta.page_size
        data = self._file.read(number * size, size)
        lower, upper = self._bounds(data, number, kind)
        offsets = struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", data, _HEADER.size)
        if min(offsets) < upper or max(offsets) > size - _NODE.size:
            raise ValueError(f"page {number} has a node outside the page")
        return data, offsets, size - upper

    def _bounds(self, data: bytes, number: int, kind: int) -> tuple[int, int]:
        """Where the offsets of a page end and where its nodes begin, by its header."""
        size = self.meta.page_size
        found, _, flags, lower, upper = _HEADER.unpack_from(data)
        _check_page(number, found, flags, kind)
        if not _HEADER.size < lower <= upper <= size or lower % 2:
            raise ValueError(
                f"page {number} has its offsets up to {lower} and its nodes from {upper} on, "
                f"which cannot be in a page of {size} bytes"
            )
        return lower, upper

    def _invalid_node(self, number: int, flags: int) -> str:
        if flags & _DUPLICATES:
            return f"page {number} has several values under one key, which Caffe does not write"
        if flags & _SUB_DATABASE:
            return f"page {number} has a named database in the place of a record"
        return f"a record of page {number} runs over its end"

    def _read_meta(self) -> Meta:
        """The newer of the two meta pages; both must be intact."""
        first = self._meta_at(0, None)
        second = self._meta_at(first.page_size, first.page_size)
        return max(first, second, key=lambda meta: meta.transaction)

    def _meta_at(self, start: int, page_size: int | None) -> Meta:
        size = _HEADER.size + _META.size + 2 * _TREE.size + _META_END.size
        data = self._file.read_up_to(start, size)
        if len(data) < size:
            raise ValueError(f"it has {self.size} bytes, too few for an LMDB")
        _check_magic(data)
        free_words = _TREE.unpack_from(data, _HEADER.size + _META.size)
        main_words = _TREE.unpack_from(data, _HEADER.size + _META.size + _TREE.size)
        last_page, transaction = _META_END.unpack_from(data, size - _META_END.size)
        meta = Meta(
            free_words[0], last_page, transaction, Tree(*free_words[1:]), Tree(*main_words[1:])
        )
        if meta.page_size not in _PAGE_SIZES or page_size not in (None, meta.page_size):
            raise ValueError(f"its meta page states pages of {meta.page_size} bytes")
        return meta

    def _check_trees(self) -> None:
        meta = self.meta
        expected = (meta.last_page + 1) * meta.page_size
        if self.size < expected:
            raise ValueError(
                f"data.mdb has {self.size} bytes, but its header states {expected}; "
                "the file is cut off"
            )
        if meta.main.flags & _DUPSORT:
            raise ValueError("it keeps several values under one key (DUPSORT)")
        if meta.main.flags & _OTHER_ORDER:
            raise ValueError("its keys are ordered as numbers or backwards, expected as bytes")
        for tree in (meta.main, meta.free):
            self._check_tree(tree)

    def _check_tree(self, tree: Tree) -> None:
        last, size = self.meta.last_page, self.size
        empty = tree.root == _NO_PAGE and tree.depth == tree.entries == tree.leaf_pages == 0
        sensible = (
            _FIRST_PAGE <= tree.root <= last
            and 1 <= tree.depth <= _MAX_LEVELS
            and tree.branch_pages + tree.leaf_pages + tree.overflow_pages <= last
            and tree.depth - 1 <= tree.branch_pages
            and 1 <= tree.leaf_pages <= tree.entries <= size // _MIN_ENTRY
        )
        if not (empty or sensible):
            raise ValueError(
                f"its meta page states {tree.entries:,} records on {tree.leaf_pages:,} leaf "
                f"pages in {tree.depth} levels below page {tree.root}, which cannot be in "
                f"{size:,} bytes"
            )


def _check_magic(data: bytes) -> None:
    _, _, flags, _, _ = _HEADER.unpack_from(data)
    magic, version, _, _ = _META.unpack_from(data, _HEADER.size)
    if magic == _MAGIC and flags & _KIND_MASK == _META_PAGE:
        if version != _VERSION:
            raise ValueError(f"its format has version {version}, expected {_VERSION}")
        return
    if struct.unpack_from("<I", data, 12)[0] == _MAGIC:
        raise ValueError(
            "it was written on a 32-bit machine, expected 64 bit; move it there with mdb_dump and "
            "here with mdb_load"
        )
    if _MAGIC.to_bytes(4, "big") in (data[12:16], data[16:20]):
        raise ValueError("it was written on a big-endian machine, expected little-endian")
    raise ValueError("it has no meta page where an LMDB has one")


def _check_page(number: int, found: int, flags: int, kind: int) -> None:
    if found != number:
        raise ValueError(f"page {number} has the number {found} in its header")
    if flags & _KIND_MASK != kind:
        raise ValueError(f"page {number} is not {_NAMES[kind]}, as expected (flags {flags:#x})")


def _rising(keys: list[bytes], low: bytes | None, high: bytes | None, strictly: bool) -> bool:
    """Whether keys are in strict order and within bounds (excluding ``low`` if ``strictly``)."""
    if any(map(bytes.__ge__, keys, keys[1:])):
        return False
    if low is not None and (keys[0] < low or (strictly and keys[0] == low)):
        return False
    return high is None or keys[-1] < high
