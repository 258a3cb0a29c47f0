"""LevelDB: the reader against plyvel and Caffe's files, without writing; the writer."""

from __future__ import annotations

import builtins
import importlib
import os
import random
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.backends.database import create_database, guess_backend, open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError, MissingExtra
from tests.places import COPIES
from tests.recorded.tolerances import IMAGE_LEVELS
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"

RECORDED = (
    "plain",
    "plain_leveldb_reopened",
    "resize_up",
    "resize_up_leveldb_reopened",
    "encoded_png",
    "mixed_encoded",
    "tables",
)


def contents(path: Path | str) -> list[tuple[bytes, bytes]]:
    with open_database(path, "leveldb") as database:
        return [database.read(index) for index in range(len(database))]


def written(
    path: Path, blocks: int, seed: int = 3, compressible: bool = True
) -> list[tuple[bytes, bytes]]:
    """A LevelDB of many small tables with overwritten and deleted keys, and what it holds."""
    plyvel: Any = pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    rng = random.Random(seed)
    held: dict[bytes, bytes] = {}
    with plyvel.DB(
        str(path), create_if_missing=True, write_buffer_size=1 << 16, block_size=blocks
    ) as database:
        for _ in range(3000):
            key = b"%05d_%s" % (rng.randrange(1500), b"k" * rng.randrange(4))
            if rng.random() < 0.2:
                database.delete(key)
                held.pop(key, None)
                continue
            length = rng.randrange(60)
            value = rng.randbytes(7) * length if compressible else rng.randbytes(7 * length)
            held[key] = value
            database.put(key, value)
    return sorted(held.items())


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_databases(name: str, golden: Path) -> None:
    name = name if name.endswith("_reopened") else f"{name}_leveldb"
    folder = golden / "data" / "db"
    arrays = np.load(folder / f"{name}.npz")
    found = contents(folder / name)
    assert len(found) == len(arrays.files)
    for index, (_, value) in enumerate(found):
        kind = "pix" if f"pix/{index}" in arrays else "decoded"
        pixels = decode_datum(parse_datum(value)).astype(int)
        tolerance = IMAGE_LEVELS if kind == "decoded" else 0
        np.testing.assert_allclose(pixels, arrays[f"{kind}/{index}"], rtol=0, atol=tolerance)


def test_a_log_and_the_table_made_of_it_hold_the_same() -> None:
    assert contents(DATA / "db" / "plain_leveldb") == contents(
        DATA / "db" / "plain_leveldb_reopened"
    )


@pytest.mark.parametrize(("blocks", "compressible"), [(1024, False), (1024, True), (65536, True)])
def test_what_plyvel_wrote(tmp_path: Path, blocks: int, compressible: bool) -> None:
    if compressible:
        pytest.importorskip("cramjam", reason="tables are compressed by snappy (extra leveldb)")
    expected = written(tmp_path / "db", blocks, compressible=compressible)
    assert len([name for name in os.listdir(tmp_path / "db") if name.endswith(".ldb")]) >= 2
    assert contents(tmp_path / "db") == expected
    with open_database(tmp_path / "db", "LEVELDB") as database:
        assert list(database.keys()) == [key for key, _ in expected]
        jumps = np.random.default_rng(0).integers(0, len(expected), 300)
        assert all(database.read(int(index)) == expected[index] for index in jumps)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    shutil.copytree(DATA / "db" / "tables_leveldb", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    assert len(contents(folder)) == 51
    folder.chmod(0o755)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_written_records_come_back(tmp_path: Path) -> None:
    pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    with create_database(tmp_path / "db", "leveldb") as writer:
        writer.write([(b"b", b"2" * 5000), (b"a", b"1")])
        assert b"a" in writer
        assert b"c" not in writer
        writer.write([(b"c", b""), (b"b", b"3")])
    assert contents(tmp_path / "db") == [(b"a", b"1"), (b"b", b"3"), (b"c", b"")]
    assert guess_backend(tmp_path / "db") == "LEVELDB"


def test_what_a_crash_cut_off_the_log_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    shutil.copytree(DATA / "db" / "plain_leveldb", folder)
    everything = contents(folder)
    log = folder / "000003.log"
    log.chmod(0o644)
    counts = set()
    for size in range(0, log.stat().st_size, 997):
        log.write_bytes((DATA / "db" / "plain_leveldb" / "000003.log").read_bytes()[:size])
        found = contents(folder)
        assert found == everything[: len(found)]
        counts.add(len(found))
    assert counts >= {0}
    assert max(counts) < len(everything)


@pytest.mark.parametrize("name", ["plain_leveldb_reopened", "tables_leveldb"])
def test_damage_is_one_sentence(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(DATA / "db" / name, folder)
    rng = random.Random(1)
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        good = path.read_bytes()
        for _ in range(60 if good else 0):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            try:
                contents(folder)
            except CaffeError as error:
                assert_one_sentence(str(error))
        path.write_bytes(good)


def test_a_cut_off_or_missing_table_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    shutil.copytree(DATA / "db" / "plain_leveldb_reopened", folder)
    table = folder / "000005.ldb"
    table.chmod(0o644)
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"000005\.ldb: the table is damaged"):
        open_database(folder, "LEVELDB")
    table.unlink()
    words = r"table 000005\.ldb, which .* lists, is missing; copy the whole folder again"
    with pytest.raises(FormatError, match=words):
        open_database(folder, "LEVELDB")
    shutil.rmtree(folder)
    shutil.copytree(DATA / "db" / "plain_leveldb_reopened", folder)
    assert contents(folder) == contents(DATA / "db" / "plain_leveldb_reopened")


def test_an_lmdb_reader_names_the_backend_of_a_leveldb() -> None:
    with pytest.raises(DataError, match=r"holds a LEVELDB; write 'backend: LEVELDB'"):
        open_database(DATA / "db" / "plain_leveldb", "LMDB")


def test_a_folder_that_is_no_leveldb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="this is not a LevelDB"):
        open_database(tmp_path, "LEVELDB")
    with pytest.raises(FileProblem, match="there is no database"):
        open_database(tmp_path / "nosuch", "LEVELDB")


