"""LMDB databases by the library itself, and changes of their pages."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import lmdb

from caffecompat.data.backends.database import Database
from caffecompat.data.backends.lmdb_pages import Child, LmdbFile

PAGE = 4096
Edit = Callable[[bytearray], object]


def made(folder: Path, count: int, key_size: int = 20, seed: int = 1) -> list[tuple[bytes, bytes]]:
    """An LMDB by the library itself, and its records."""
    chance = random.Random(seed)
    records = [
        (b"%08d" % n + b"k" * (key_size - 8), chance.randbytes(chance.choice((1, 90, 3000, 9000))))
        for n in range(count)
    ]
    shuffled = chance.sample(records, count)
    with lmdb.open(str(folder), map_size=1 << 26, lock=False) as environment:
        for start in range(0, count, 100):
            with environment.begin(write=True) as transaction:
                for key, value in shuffled[start : start + 100]:
                    transaction.put(key, value)
    return records


def edit(folder: Path, change: Edit) -> None:
    data = bytearray((folder / "data.mdb").read_bytes())
    change(data)
    (folder / "data.mdb").write_bytes(data)


def branches_and_leaves(folder: Path) -> tuple[list[int], list[int]]:
    """The numbers of the pages in use, leaves in order of their keys."""
    file = LmdbFile(folder / "data.mdb")
    level, branches = [Child(file.meta.main.root, None, None)], []
    for _ in range(file.meta.main.depth - 1):
        branches += [child.number for child in level]
        level = [below for child in level for below in file.children(child)]
    return branches, [child.number for child in level]


def first_overflow_page(folder: Path, leaf: int) -> int:
    file = LmdbFile(folder / "data.mdb")
    return next(page for _, _, page in file.leaf(Child(leaf, None, None)).values if page)


def everything(database: Database) -> list[tuple[bytes, bytes]]:
    return [database.read(index) for index in range(len(database))]
