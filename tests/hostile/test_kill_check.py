"""Killed jobs leave no incomplete files, and end like uninterrupted ones.

``CAFFECOMPAT_KILLS`` in the environment is the number of kills (default 20). The long check is
``tools/kill_check.sh``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from caffecompat.data.backends.database import create_database
from tests.programs import run_program
from tools import kill_check

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("CAFFECOMPAT_KILLS", "20"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forks")
def test_killed_jobs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = ["--kills", str(KILLS), "--json", str(figures)]
    script = str(ROOT / "tools" / "kill_check.py")
    result = run_program([script, *words], timeout=600 + 10 * KILLS)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = json.loads(figures.read_text())["jobs"]
    assert sum(count["kills"] for count in jobs.values()) >= KILLS
    assert all(count["runs"] for count in jobs.values())


JOB = kill_check.Job("convert", (), (), ("new.npz",), replaces=True)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """What an undisturbed job has made: a file and a database."""
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "new.npz").write_bytes(b"whole")
    make_database(folder / "out", b"value")
    return folder


def make_database(path: Path, value: bytes) -> None:
    with create_database(path) as writer:
        writer.write([(b"key", value)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "trial"
    path.mkdir()
    return path


def test_a_file_that_is_whole_or_not_there_is_right(folder: Path, reference: Path) -> None:
    assert kill_check.differences_while_killed(JOB, folder, reference, old=False) == []
    (folder / ".new.npz.0123abcd.tmp").write_bytes(b"wh")
    (folder / "new.npz").write_bytes(b"whole")
    assert kill_check.differences_while_killed(JOB, folder, reference, old=False) == []


def test_half_a_file_is_seen(folder: Path, reference: Path) -> None:
    (folder / "new.npz").write_bytes(b"who")
    found = kill_check.differences_while_killed(JOB, folder, reference, old=True)
    assert found == ["new.npz is half-written"]


def test_half_a_database_is_seen(folder: Path, reference: Path) -> None:
    make_database(folder / "out", b"other")
    found = kill_check.differences_while_killed(JOB, folder, reference, old=False)
    assert found == ["out is half-written"]


def test_a_database_with_the_mark_of_its_conversion_is_complete_but_not_in_order(
    folder: Path, reference: Path
) -> None:
    """On a slow disk a kill often comes before the last step, which removes the mark."""
    make_database(folder / "out", b"value")
    (folder / "out" / "begun-with.txt").write_text("purpose")
    assert kill_check.differences_while_killed(JOB, folder, reference, old=False) == []
    (folder / "new.npz").write_bytes(b"whole")
    assert kill_check.differences_at_the_end(folder, reference) == ["out differs"]
    (folder / "out" / "other.txt").write_text("")
    found = kill_check.differences_while_killed(JOB, folder, reference, old=False)
    assert found == ["out is half-written"]


def test_a_lost_file_is_seen(folder: Path, reference: Path) -> None:
    found = kill_check.differences_while_killed(JOB, folder, reference, old=True)
    assert found == ["the old new.npz is lost"]


def test_what_is_left_over_missing_or_different_is_seen(folder: Path, reference: Path) -> None:
    (folder / ".new.npz.0123abcd.tmp").write_bytes(b"")
    make_database(folder / "out", b"value")
    (folder / "new.npz").write_bytes(b"whose")
    assert kill_check.differences_at_the_end(folder, reference) == [
        ".new.npz.0123abcd.tmp is left over",
        "new.npz differs",
    ]
    (folder / "new.npz").unlink()
    found = kill_check.differences_at_the_end(folder, reference)
    assert found[-1] == "new.npz is missing"
