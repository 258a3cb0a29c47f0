"""LevelDB: the reader against plyvel and Caffe's files, without writing; the writer."""

from __future__ import annotations

import builtins
import importlib
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.database import create_database, guess_backend, open_database
from caffecompat.data.datum import decode_datum, parse_datum
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError, MissingExtra
from tests.data_room.recorded import COPIES, JPEG_TOLERANCE, assert_one_sentence

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
        tolerance = JPEG_TOLERANCE if kind == "decoded" else 0
        np.testing.assert_allclose(pixels, arrays[f"{kind}/{index}"], rtol=0, atol=tolerance)


def test_a_log_and_the_table_made_of_it_hold_the_same() -> None:
    assert contents(COPIES / "db" / "plain_leveldb") == contents(
        COPIES / "db" / "plain_leveldb_reopened"
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
    shutil.copytree(COPIES / "db" / "tables_leveldb", folder)
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
    shutil.copytree(COPIES / "db" / "plain_leveldb", folder)
    everything = contents(folder)
    log = folder / "000003.log"
    log.chmod(0o644)
    counts = set()
    for size in range(0, log.stat().st_size, 997):
        log.write_bytes((COPIES / "db" / "plain_leveldb" / "000003.log").read_bytes()[:size])
        found = contents(folder)
        assert found == everything[: len(found)]
        counts.add(len(found))
    assert counts >= {0}
    assert max(counts) < len(everything)


@pytest.mark.parametrize("name", ["plain_leveldb_reopened", "tables_leveldb"])
def test_damage_is_one_sentence(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(COPIES / "db" / name, folder)
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
    shutil.copytree(COPIES / "db" / "plain_leveldb_reopened", folder)
    table = folder / "000005.ldb"
    table.chmod(0o644)
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"000005\.ldb: the table is damaged"):
        open_database(folder, "LEVELDB")
    table.unlink()
    with pytest.raises(FormatError, match=r"table 000005\.ldb.* is missing"):
        open_database(folder, "LEVELDB")


def test_an_lmdb_reader_names_the_backend_of_a_leveldb() -> None:
    with pytest.raises(DataError, match=r"holds a LEVELDB; write 'backend: LEVELDB'"):
        open_database(COPIES / "db" / "plain_leveldb", "LMDB")


def test_a_folder_that_is_no_leveldb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="this is no LevelDB"):
        open_database(tmp_path, "LEVELDB")
    with pytest.raises(FileProblem, match="there is no database"):
        open_database(tmp_path / "nosuch", "LEVELDB")


def test_reading_outside_and_after_closing() -> None:
    database = open_database(COPIES / "db" / "plain_leveldb", "LEVELDB")
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
