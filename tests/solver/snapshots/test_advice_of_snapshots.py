"""Snapshots that are refused, and what the message advises."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.output_files import atomic_write
from caffecompat.solver import Solver
from caffecompat.solver.snapshots.resume import remove_unfinished
from caffecompat.solver.snapshots.snapshot_files import SnapshotFiles
from caffecompat.weights import read_state, write_state
from tests.solver.log.caffe_log import Lines
from tests.solver.small import SOLVER, write_training
from tests.solver.snapshots.held_lock import hold


def with_prefix(folder: Path, prefix: str, more: str = "random_seed: 7") -> Path:
    """The solver of a training whose snapshots have another prefix."""
    solver = SOLVER.replace("{folder}/snap", "{folder}/" + prefix)
    if "snapshot:" in more:
        solver = solver.replace("snapshot: 5", "")
    return write_training(folder, more, solver)


@pytest.mark.parametrize("inner", ["", "/new", "/new/newer folder"])
def test_a_file_in_the_place_of_a_folder(inner: str, tmp_path: Path) -> None:
    path = with_prefix(tmp_path, f"a file{inner}/snap")
    (tmp_path / "a file").write_text("of the user")
    with pytest.raises(SolverError) as caught:
        Solver(path)
    found = re.search(
        r"; (.*) is a file, move it away and make the folder \((mkdir -p .*)\), or change "
        "snapshot_prefix$",
        str(caught.value),
    )
    assert found is not None
    Path(found[1]).rename(tmp_path / "away")
    subprocess.run(shlex.split(found[2]), check=True)
    Solver(path).solve()
    assert (tmp_path / f"a file{inner}/snap_iter_12.solverstate").exists()
    assert (tmp_path / "away").read_text() == "of the user"


def test_a_folder_that_may_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_prefix(tmp_path, "new/snap")
    with monkeypatch.context() as patch:
        # Root may write everywhere.
        patch.setattr("os.access", lambda place, mode: str(place) != str(tmp_path))
        with pytest.raises(SolverError) as caught:
            Solver(path)
    words = f"give yourself the right to write in {tmp_path} and make the folder (mkdir -p "
    assert f"{words}{tmp_path}/new), or change snapshot_prefix" in str(caught.value)
    tmp_path.chmod(0o755)
    subprocess.run(["mkdir", "-p", f"{tmp_path}/new"], check=True)
    assert Solver(path).iter == 0


def test_names_of_folders_that_are_too_long(tmp_path: Path) -> None:
    long = (os.pathconf(tmp_path, "PC_NAME_MAX") + 1) * "f"
    path = with_prefix(tmp_path, f"{long}/snap")
    with pytest.raises(SolverError, match="give a snapshot_prefix with shorter names of"):
        Solver(path)
    (tmp_path / long[:-1]).mkdir()
    path.write_text(path.read_text().replace(long, long[:-1]))
    assert Solver(path).iter == 0


@pytest.mark.parametrize("letter", ["s", "\N{SNOWMAN}"])
@pytest.mark.parametrize("more", ["", "snapshot_format: HDF5", "snapshot: 0"])
def test_a_name_that_the_file_system_does_not_take(more: str, letter: str, tmp_path: Path) -> None:
    limit = os.pathconf(tmp_path, "PC_NAME_MAX")
    end = len(SnapshotFiles("", "HDF5" in more).state(12)) + len(".new.")
    size = len(letter.encode())
    base = (limit - end) % size * "x" + (limit - end) // size * letter
    # The longest one that can be written is not refused.
    with_prefix(tmp_path, base, more)
    Solver(tmp_path / "small.solver.prototxt").solve()
    assert len(list(tmp_path.glob("*_iter_12.solverstate*"))) == 1

    path = with_prefix(tmp_path / "longer", base + "abcd", more)
    with pytest.raises(SolverError) as caught:
        Solver(path).solve()
    assert not list(path.parent.glob("*_iter_*"))
    found = re.search(
        rf"names of up to {limit + 4} bytes are needed there, and the file system takes {limit}; "
        r"give a snapshot_prefix whose last part is (\d) bytes shorter$",
        str(caught.value),
    )
    assert found is not None
    path.write_text(path.read_text().replace(base + "abcd", (base + "abcd")[: -int(found[1])]))
    Solver(path).solve()
    assert len(list(path.parent.glob("*_iter_12.solverstate*"))) == 1


def test_a_longer_training_needs_longer_names(tmp_path: Path) -> None:
    """What counts is the iteration at the end, not the first one of which there is a snapshot."""
    end = len(".new." + SnapshotFiles("", False).state(12))
    path = with_prefix(tmp_path, (os.pathconf(tmp_path, "PC_NAME_MAX") - end) * "s")
    path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 100"))
    with pytest.raises(SolverError, match="whose last part is 1 bytes shorter"):
        Solver(path)


def test_a_file_system_with_short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files may have the longest names."""
    monkeypatch.setattr("os.pathconf", lambda folder, name: 30)
    with pytest.raises(SolverError, match=r"up to 43 bytes .* takes 30; .* is 13 bytes shorter"):
        SnapshotFiles(f"{tmp_path}/snap", False).check_writable("solver", 12)
    monkeypatch.setattr("os.pathconf", lambda folder, name: 43)
    SnapshotFiles(f"{tmp_path}/snap", False).check_writable("solver", 12)
    with atomic_write(tmp_path / ".new.snap_iter_12.solverstate"):
        (name,) = [each for each in os.listdir(tmp_path) if each.endswith(".tmp")]
    assert len(name) == 43