def test_reading_outside_and_after_closing() -> None:
    database = open_database(DATA / "db" / "plain_leveldb", "LEVELDB")
    for index in (-1, 8):
        with pytest.raises(IndexError, match="of 8"):
            database.read(index)
    database.close()
    database.close()
    with pytest.raises(DataError, match="has been closed"):
        database.read(0)


def test_missing_libraries_are_named_with_their_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "db", 1024)
    real_import, real_module = builtins.__import__, importlib.import_module

    def refuse(name: str, *rest: Any) -> Any:
        if name in ("cramjam", "plyvel"):
            raise ImportError(name)
        return real_import(name, *rest)

    def refuse_module(name: str, *rest: Any) -> Any:
        if name == "plyvel":
            raise ImportError(name)
        return real_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(importlib, "import_module", refuse_module)
    with pytest.raises(MissingExtra, match=r"pip install 'caffecompat\[leveldb\]'"):
        open_database(tmp_path / "db", "LEVELDB")
    with (
        pytest.raises(MissingExtra, match=r"pip install 'caffecompat\[leveldb\]'"),
        create_database(tmp_path / "other", "leveldb"),
    ):
        pass
    assert os.listdir(tmp_path) == ["db"]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def entry(shared: int, key: bytes, value: bytes) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def block(entries: bytes, kind: int = 0) -> bytes:
    """With one restart, and behind it the kind of compression and a checksum that nobody reads."""
    return entries + b"\0\0\0\0\x01\0\0\0" + bytes((kind, 0, 0, 0, 0))


def handle(offset: int, size: int) -> bytes:
    return varint(offset) + varint(size)


def one_table(folder: Path, blocks: bytes, index_entries: bytes) -> Path:
    """A LevelDB whose only table has these blocks and this index."""
    index = block(index_entries)
    footer = (handle(0, 0) + handle(len(blocks), len(index) - 5)).ljust(40, b"\0")
    magic = (0xDB4775248B80FB57).to_bytes(8, "little")
    folder.mkdir()
    (folder / "000005.ldb").write_bytes(blocks + index + footer + magic)
    name = b"leveldb.BytewiseComparator"
    table = b"\x07\0" + varint(5) + varint(0) + entry(0, b"", b"")[1:]
    edit = b"\x01" + varint(len(name)) + name + b"\x02\x09\x09\0\x03\x09\x04\x09" + table
    record = b"\0\0\0\0" + len(edit).to_bytes(2, "little") + b"\x01" + edit
    (folder / "MANIFEST-000004").write_bytes(record)
    (folder / "CURRENT").write_text("MANIFEST-000004\n")
    return folder


def tagged(key: bytes, sequence: int = 1) -> bytes:
    return key + (sequence << 8 | 1).to_bytes(8, "little")


def refused(folder: Path, words: str) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        open_database(folder, "LEVELDB")
    assert_one_sentence(str(caught.value))


def test_a_table_of_our_own_making_is_read(tmp_path: Path) -> None:
    """A small block, one with a value of 200 kB, and a key longer than what is read at once."""
    long = b"k" * 3000
    small = block(entry(0, tagged(b"a"), b"1") + entry(1, tagged(b"b")[0:], b"2"))
    large = block(entry(0, tagged(b"b"), b"v" * 200_000) + entry(0, tagged(long), b"w" * 10))
    end = len(small) + len(large)
    index = entry(0, tagged(b"ab"), handle(0, len(small) - 5))
    index += entry(0, tagged(long), handle(len(small), end - len(small) - 5))
    folder = one_table(tmp_path / "db", small + large, index)
    expected = [(b"a", b"1"), (b"ab", b"2"), (b"b", b"v" * 200_000), (long, b"w" * 10)]
    assert contents(folder) == expected


