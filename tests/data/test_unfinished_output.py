"""Databases and folders in the making: what a killed, failed or second run finds and leaves."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data import unfinished_output as module
from caffecompat.data.backends.database import (
    create_database,
    guess_backend,
    resume_database,
)
from caffecompat.data.unfinished_output import new_folder
from caffecompat.errors import DataError, FileProblem
from tests.data.databases import datum, write_records
from tests.data.interrupted_writing import RECORDS, Break, begin, keys
from tests.files.full_disk import small_disk
from tests.sentences import assert_one_sentence


def test_unfinished_work_is_not_thrown_away_unasked(tmp_path: Path) -> None:
    target = tmp_path / "db"
    begin(target, RECORDS)
    with (
        pytest.raises(FileProblem, match=r"holds 2 records of an interrupted run") as caught,
        resume_database(target, "LMDB", "purpose", False),
    ):
        pass
    assert_one_sentence(str(caught.value))
    assert "--resume" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert keys(tmp_path / "db.unfinished") == [b"1", b"2"]
    with resume_database(target, "LMDB", "purpose", True) as writer:
        assert b"1" in writer
        writer.write([(b"3", b"three")])
    assert keys(target) == [b"1", b"2", b"3"]
    assert os.listdir(tmp_path) == ["db"]
    assert os.listdir(target) == ["data.mdb"]


def test_overwriting_begins_anew(tmp_path: Path) -> None:
    begin(tmp_path / "db", RECORDS)
    with resume_database(tmp_path / "db", "LMDB", "other", False, overwrite=True) as writer:
        assert b"1" not in writer
        writer.write([(b"3", b"three")])
    assert keys(tmp_path / "db") == [b"3"]
    assert os.listdir(tmp_path) == ["db"]


def test_another_purpose_is_refused_and_kept(tmp_path: Path) -> None:
    begin(tmp_path / "db", RECORDS)
    with (
        pytest.raises(DataError, match=r"other settings.*--overwrite"),
        resume_database(tmp_path / "db", "LMDB", "other", True),
    ):
        pass
    assert keys(tmp_path / "db.unfinished") == [b"1", b"2"]


def test_unfinished_work_without_records_is_replaced(tmp_path: Path) -> None:
    begin(tmp_path / "db", [])
    assert os.listdir(tmp_path) == []
    # Killed after the folder was made and before anything was in it.
    (tmp_path / "db.unfinished").mkdir()
    with resume_database(tmp_path / "db", "LMDB", "purpose", False) as writer:
        writer.write(RECORDS)
    assert os.listdir(tmp_path) == ["db"]


def test_a_users_own_folder_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "db.unfinished").mkdir()
    (tmp_path / "db.unfinished" / "photo.jpg").write_bytes(b"mine")
    for overwrite in (False, True):
        with (
            pytest.raises(FileProblem, match="is in the way"),
            resume_database(tmp_path / "db", "LMDB", "purpose", False, overwrite),
        ):
            pass
    assert (tmp_path / "db.unfinished" / "photo.jpg").read_bytes() == b"mine"


def test_killed_between_the_new_name_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: str) -> None:
        raise Break

    with (
        monkeypatch.context() as patch,
        suppress(Break),
        resume_database(tmp_path / "db", "LMDB", "purpose", False) as writer,
    ):
        writer.write(RECORDS)
        patch.setattr(os, "remove", killed)
    assert keys(tmp_path / "db") == [b"1", b"2"]
    assert guess_backend(tmp_path / "db") == "LMDB"


def test_a_run_killed_after_its_last_record_is_brought_to_its_end(tmp_path: Path) -> None:
    target = tmp_path / "db"
    with resume_database(target, "LMDB", "purpose", False) as writer:
        writer.write(RECORDS)
    whole = sorted(os.listdir(target))
    # Such a run leaves the mark of its purpose, and a free lock.
    (target / "begun-with.txt").write_text("purpose")
    (tmp_path / "db.lock").touch()
    with pytest.raises(FileProblem, match="exists"), resume_database(target, "LMDB", "x", True):
        pass
    assert sorted(os.listdir(target)) == whole
    assert os.listdir(tmp_path) == ["db"]


def test_missing_folders_are_made_and_removed_after_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "db"
    with suppress(Break), create_database(target) as writer:
        writer.write(RECORDS)
        raise Break
    assert os.listdir(tmp_path) == []
    with create_database(target) as writer:
        writer.write(RECORDS)
    assert keys(target) == [b"1", b"2"]
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileProblem, match="file is a file, expected a folder"),
        create_database(tmp_path / "file" / "db"),
    ):
        pass


PROGRAM = """
import sys, time
from caffecompat.data.backends.database import create_database
with create_database(sys.argv[1]) as writer:
    writer.write([(b"k", b"v")])
    print("ready", flush=True)
    time.sleep(60)
