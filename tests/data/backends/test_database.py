"""Databases: order, jumps, sharing, damage, and writing without leaving halves behind."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.backends.lmdb import LmdbWriter
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError, UnknownName
from tests.data.databases import write_records
from tests.places import REPOSITORY
from tests.sentences import assert_one_sentence


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_records(tmp_path / "db", [b"value %d" % number * 500 for number in range(37)])


def test_records_come_in_byte_order_of_their_keys(tmp_path: Path) -> None:
    with create_database(tmp_path / "db") as writer:
        writer.write([(b"b", b"2"), (b"a\xff", b"1"), (b"a", b"0"), (b"B", b"-1")])
        writer.write([(b"ab", b"?"), (b"b", b"3")])
    with open_database(tmp_path / "db") as database:
        assert list(database.keys()) == [b"B", b"a", b"ab", b"a\xff", b"b"]
        assert [database.read(index)[1] for index in range(len(database))] == [
            *(b"-1", b"0", b"?", b"1", b"3")
        ]


def test_jumping_about_reads_what_reading_on_does(path: str) -> None:
    with open_database(path) as database:
        in_order = [database.read(index) for index in range(len(database))]
        assert [key for key, _ in in_order] == list(database.keys())
        jumps = np.random.default_rng(0).integers(0, len(database), 300)
        assert all(database.read(int(index)) == in_order[index] for index in jumps)


@pytest.mark.parametrize("index", [-1, 37])
def test_reading_outside_is_an_index_error(path: str, index: int) -> None:
    with open_database(path) as database, pytest.raises(IndexError, match="of 37"):
        database.read(index)


def test_one_database_opens_twice_in_a_process(path: str) -> None:
    first, second = open_database(path), open_database(os.path.join(path, ".", ""))
    first.read(5)
    assert second.read(0)[1].startswith(b"value 0")
    first.close()
    assert second.read(6)[1].startswith(b"value 6")
    second.close()
    # All let go of: another program part may open it with the binding itself.
    lmdb.open(path, readonly=True, lock=False).close()


def test_a_database_that_was_replaced_is_read_anew(path: str, tmp_path: Path) -> None:
    old = open_database(path)
    shutil.rmtree(path)
    write_records(tmp_path / "db", [b"new"])
    with open_database(path) as database:
        assert (len(database), database.read(0)[1]) == (1, b"new")
    assert len(old) == 37


def test_a_forgotten_database_is_closed(path: str) -> None:
    database = open_database(path)
    database.read(3)
    del database
    gc.collect()
    lmdb.open(path, readonly=True, lock=False).close()


def test_a_closed_database_raises_an_error(path: str) -> None:
    database = open_database(path)
    database.close()
    database.close()
    with pytest.raises(DataError, match="has been closed"):
        database.read(0)
    with pytest.raises(DataError, match="has been closed"):
        list(database.keys())


def test_reading_writes_nothing(path: str) -> None:
    os.chmod(path, 0o555)
    before = sorted(os.listdir(path))
    with open_database(path) as database:
        database.read(0)
    os.chmod(path, 0o755)
    assert sorted(os.listdir(path)) == before


def test_a_missing_database_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileProblem) as caught:
        open_database(tmp_path / "nosuch")
    assert "caffecompat convert-imageset makes one" in str(caught.value)
    assert_one_sentence(str(caught.value))


def test_a_folder_that_is_no_lmdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="this is not an LMDB"):
        open_database(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no lmdb" * 3000])
def test_a_file_that_is_no_lmdb_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(FormatError, match="cannot be opened as an LMDB") as caught:
        open_database(tmp_path)
    assert_one_sentence(str(caught.value))


def test_a_cut_off_lmdb_is_refused_instead_of_killing_the_process(path: str) -> None:
    data = Path(path) / "data.mdb"
    size = data.stat().st_size
    os.truncate(data, size - 4096)
    with pytest.raises(FormatError, match=f"has {size - 4096} bytes.* {size}; .*copy it again"):
        open_database(path)


def test_the_default_backend_on_an_lmdb_is_refused_with_advice(path: str) -> None:
    with pytest.raises(DataError, match=r"holds an LMDB; write 'backend: LMDB'") as caught:
        open_database(path, "LEVELDB")
    assert_one_sentence(str(caught.value))


def test_jumps_far_beyond_the_landmarks(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [b"%d" % number for number in range(1500)])
    with open_database(path) as database:
        jumps = [1499, 0, 700, 255, 256, 257, 1023, 512, 511, 1400, 3, *range(900, 880, -1)]
        assert [database.read(index)[1] for index in jumps] == [b"%d" % index for index in jumps]


def test_an_unknown_backend_names_the_known_ones(path: str) -> None:
    with pytest.raises(UnknownName, match=r"'sqlite'.*LMDB"):
        open_database(path, "sqlite")


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(FileProblem, match="already exists"), create_database(tmp_path / "db"):
        pass
    assert os.listdir(tmp_path) == ["db"]
    assert os.listdir(tmp_path / "db") == []


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with create_database(tmp_path / "db") as writer:
            writer.write([(b"k", b"v")])
            assert not (tmp_path / "db").exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert os.listdir(tmp_path) == []


def test_the_map_grows(tmp_path: Path) -> None:
    writer = LmdbWriter(str(tmp_path), map_size=1 << 16)
    values = [bytes([number]) * 30000 for number in range(40)]
    for start in (0, 20):
        writer.write((b"%03d" % n, values[n]) for n in range(start, start + 20))
    writer.close()
    with open_database(tmp_path) as database:
        assert [database.read(index)[1] for index in range(40)] == values


@pytest.mark.parametrize("key", [b"", b"k" * 600])
def test_a_key_that_lmdb_cannot_hold_is_refused(tmp_path: Path, key: bytes) -> None:
    with (
        pytest.raises(DataError, match="LMDB takes keys of 1 to 511 bytes"),
        create_database(tmp_path / "db") as writer,
    ):
        writer.write([(key, b"v")])


def test_the_errors_are_all_of_one_family() -> None:
    assert all(issubclass(kind, CaffeError) for kind in (DataError, FileProblem, FormatError))


KILLED = """
import sys, time
from caffecompat.data.backends.database import create_database
with create_database(sys.argv[1]) as writer:
    writer.write([(b"k", b"v" * 10000)])
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "db")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"written\n"
    program.kill()
    program.communicate()
    assert not (tmp_path / "db").exists()
    assert write_records(tmp_path / "db", [b"again"])