def test_what_a_killed_run_with_a_long_prefix_leaves(tmp_path: Path) -> None:
    base = 70 * "s"
    state = Path(SnapshotFiles(f"{tmp_path}/{base}", False).state(5))
    staged = state.with_name(".new." + state.name)
    with atomic_write(staged):
        # Its writer runs: perhaps that of another prefix with the same first characters.
        assert remove_unfinished(f"{tmp_path}/{base}") == []
        (name,) = os.listdir(tmp_path)
    assert os.listdir(tmp_path) == [staged.name]
    (tmp_path / name).write_text("")
    assert remove_unfinished(f"{tmp_path}/{base}") == sorted([staged.name, name])
    assert os.listdir(tmp_path) == []


def test_two_trainings_with_one_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path)
    words = "wait for its end, or give this one a snapshot_prefix of its own"
    other = hold(tmp_path / "snap")
    assert main(["train", "--solver", str(path)]) == 1
    assert words in capsys.readouterr().err
    text = path.read_text()
    path.write_text(text.replace("/snap", "/own"))
    assert main(["train", "--solver", str(path)]) == 0
    path.write_text(text)
    other.communicate("\n")
    assert main(["train", "--solver", str(path)]) == 0


@pytest.mark.parametrize("more", ["", "snapshot_format: HDF5"])
def test_a_history_that_is_not_finite(more: str, tmp_path: Path) -> None:
    path = write_training(tmp_path, f"random_seed: 7 {more}")
    Solver(path).solve()
    last = SnapshotFiles(f"{tmp_path}/snap", bool(more)).state(12)
    state = read_state(last)
    state.history[1] = np.full_like(state.history[1], np.nan)
    write_state(state, last)
    with pytest.raises(SolverError) as caught:
        Solver(path, snapshot=last)
    assert str(caught.value) == (
        f"{last}: history array 1 has values that are not finite; the file is damaged, or of a "
        "training that had diverged; give an earlier snapshot"
    )
    solver = Solver(path, snapshot=SnapshotFiles(f"{tmp_path}/snap", bool(more)).state(10))
    solver.solve()
    assert solver.iter == 12


def test_a_disk_without_room(tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [100]
    monkeypatch.setattr("caffecompat.solver.estimate.forecast._free_disk", lambda prefix: free[0])

    def said(text: str, disk: int) -> bool:
        lines.text.clear()
        free[0] = disk
        path.write_text(text)
        Solver(path, forecast=True)
        return bool(lines.containing("are free on the disk; "))

    path = write_training(tmp_path)
    text = path.read_text()
    Solver(path).solve()
    pair = sum(file.stat().st_size for file in tmp_path.glob("snap_iter_12.*"))
    assert said(text, 100)
    # Not one snapshot fits, however few are written.
    assert not lines.containing("raise 'snapshot'")
    assert said(text, 2 * pair)
    assert lines.containing("are free on the disk; make room, or raise 'snapshot'")
    assert not said(text.replace("snapshot: 5", "snapshot: 12"), 2 * pair)
    assert not said(text, 4 * pair)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('momentum: 0.9 type: "SGD"', 'momentum: 0 type: "AdaGrad"'),
        ('momentum: 0.9 type: "Nesterov"', 'momentum: 0 type: "RMSProp" rms_decay: 0.9'),
    ],
)
def test_the_state_of_another_solver_type(one: str, other: str, tmp_path: Path) -> None:
    """As many arrays, but no squares: Caffe takes the roots of negative numbers."""
    plain = re.sub(r"momentum: \S+|type: \S+", "", SOLVER)
    Solver(write_training(tmp_path, one, plain)).solve()
    (state,) = tmp_path.glob("snap_iter_12.solverstate")
    changed = plain.replace("max_iter: 12", "max_iter: 15")
    path = write_training(tmp_path, other, changed)
    with pytest.raises(SolverError) as caught:
        Solver(path, snapshot=str(state))
    words = "resume with that type, or start from its weights (--weights)"
    assert re.search(
        r"history array \d has values below 0, which \w+ never stores: ", str(caught.value)
    )
    assert str(caught.value).endswith(words)
    assert (
        main(
            ["train", "--cpu", "--solver", str(path), "--weights", str(state)[:-11] + "caffemodel"]
        )
        == 0
    )
    assert Solver(write_training(tmp_path, one, changed), snapshot=str(state)).iter == 12


def test_the_state_of_the_same_type_is_taken(tmp_path: Path) -> None:
    plain = re.sub(r"momentum: \S+|type: \S+", "", SOLVER)
    for kind in ("AdaGrad", "RMSProp", "AdaDelta", "Adam"):
        momentum = 0.9 if kind in ("AdaDelta", "Adam") else 0
        path = write_training(tmp_path / kind, f'type: "{kind}" momentum: {momentum}', plain)
        Solver(path).solve()
        (state,) = (tmp_path / kind).glob("snap_iter_12.solverstate")
        assert Solver(path, snapshot=str(state)).iter == 12
