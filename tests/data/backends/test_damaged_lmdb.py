"""Damaged LMDB files: refusals, and the records lost with a damaged page."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.backends.lmdb import LmdbWriter
from caffecompat.data.tools.stats import find_faults
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError
from tests.data.backends.lmdb_files import (
    PAGE,
    Edit,
    branches_and_leaves,
    edit,
    everything,
    first_overflow_page,
    made,
)
from tests.data.databases import datum
from tests.sentences import assert_one_sentence


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
    words = (
        "another process has changed the database since it was opened: wait until it has finished, "
        "and open it again"
    )
    assert all(words in text for text in sentences)
    with open_database(tmp_path / "db") as database:
        assert all(database.read(index) for index in range(900))


def test_a_damaged_database_is_not_resumed(tmp_path: Path) -> None:
    made(tmp_path / "db", 900)
    leaf = branches_and_leaves(tmp_path / "db")[1][3]
    edit(tmp_path / "db", lambda data: data.__setitem__(leaf * PAGE + 10, 4))
    before = (tmp_path / "db" / "data.mdb").read_bytes()
    with pytest.raises(FormatError, match=f"damaged .* page {leaf} is not a leaf page") as caught:
        LmdbWriter(str(tmp_path / "db"))
    assert_one_sentence(str(caught.value))
    assert (tmp_path / "db" / "data.mdb").read_bytes() == before