def test_an_index_of_many_entries_onto_one_block(tmp_path: Path) -> None:
    data = block(b"".join(entry(0, tagged(b"%05d" % n), b"v") for n in range(2000)))
    index = b"".join(
        entry(0, tagged(b"%06d" % n), handle(0, len(data) - 5)) for n in range(200_000)
    )
    refused(one_table(tmp_path / "db", data, index), "block at 0 overlaps the one before it")


def test_a_snappy_block_that_claims_more_than_it_can_hold(tmp_path: Path) -> None:
    data = varint(1 << 32) + b"\xfe\x01\0" * 50 + b"\x01\0\0\0\0"
    index = entry(0, tagged(b"a"), handle(0, len(data) - 5))
    refused(
        one_table(tmp_path / "db", data, index), "claims 4,294,967,296 bytes after decompression"
    )


def test_keys_that_share_a_long_beginning_are_counted(tmp_path: Path) -> None:
    """Each of these keys takes 12 bytes in the file and a megabyte in memory."""
    first, step = b"k" * (1 << 20), 1 << 20
    entries = entry(0, tagged(first), b"")
    entries += b"".join(entry(step, tagged(b"%05d" % n), b"") for n in range(20_000))
    data = block(entries)
    index = entry(0, tagged(b"z"), handle(0, len(data) - 5))
    refused(one_table(tmp_path / "db", data, index), "its keys would take")


def test_keys_out_of_order_are_damage(tmp_path: Path) -> None:
    data = block(entry(0, tagged(b"b"), b"") + entry(0, tagged(b"a"), b""))
    index = entry(0, tagged(b"z"), handle(0, len(data) - 5))
    refused(one_table(tmp_path / "db", data, index), "its keys are not in order")


def logged(tmp_path: Path, log: bytes) -> Path:
    folder = tmp_path / "db"
    shutil.copytree(DATA / "db" / "plain_leveldb", folder, copy_function=shutil.copyfile)
    (folder / "000003.log").write_bytes(log)
    return folder


def test_a_log_of_fragments_without_a_beginning(tmp_path: Path) -> None:
    refused(logged(tmp_path, b"\0\0\0\0\0\0\x03" * 500_000), "has no beginning")


def test_a_record_of_a_million_fragments_takes_linear_time(tmp_path: Path) -> None:
    """Fragments of 9 bytes each; put together one by one they took a minute."""
    first, middle, last = (b"\0\0\0\0\x09\0%c" % kind + b"v" * 9 for kind in (2, 3, 4))
    with pytest.raises(FormatError, match=r"the log is damaged|writes would take"):
        open_database(logged(tmp_path, first + middle * 1_000_000 + last), "LEVELDB")


def test_more_writes_than_a_log_can_hold(tmp_path: Path) -> None:
    batch = (1).to_bytes(8, "little") + b"\xff\xff\xff\xff" + b"\0\0" * 1000
    log = b"\0\0\0\0" + len(batch).to_bytes(2, "little") + b"\x01" + batch
    refused(logged(tmp_path, log), "its 4,294,967,295 writes would take")


def test_a_table_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    copy: Any = shutil.copyfile
    shutil.copytree(DATA / "db" / "tables_leveldb", folder, copy_function=copy)
    with open_database(folder, "LEVELDB") as database:
        whole = [database.read(index) for index in range(len(database))]
        for table in folder.glob("*.ldb"):
            os.truncate(table, 100)
        outcomes = []
        for index in range(len(database)):
            try:
                outcomes.append(database.read(index) == whole[index])
            except DataError as error:
                assert_one_sentence(str(error))
                outcomes.append("cut off" in str(error))
    assert all(outcomes)


def test_more_tables_than_files_may_be_open(tmp_path: Path) -> None:
    plyvel: Any = pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    path = tmp_path / "db"
    with plyvel.DB(
        str(path), create_if_missing=True, write_buffer_size=1 << 16, max_file_size=1 << 20
    ) as database:
        for number in range(95):
            database.put(b"%04d" % number, random.Random(number).randbytes(1 << 20))
        database.compact_range()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert len([*path.glob("*.ldb")]) > 85
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 80, before[1]))
    try:
        with open_database(path, "LEVELDB") as opened:
            for number in (0, 94, 70, 3, *range(95)):
                assert opened.read(number)[1] == random.Random(number).randbytes(1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
