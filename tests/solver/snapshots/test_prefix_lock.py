"""One training at a time under one snapshot prefix."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.solver import Solver
from caffecompat.solver.snapshots.prefix_lock import PrefixLock
from tests.solver.small import write_training
from tests.solver.snapshots.held_lock import hold


def test_a_second_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path)
    other = hold(tmp_path / "snap")
    assert main(["train", "--solver", str(path)]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert f"another training (process {other.pid} on {socket.gethostname()}) writes" in error
    assert not list(tmp_path.glob("snap_iter_*"))
    other.communicate("\n")
    assert not (tmp_path / "snap.lock").exists()
    assert main(["train", "--solver", str(path)]) == 0
    assert not (tmp_path / "snap.lock").exists()


def test_the_lock_of_a_killed_training_is_free(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    other = hold(tmp_path / "snap")
    solver = None
    with pytest.raises(SolverError, match="another training"):
        Solver(path)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert (tmp_path / "snap.lock").exists()
    solver = Solver(path)
    solver.solve()
    assert not (tmp_path / "snap.lock").exists()


def test_a_training_that_begins_in_the_meantime(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path))
    with (
        PrefixLock(f"{tmp_path}/snap", "other").held(),
        pytest.raises(SolverError, match="wait for its end, or give this one a snapshot_prefix"),
    ):
        solver.solve()
    assert solver.iter == 0
    solver.solve()
    assert solver.iter == 12


def test_where_no_file_can_be_made(tmp_path: Path) -> None:
    lock = PrefixLock(f"{tmp_path}/none/snap", "solver")
    lock.check()
    with lock.held():
        pass
    (tmp_path / "link.lock").symlink_to(tmp_path / "target")
    with PrefixLock(f"{tmp_path}/link", "solver").held():
        pass
    assert not (tmp_path / "target").exists()
