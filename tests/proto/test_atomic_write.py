"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.proto.atomic_write import atomic_write

REPOSITORY = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_appears_at_the_end(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new") as file:
        file.write(b"abc")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_bytes() == b"abc"
    assert names(tmp_path) == ["new"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new") as file:
            file.write(b"abc")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, CaffeError])
def test_a_failure_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"before")

    def write_half() -> None:
        with atomic_write(target) as file:
            file.write(b"half")
            raise failure("stop")

    with pytest.raises(failure):
        write_half()
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["old"]


def test_a_full_disk_is_told_with_the_path(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"before")
    with pytest.raises(FileProblem, match=r"old: cannot be written: No space left"):  # noqa: SIM117
        with atomic_write(target):
            raise OSError(28, "No space left on device")
    assert target.read_bytes() == b"before"


def test_another_files_failure_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "new"):
        (tmp_path / "elsewhere").read_bytes()
    assert names(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "file"
    with pytest.raises(FileProblem, match=r"file: cannot be written: there is no folder .*no; c"):  # noqa: SIM117
        with atomic_write(path):
            pass


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="it is a folder"), atomic_write(tmp_path):
        pass


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    target.write_bytes(b"before")
    (tmp_path / "link").symlink_to(target)
    with atomic_write(tmp_path / "link") as file:
        file.write(b"after")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"after"


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    """Weights are mapped: a snapshot over a mapped file must not change what is mapped."""
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with target.open("rb", buffering=0) as reader:
        with atomic_write(target) as file:
            file.write(b"after!")
        assert reader.read() == b"before"
    assert target.read_bytes() == b"after!"


def test_long_names_work(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("n" * 255)) as file:
        file.write(b"abc")
    assert names(tmp_path) == ["n" * 255]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"before")
    program = """
import os, signal, sys
from caffecompat.proto.atomic_write import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half" * 100000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(target)], cwd=REPOSITORY, check=False
    )
    assert result.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"before"
