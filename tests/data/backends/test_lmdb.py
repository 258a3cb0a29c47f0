"""LMDB files page by page: reading, refusals, and the records lost with a damaged page."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import struct
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from caffecompat.data.backends.database import Database, create_database, open_database
from caffecompat.data.backends.lmdb import LmdbWriter
from caffecompat.data.backends.lmdb_check import check_file
from caffecompat.data.backends.lmdb_pages import Child, LmdbFile
from caffecompat.data.tools.stats import find_faults
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError
from tests.data.databases import datum
from tests.hostile.test_full_disk import small_disk
from tests.sentences import assert_one_sentence

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


@pytest.mark.parametrize(("count", "key_size"), [(0, 20), (1, 20), (900, 9), (300, 500)])
def test_what_the_library_wrote(tmp_path: Path, count: int, key_size: int) -> None:
    records = made(tmp_path / "db", count, key_size)
    with open_database(tmp_path / "db") as database:
        assert everything(database) == records
        assert list(database.keys()) == [key for key, _ in records]
    with open_database(tmp_path / "db") as database:
        jumps = random.Random(2).choices(range(count), k=200) if count else []
        assert [database.read(index) for index in jumps] == [records[index] for index in jumps]


def test_the_data_file_alone_is_a_database(tmp_path: Path) -> None:
    records = made(tmp_path / "db", 40)
    shutil.move(tmp_path / "db" / "data.mdb", tmp_path / "alone.mdb")
    with open_database(tmp_path / "alone.mdb") as database:
        assert everything(database) == records


def test_another_page_size(tmp_path: Path) -> None:
    """Pages of 512 bytes, which LMDB makes where the operating system has such pages."""
    tree = struct.pack("<IHHQQQQQ", 0, 0, 1, 0, 1, 2, 2, 2)
    free = struct.pack("<IHHQQQQQ", 512, 8, 0, 0, 0, 0, 0, (1 << 64) - 1)
    metas = [
        struct.pack("<QHHHHIIQQ", n, 0, 8, 0, 0, 0xBEEFC0DE, 1, 0, 1 << 20)
        + free
        + tree
        + struct.pack("<QQ", 4, n)
        for n in (0, 1)
    ]
    nodes = struct.pack("<HHHH", 600, 0, 1, 1) + b"a" + struct.pack("<Q", 3)
    nodes += b"\0" + struct.pack("<HHHH", 3, 0, 0, 1) + b"bxyz"
    start = 512 - len(nodes)
    leaf = struct.pack("<QHHHHHH", 2, 0, 2, 20, start, start, start + 18).ljust(start, b"\0")
    big = struct.pack("<QHHI", 3, 0, 4, 2) + b"v" * 600
    parts = [*metas, leaf + nodes, big]
    data = b"".join(part.ljust(512, b"\0") for part in parts).ljust(5 * 512, b"\0")
    (tmp_path / "data.mdb").write_bytes(data)
    with open_database(tmp_path) as database:
        assert everything(database) == [(b"a", b"v" * 600), (b"b", b"xyz")]


def test_several_values_per_key_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "db", 3)
    edit(tmp_path / "db", lambda data: [data.__setitem__(p + 92, 4) for p in (0, PAGE)])
    with pytest.raises(FormatError, match="several values under one key") as caught:
        open_database(tmp_path / "db")
    assert_one_sentence(str(caught.value))


def test_a_named_database_is_no_record(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), lock=False, max_dbs=1) as environment:
        environment.open_db(b"other")
    with (
        open_database(tmp_path) as database,
        pytest.raises(DataError, match="a named database in the place of a record"),
    ):
        database.read(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda data: data.__setitem__(slice(12, 16), data[16:20]) or data.__setitem__(16, 0),
            "32-",
        ),
        (lambda data: data.__setitem__(slice(16, 20), data[19:15:-1]), "big-endian"),
        (lambda data: data.__setitem__(20, 2), "version 2, expected 1"),
        (lambda data: data.__setitem__(PAGE + 16, 0), "no meta page"),
        (lambda data: data.__setitem__(slice(40, 42), b"\0\0"), "pages of 0 bytes"),
        (lambda data: [data.__setitem__(p + 127, 9) for p in (0, PAGE)], "which cannot be in"),
        (lambda data: [data.__setitem__(p + 128, 0) for p in (0, PAGE)], "which cannot be in"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, change: Edit, words: str) -> None:
    made(tmp_path / "db", 40)
    edit(tmp_path / "db", change)
    with pytest.raises(FormatError, match=words) as caught:
        open_database(tmp_path / "db")
    assert_one_sentence(str(caught.value))


def test_a_device_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.mdb")
    with pytest.raises(FileProblem, match="is a pipe, expected a file"):
        open_database(tmp_path)
    (tmp_path / "data.mdb").unlink()
    (tmp_path / "data.mdb").symlink_to("/dev/zero")
    with pytest.raises(FileProblem, match="is a device, expected a file"):
        open_database(tmp_path)


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    records = made(tmp_path / "db", 900)
    with open_database(tmp_path / "db") as database:
        assert database.read(0) == records[0]
        os.truncate(tmp_path / "db" / "data.mdb", 40 * PAGE)
        outcomes = []
        for index in range(900):
            try:
                outcomes.append(database.read(index) == records[index])
            except DataError as error:
                assert_one_sentence(str(error))
                outcomes.append("cut off" in str(error))
    assert all(outcomes)


def test_a_damaged_leaf_costs_its_own_records_only(tmp_path: Path) -> None:
    records = made(tmp_path / "db", 900)
    leaf = branches_and_leaves(tmp_path / "db")[1][3]
    edit(tmp_path / "db", lambda data: data.__setitem__(leaf * PAGE + 10, 4))
    lost, kept = [], []
    with open_database(tmp_path / "db") as database:
        for index in range(900):
            try:
                kept.append(database.read(index) == records[index])
            except DataError as error:
                lost.append((index, str(error)))
    assert all(kept)
    assert 1 < len(lost) < 300
    (sentence,) = {text for _, text in lost}
    first, last = lost[0][0], lost[-1][0]
    assert f"records {first} to {last} cannot be read: page {leaf} is not a leaf page" in sentence
    assert len(lost) == last - first + 1


def test_a_damaged_value_costs_one_record(tmp_path: Path) -> None:
    records = made(tmp_path / "db", 60)
    page = first_overflow_page(tmp_path / "db", branches_and_leaves(tmp_path / "db")[1][0])
    edit(tmp_path / "db", lambda data: data.__setitem__(page * PAGE + 1, 77))
    lost = []
    with open_database(tmp_path / "db") as database:
        for index in range(60):
            try:
                assert database.read(index) == records[index]
            except DataError as error:
                lost.append(str(error))
    (sentence,) = lost
    assert f"page {page} has the number" in sentence


def test_verify_names_damaged_pages_once(tmp_path: Path) -> None:
    values = [datum(np.full((1, 2, 2), n % 9)) for n in range(900)]
    with create_database(tmp_path / "db") as writer:
        writer.write((b"%08d" % n, value) for n, value in enumerate(values))
    leaf = branches_and_leaves(tmp_path / "db")[1][3]
    edit(tmp_path / "db", lambda data: data.__setitem__(leaf * PAGE + 10, 4))
    with open_database(tmp_path / "db") as database:
        (fault,) = find_faults(database)
    assert f"page {leaf} is not a leaf page" in fault


def test_records_that_share_pages_are_refused(tmp_path: Path) -> None:
    """A value of 2 MB that every record claims: a small file that copies to a large one."""
    with (
        lmdb.open(str(tmp_path), map_size=1 << 26, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(300):
            transaction.put(b"%04d" % number, bytes(2_000_000 if number == 0 else 3000))
    first = struct.pack("<HHHH", 2_000_000 & 0xFFFF, 2_000_000 >> 16, 1, 4)

    def share(data: bytearray) -> None:
        page = data[data.index(first + b"0000") + 12 :][:8]
        for number in range(1, 300):
            at = data.index(struct.pack("<HHHH", 3000, 0, 1, 4) + b"%04d" % number)
            data[at : at + 8], data[at + 12 : at + 20] = first, page

    edit(tmp_path, share)
    with open_database(tmp_path) as database, pytest.raises(DataError, match="records share pages"):
        everything(database)


@pytest.mark.parametrize("leaves", [1 << 40, (1 << 63) + 1])
def test_a_tree_without_records_has_no_pages(tmp_path: Path, leaves: int) -> None:
    with lmdb.open(str(tmp_path), lock=False) as environment:
        for key in (b"a", b"b"):  # once for each meta page
            with environment.begin(write=True) as transaction:
                transaction.put(key, b"value")
        for key in (b"a", b"b"):
            with environment.begin(write=True) as transaction:
                transaction.delete(key)
    with open_database(tmp_path) as database:
        assert len(database) == 0

    def claim(data: bytearray) -> None:
        for meta in (0, PAGE):
            assert data[meta + 96 : meta + 104] == bytes(8)  # the tree has no branch pages
            struct.pack_into("<Q", data, meta + 104, leaves)

    edit(tmp_path, claim)
    with pytest.raises(FormatError, match="which cannot be in") as caught:
        open_database(tmp_path)
    assert_one_sentence(str(caught.value))


def test_a_tree_that_branches_into_itself_is_refused_at_once(tmp_path: Path) -> None:
    made(tmp_path / "db", 300, key_size=500)
    branches, _ = branches_and_leaves(tmp_path / "db")
    assert len(branches) > 3

    def point_at_itself(data: bytearray) -> None:
        for page in branches:
            (lower,) = struct.unpack_from("<H", data, page * PAGE + 12)
            for place in range(16, lower, 2):
                (at,) = struct.unpack_from("<H", data, page * PAGE + place)
                struct.pack_into("<I", data, page * PAGE + at, page)

    edit(tmp_path / "db", point_at_itself)
    with pytest.raises(CaffeError) as caught, open_database(tmp_path / "db") as database:
        database.read(0)
    assert_one_sentence(str(caught.value))


def test_a_change_by_another_process_is_named(tmp_path: Path) -> None:
    made(tmp_path / "db", 900)
    with open_database(tmp_path / "db") as database:
        database.read(0)
        with lmdb.open(str(tmp_path / "db"), map_size=1 << 26, lock=False) as environment:
            for _ in range(3):
                with environment.begin(write=True) as transaction:
                    for number in range(0, 900, 2):
                        transaction.put(b"%08d" % number + b"k" * 12, bytes(3000 + number))
        sentences = []
        for index in range(900):
            try:
                database.read(index)
            except DataError as error:
                sentences.append(str(error))
    assert sentences
    assert all("another process has changed the database" in text for text in sentences)


def test_a_database_after_many_changes_passes_the_check(tmp_path: Path) -> None:
    chance = random.Random(3)
    with lmdb.open(str(tmp_path), map_size=1 << 26, lock=False) as environment:
        for _ in range(60):
            with environment.begin(write=True) as transaction:
                for _ in range(40):
                    key = b"%05d" % chance.randrange(900)
                    if chance.random() < 0.4:
                        transaction.delete(key)
                    else:
                        transaction.put(key, bytes(chance.choice((1, 90, 3000, 30000))))
    check_file(tmp_path / "data.mdb")
    with open_database(tmp_path) as database:
        assert len(everything(database)) == len(database) > 100


def test_a_damaged_database_is_not_resumed(tmp_path: Path) -> None:
    made(tmp_path / "db", 900)
    leaf = branches_and_leaves(tmp_path / "db")[1][3]
    edit(tmp_path / "db", lambda data: data.__setitem__(leaf * PAGE + 10, 4))
    before = (tmp_path / "db" / "data.mdb").read_bytes()
    with pytest.raises(FormatError, match=f"damaged .* page {leaf} is not a leaf page") as caught:
        LmdbWriter(str(tmp_path / "db"))
    assert_one_sentence(str(caught.value))
    assert (tmp_path / "db" / "data.mdb").read_bytes() == before


def test_a_full_disk_is_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not grow gives LMDB the error that a full disk gives it."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=4096))
    writer = LmdbWriter(str(tmp_path))
    writer.write([(b"a", bytes(1000))])
    with small_disk(200_000), pytest.raises(FileProblem, match="the disk is full") as caught:
        writer.write([(b"b", bytes(500_000))])
    assert "(4,096 bytes are free, but 500,001 are needed)" in str(caught.value)
    assert_one_sentence(str(caught.value))
    monkeypatch.undo()
    with small_disk(200_000), pytest.raises(FileProblem, match="Input/output error"):
        writer.write([(b"b", bytes(500_000))])
    writer.write([(b"b", bytes(500_000))])
    writer.close()
    with open_database(tmp_path) as database:
        assert [len(value) for _, value in everything(database)] == [1000, 500_000]


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with create_database(tmp_path / "db") as writer:
            writer.write([(b"a", b"1")])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "db" / "data.mdb").stat().st_mode) == mode


def test_records_far_apart_do_not_read_the_leaves_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_database(tmp_path / "lmdb") as writer:
        writer.write([(b"%08d" % n, b"value %d" % n) for n in range(20_000)])
    _, leaves = branches_and_leaves(tmp_path / "lmdb")
    read: list[int] = []
    original = LmdbFile.leaf

    def counted(file: LmdbFile, child: Child, integers: bool = False) -> Any:
        read.append(child.number)
        return original(file, child, integers)

    monkeypatch.setattr(LmdbFile, "leaf", counted)
    wanted = range(0, 20_000, 900)
    with open_database(tmp_path / "lmdb") as database:
        assert [database.read(n)[1] for n in wanted] == [b"value %d" % n for n in wanted]
    assert len(read) < len(wanted) + len(leaves) // 4
    read.clear()
    with open_database(tmp_path / "lmdb") as database:
        assert len(list(database.keys())) == 20_000
    assert len(read) <= len(leaves) + 1, "in order, each leaf is read once"


def test_a_slow_jump_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("caffecompat.reporting.progress._SECONDS_TO_FIRST_LINE", 0.0)
    monkeypatch.setattr("caffecompat.reporting.progress._SECONDS_PER_LINE", 0.0)
    made(tmp_path, 3000)
    with caplog.at_level("INFO"), open_database(str(tmp_path), "LMDB") as database:
        database.read(0)
        assert not caplog.messages
        database.read(2999)
        pages = [text for text in caplog.messages if "leaf pages of" in text]
        assert pages
        assert re.fullmatch(rf"\d+ of \d+ leaf pages of {tmp_path} counted", pages[-1])
        caplog.clear()
        database.read(10)
        assert not caplog.messages
