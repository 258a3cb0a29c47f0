"""A file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.output_files import atomic_write, check_writable
from tests.places import REPOSITORY


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


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    target = tmp_path / "results" / "new"
    words = f"cannot be written: there is no folder {target.parent}; create it first"
    with pytest.raises(FileProblem) as caught, atomic_write(target):
        pass
    assert str(caught.value).endswith(words)
    target.parent.mkdir()
    with atomic_write(target) as file:
        file.write(b"abc")
    assert target.read_bytes() == b"abc"


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path) -> None:
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


def make_special(path: Path, kind: str) -> None:
    """A pipe, a socket or the null device, which only root can make."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes device files")


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "through a link"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_never_replaced(kind: str, linked: bool, tmp_path: Path) -> None:
    special, target = tmp_path / "special", tmp_path / "special"
    make_special(special, kind)
    if linked:
        target = tmp_path / "link"
        target.symlink_to(special)
    before, entries = special.lstat(), names(tmp_path)
    with pytest.raises(FileProblem, match=f"{target.name}: is a {kind}, expected a file"):  # noqa: SIM117
        with atomic_write(target):
            pytest.fail("the block must not run")
    assert special.lstat() == before
    assert names(tmp_path) == entries


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755, 0o444])
def test_a_replaced_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"before")
    target.chmod(mode)
    with atomic_write(target) as file:
        file.write(b"after")
    assert target.read_bytes() == b"after"
    assert target.stat().st_mode & 0o7777 == mode


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


@pytest.mark.parametrize("name", ["n" * 255, "💥" * 63])
def test_long_names_work(name: str, tmp_path: Path) -> None:
    with atomic_write(tmp_path / name) as file:
        file.write(b"abc")
    assert names(tmp_path) == [name]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"before")
    program = """
import os, signal, sys
from caffecompat.output_files import atomic_write, check_writable
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
    assert len(names(tmp_path)) == 2, "the draft of the killed writer"
    other = tmp_path / "other"
    with atomic_write(other):
        assert len(names(tmp_path)) == 3, "a draft of another target is left alone"
    with atomic_write(target) as file:
        file.write(b"after")
    assert names(tmp_path) == ["old", "other"]
    assert target.read_bytes() == b"after"


def test_a_living_writer_keeps_its_draft(tmp_path: Path) -> None:
    target = tmp_path / "file"
    program = """
import sys
from caffecompat.output_files import atomic_write, check_writable
with atomic_write(sys.argv[1]) as file:
    file.write(b"slow")
    print("begun", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(target)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        assert slow.stdout.readline() == b"begun\n"
        with atomic_write(target) as file:
            file.write(b"fast")
        assert target.read_bytes() == b"fast"
        assert len(names(tmp_path)) == 2
        slow.stdin.close()
        assert slow.wait() == 0
    assert target.read_bytes() == b"slow"
    assert names(tmp_path) == ["file"]


def test_only_drafts_of_dead_writers_are_removed(tmp_path: Path) -> None:
    """Similar names, folders and links of any target stay."""
    kept = [".file.12345678.tmp.old", ".file.1234567.tmp", "file.12345678.tmp", ".fil.12345678.tmp"]
    for name in [*kept, ".file.00000001.tmp"]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".file.00000002.tmp").mkdir()
    (tmp_path / ".file.00000003.tmp").symlink_to(tmp_path / kept[0])
    os.mkfifo(tmp_path / ".file.00000004.tmp")
    with atomic_write(tmp_path / "file") as file:
        file.write(b"after")
    special = [".file.00000002.tmp", ".file.00000003.tmp", ".file.00000004.tmp"]
    assert names(tmp_path) == sorted([*kept, *special, "file"])


def test_a_target_is_tried_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old")
    check_writable(tmp_path / "new")
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    for target in (tmp_path, tmp_path / "nowhere" / "new", tmp_path / "old" / "new"):
        with pytest.raises(FileProblem, match="cannot be written"):
            check_writable(target)