"""


def start_writer(target: Path) -> subprocess.Popen[bytes]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(target)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    return program


def test_a_live_writer_is_left_alone_and_a_killed_one_is_cleared_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "db"
    program = start_writer(target)
    left = tmp_path / f"db.unfinished-{program.pid}"
    try:
        words = "another process is writing it; wait until it has finished"
        with pytest.raises(FileProblem, match=words), new_folder(target):
            pass
        assert keys(left) == [b"k"]
    finally:
        program.send_signal(signal.SIGKILL)
        program.communicate()
    assert left.exists()
    (tmp_path / "db.unfinished-other").mkdir()
    (tmp_path / "db2.unfinished-7").mkdir()
    with caplog.at_level(logging.WARNING), create_database(target) as writer:
        writer.write(RECORDS)
    assert caplog.messages == [f"{left}: removed; a killed run had left it"]
    # Folders of other names are not its business.
    assert sorted(os.listdir(tmp_path)) == ["db", "db.unfinished-other", "db2.unfinished-7"]


def test_the_lock_holds_though_its_file_was_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened while another process ends its work and removes it."""
    import fcntl

    real, path = fcntl.flock, tmp_path / "db.lock"
    turns: list[int] = []

    def flock(handle: int, operation: int) -> None:
        if not turns:
            path.unlink()
        turns.append(handle)
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with new_folder(tmp_path / "db"):
        assert len(turns) == 2
        assert path.exists()
        with pytest.raises(FileProblem, match="another process"), new_folder(tmp_path / "db"):
            pass


def test_a_system_without_locks_still_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(handle: int, operation: int) -> None:
        raise OSError(module._NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "db.unfinished-1").mkdir()
    with create_database(tmp_path / "db") as writer:
        writer.write(RECORDS)
    # It may be alive.
    assert (tmp_path / "db.unfinished-1").exists()


def test_a_killed_dataset_job_is_cleared_away_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_database(tmp_path / "source") as writer:
        writer.write(RECORDS)
    program = start_writer(tmp_path / "db")
    program.send_signal(signal.SIGKILL)
    program.communicate()
    assert main(["dataset", "merge", str(tmp_path / "source"), str(tmp_path / "db")]) == 0
    assert "a killed run had left it" in capsys.readouterr().err
    assert [name for name in os.listdir(tmp_path) if "unfinished" in name] == []


def test_an_export_onto_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 200, 200), np.uint8)
    source = write_records(tmp_path / "source", [datum(pixels)])
    with small_disk(50_000):
        assert main(["dataset", "export", source, str(tmp_path / "images")]) == 1
    assert f"{tmp_path / 'images'}: cannot be written: the disk is full" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["source"]


def test_a_folder_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, mode: int = 0o777) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(FileProblem, match="db: cannot be made: the disk is full"):
        begin(tmp_path / "db", RECORDS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced_is_no_failure(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network and FUSE file systems refuse it after the database has been renamed into place."""
    original, refused = getattr(os, failing), []

    def refuse_folders(target: str | int, *arguments: int, **options: int) -> object:
        # os.path.isdir takes descriptors, too.
        if os.path.isdir(target):
            refused.append(target)
            raise OSError(errno.EACCES, "Permission denied")
        return original(target, *arguments, **options)

    images, listing, target = tmp_path / "images", tmp_path / "list.txt", tmp_path / "db"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.zeros((4, 5, 3), np.uint8))
    listing.write_text("a.png 3\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse_folders)
        assert main(["convert-imageset", f"{images}/", str(listing), str(target)]) == 0
    assert refused
    assert len(keys(target)) == 1
    assert sorted(os.listdir(tmp_path)) == ["db", "images", "list.txt"]
