"""Look-up of the records of an LMDB by number: which leaf page contains record 123,456.

The tree does not store record counts of its pages. Reading in order goes from leaf to leaf. The
first jump to a distant record reads the header of every leaf (about 4 us each, for about 85
records with Caffe's keys) and keeps the number of its first record.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from caffecompat.data.backends.lmdb_pages import Child, Leaf, LmdbFile
from caffecompat.reporting.progress import ProgressLines

# Up to this distance, from the position or from the start, leaves are read one after the other.
_NEAR = 1024
# Reading a leaf takes as long as reading the headers of this many leaves.
_HEADERS_PER_LEAF = 8
_NOTHING = Leaf(b"", [], [], 0)


class RecordFinder:
    """Finds records by number and keeps the current leaf. For one thread at a time.

    If one leaf page is damaged, its records are lost, but all other records can be read and keep
    their numbers.

    Args:
        file: the data file.
        path: the database's name, for lines about a jump that takes long.

    Raises:
        ValueError: the upper levels of the tree are damaged.
    """

    def __init__(self, file: LmdbFile, path: str) -> None:
        self._file = file
        self._path = path
        self._tree = file.meta.main
        self._parents = _lowest_branches(file)
        # The children of one parent; after a jump the parent is read again.
        self._children: tuple[int, list[Child]] = (-1, [])
        self._index: _Index | None = None
        self._fault: str | None = None
        self._summed = bytearray(self._tree.leaf_pages)
        self._overflow_pages = 0
        self._passed_over = 0
        self._rewind()

    def find(self, number: int) -> tuple[Leaf, int]:
        """The leaf of a record, and its index there; 0 <= ``number`` < entries.

        Raises:
            ValueError: it cannot be read; the message names the damaged page and its records.
        """
        if not self._first <= number < self._end:
            self._go_to(number)
        return self._leaf, number - self._first

    def _rewind(self) -> None:
        self._leaf, self._first, self._end = _NOTHING, 0, 0
        self._slot, self._parent, self._child = -1, 0, -1

    def _go_to(self, number: int) -> None:
        if self._fault is None and self._index is None:
            try:
                if self._walk_to(number):
                    return
            except ValueError:
                pass  # The index below determines which records are lost.
            self._index = self._make_index()
        self._rewind()
        if self._fault is not None:
            raise ValueError(self._fault)
        self._jump_to(number)

    def _walk_to(self, number: int) -> bool:
        """Goes to a record leaf by leaf; False if it is too far away.

        It is also too far away once the leaves that were read only to pass over them have taken
        longer than counting the records of all leaves would take.
        """
        if self._passed_over * _HEADERS_PER_LEAF > self._tree.leaf_pages:
            return False
        if not 0 <= number - self._end < _NEAR:
            if number >= _NEAR:
                return False
            self._rewind()
        self._passed_over -= 1
        while number >= self._end:
            self._step()
            self._passed_over += 1
        return True

    def _step(self) -> None:
        """Goes to the next leaf."""
        self._child += 1
        children = self._children_of(self._parent)
        if self._child == len(children):
            self._parent, self._child = self._parent + 1, 0
            if self._parent == len(self._parents):
                raise ValueError("there are fewer records than the meta page states")
            children = self._children_of(self._parent)
        self._slot += 1
        self._load(children[self._child], self._slot, self._end)
        last = self._parent == len(self._parents) - 1 and self._child == len(children) - 1
        if self._end > self._tree.entries or (last and self._end < self._tree.entries):
            raise ValueError("the number of records is not that of the meta page")

    def _load(self, child: Child, slot: int, first: int) -> None:
        leaf = self._file.leaf(child)
        self._sum_up(slot, leaf)
        self._leaf, self._first, self._end = leaf, first, first + len(leaf.keys)

    def _sum_up(self, slot: int, leaf: Leaf) -> None:
        """Counts overflow pages; more than the file has means that records share pages."""
        if slot < len(self._summed) and not self._summed[slot]:
            self._summed[slot] = 1
            self._overflow_pages += leaf.overflow_pages
        if self._overflow_pages > self._file.meta.last_page:
            raise ValueError(
                f"its values would take {self._overflow_pages:,} pages or more, but the file has "
                f"{self._file.meta.last_page + 1:,}, so records share pages"
            )

    def _jump_to(self, number: int) -> None:
        assert self._index is not None
        parent, child, slot, first, count = self._index.locate(number)
        try:
            branch = self._parents[parent]
            page = self._file.child(branch, child) if self._tree.depth > 1 else branch
            self._load(page, slot, first)
            if self._end - first != count:
                self._rewind()
                raise ValueError("its number of records has changed")
        except ValueError as error:
            self._rewind()
            lost = f"records {first} to {first + count - 1}" if count > 1 else f"record {first}"
            raise ValueError(f"{lost} cannot be read: {error}") from error

    def _children_of(self, parent: int) -> list[Child]:
        if self._children[0] != parent:
            branch = self._parents[parent]
            children = self._file.children(branch) if self._tree.depth > 1 else [branch]
            self._children = (parent, children)
        return self._children[1]

    def _make_index(self) -> _Index:
        index = _Index()
        progress = ProgressLines(f"leaf pages of {self._path} counted")
        for parent in range(len(self._parents)):
            index.begin_parent()
            try:
                children = self._children_of(parent)
            except ValueError:
                index.add(None)
                continue
            progress(index.leaves, self._tree.leaf_pages)
            for child in children:
                try:
                    index.add(self._file.count(child.number))
                except ValueError:
                    index.add(None)
            if index.records > self._tree.entries:
                break
        missing = self._tree.entries - index.records
        if missing < 0 or (missing and not index.take_as_lost(missing)):
            self._fault = (
                f"its leaf pages hold {index.records:,} records{' or more' * (missing < 0)}, but "
                f"its meta page states {self._tree.entries:,}"
            )
        return index


class _Index:
    """The number of the first record of each leaf (8 bytes), and the first leaf of each parent."""

    def __init__(self) -> None:
        self.records = 0
        self._first_records = array("Q")
        self._first_slots = array("Q")
        self._lost: int | None = None

    @property
    def leaves(self) -> int:
        """How many leaves have been added."""
        return len(self._first_records)

    def begin_parent(self) -> None:
        self._first_slots.append(self.leaves)

    def add(self, count: int | None) -> None:
        """Adds a leaf with ``count`` records; None if it cannot be read."""
        if count is None and self._lost is None:
            self._lost = self.leaves
        self._first_records.append(self.records)
        self.records += count or 0

    def take_as_lost(self, count: int) -> bool:
        """Assigns ``count`` records to the first unreadable leaf; False if there is none."""
        if self._lost is None:
            return False
        for slot in range(self._lost + 1, self.leaves):
            self._first_records[slot] += count
        self.records += count
        return True

    def locate(self, number: int) -> tuple[int, int, int, int, int]:
        """Parent, child, slot, first record and record count of the leaf of a record."""
        # Leaves that cannot be read have no records, and the last of equal numbers is found.
        slot = bisect_right(self._first_records, number) - 1
        parent = bisect_right(self._first_slots, slot) - 1
        first = self._first_records[slot]
        end = self._first_records[slot + 1] if slot + 1 < self.leaves else self.records
        return parent, slot - self._first_slots[parent], slot, first, end - first


def _lowest_branches(file: LmdbFile) -> list[Child]:
    """The branch pages whose children are leaves; the root alone if it is a leaf."""
    tree = file.meta.main
    level = [Child(tree.root, None, None)] if tree.depth else []
    seen = 1
    for _ in range(tree.depth - 2):
        below: list[Child] = []
        for branch in level:
            below += file.children(branch)
            if seen + len(below) > tree.branch_pages:
                raise ValueError(
                    f"its meta page states {tree.branch_pages:,} branch pages, but there are more"
                )
        seen += len(below)
        level = below
    return level
