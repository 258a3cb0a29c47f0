"""LMDB files page by page: reading, writing, and reads far apart."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import struct
import types
from pathlib import Path
from typing import Any

import lmdb
import pytest

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.backends.lmdb import LmdbWriter
from caffecompat.data.backends.lmdb_check import check_file
from caffecompat.data.backends.lmdb_pages import Child, LmdbFile
from caffecompat.errors import DataError, FileProblem, FormatError
from tests.data.backends.lmdb_files import PAGE, branches_and_leaves, edit, everything, made
from tests.files.full_disk import small_disk
from tests.sentences import assert_one_sentence


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
