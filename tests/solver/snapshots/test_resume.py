"""``--snapshot auto``, killed runs, full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.errors import FileProblem, SolverError
from caffecompat.proto import read_solver
from caffecompat.solver import Action, Solver
from caffecompat.solver.snapshots.resume import remove_unfinished
from caffecompat.weights import load_weights, read_state, save_weights, write_state
from tests.places import REPOSITORY
from tests.programs import run_program
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training


def parameters(solver: Solver) -> list[bytes]:
    return [entry.tensor.detach().numpy().tobytes() for entry in solver.net.learnable]


def trained(folder: Path, more: str = "random_seed: 7") -> Path:
    """A training that has left snapshots of iterations 5, 10 and 12."""
    path = write_training(folder, more)
    Solver(path).solve()
    return path


def test_auto_takes_the_newest(tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run", "")
    seed = Solver(path, snapshot="auto").seed
    assert lines.containing("Resuming from") == [
        f"Resuming from {tmp_path}/run/snap_iter_12.solverstate"
    ]
    for name in ("snap_iter_12.solverstate", "snap_iter_10.solverstate"):
        (tmp_path / "run" / name).unlink()
    solver = Solver(path, snapshot="auto")
    assert (solver.iter, solver.seed) == (5, seed)


def test_auto_without_any_starts_from_the_beginning(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path / "run")
    solver = Solver(path, snapshot="auto")
    assert solver.iter == 0
    assert lines.containing("no snapshot of")
    solver.step(5)
    model = tmp_path / "run" / "snap_iter_5.caffemodel"
    other = write_training(tmp_path / "other")
    started = Solver(other, weights=model, snapshot="auto")
    assert parameters(started) == parameters(solver)
    assert started.iter == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def fewer_layers(path: Path) -> None:
    weights = load_weights(path)
    del weights.layers[-3:]
    save_weights(weights, path)


@pytest.mark.parametrize("damage", [cut, empty, zeroed, fewer_layers, Path.unlink])
def test_auto_names_and_skips_broken_weights(damage: object, tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    damage(tmp_path / "run" / "snap_iter_12.caffemodel")  # type: ignore[operator]
    assert Solver(path, snapshot="auto").iter == 10
    (skipped,) = lines.containing("skipped ")
    assert "snap_iter_12.caffemodel" in skipped


@pytest.mark.parametrize("damage", [cut, empty, zeroed])
def test_auto_names_and_skips_broken_states(damage: object, tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    damage(tmp_path / "run" / "snap_iter_12.solverstate")  # type: ignore[operator]
    solver = Solver(path, snapshot="auto")
    assert solver.iter == 10
    assert len(lines.containing("skipped ")) == 1
    solver.solve()
    assert solver.iter == 12


def test_auto_with_nothing_but_broken_ones(tmp_path: Path) -> None:
    path = trained(tmp_path / "run")
    for state in (tmp_path / "run").glob("*.solverstate"):
        cut(state)
    with pytest.raises(
        SolverError, match=r"none of the 3 solver state\(s\) .* is intact"
    ) as caught:
        Solver(path, snapshot="auto")
    assert len(str(caught.value).splitlines()) == 4


def test_a_fresh_start_names_snapshots_that_it_will_replace(tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    assert not lines.containing("snapshots of an earlier run")
    Solver(path)
    (said,) = lines.containing("snapshots of an earlier run")
    assert "snap_iter_12.solverstate" in said
    assert "--snapshot auto (snapshot='auto' in Python) goes on from the last" in said
    assert Solver(path, snapshot="auto").iter == 12
    assert main(["train", "--solver", str(path), "--snapshot", "auto"]) == 0


def test_auto_wonders_at_a_later_state_of_fewer_iterations(tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    Solver(path, snapshot="auto")
    assert not lines.containing("was written after")
    fresh = Solver(path)
    fresh.step(5)
    assert Solver(path, snapshot="auto").iter == 12
    (said,) = lines.containing("was written after")
    assert "snap_iter_5.solverstate was written after" in said


@pytest.mark.parametrize("name", ["snap_iter_12.solverstate", "snap_iter_12.caffemodel"])
def test_values_that_are_no_numbers(name: str, tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    damaged = tmp_path / "run" / name
    if name.endswith("caffemodel"):
        weights = load_weights(damaged)
        weights["score"].blobs[0][0, 0] = np.nan
        save_weights(weights, damaged)
        # As a Caffe writes its states: without the hash, which would tell the file apart.
        state = read_state(damaged.with_suffix(".solverstate"))
        state.learned_net_sha256 = ""
        write_state(state, damaged.with_suffix(".solverstate"))
    else:
        state = read_state(damaged)
        state.history[1] = np.full_like(state.history[1], np.inf)
        write_state(state, damaged)
        with pytest.raises(SolverError, match=r"history array 1 has values that are not finite"):
            Solver(path, snapshot=damaged)
    assert Solver(path, snapshot="auto").iter == 10
    assert lines.containing(f"{name} has values that are not finite")


def test_a_layer_that_the_snapshot_does_not_have(tmp_path: Path, lines: Lines) -> None:
    path = trained(tmp_path / "run")
    net = tmp_path / "run" / "net.prototxt"
    net.write_text(net.read_text().replace('"score"', '"scores"'))
    Solver(path, snapshot=tmp_path / "run" / "snap_iter_10.solverstate")
    (said,) = lines.containing("is not in the file and keeps its values")
    assert "layer 'scores'" in said
    assert "the file has 'score'" in said


def test_auto_looks_at_this_prefix_only(tmp_path: Path) -> None:
    path = trained(tmp_path / "run")
    folder = tmp_path / "run"
    for state in folder.glob("snap_iter_*.solverstate"):
        state.rename(folder / f"other_{state.name}")
    assert Solver(path, snapshot="auto").iter == 0


def test_a_whole_run_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path / "run")
    command = ["train", "--solver", str(path), "--snapshot", "auto"]
    assert main(command) == 0
    # With a snapshot the weights are not read.
    assert main([*command, "--weights", f"{tmp_path}/removed.caffemodel"]) == 0
    assert "Resuming from" in capsys.readouterr().err


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path / "run")
    folder = tmp_path / "run"
    leftovers = [
        ".snap_iter_5.caffemodel.0a1b2c3d.tmp",
        "..new.snap_iter_5.caffemodel.h5.0a1b2c3d.tmp",
        ".new.snap_iter_5.solverstate",
    ]
    others = [".other_iter_5.caffemodel.0a1b2c3d.tmp", "snap_iter_3.caffemodel", ".new.snap_notes"]
    for name in leftovers + others:
        (folder / name).write_bytes(b"x")
    Solver(path).solve()
    assert not any((folder / name).exists() for name in leftovers)
    assert all((folder / name).exists() for name in others)
    (line,) = lines.containing("removed unfinished files of a killed run")
    assert all(name in line for name in leftovers)
    assert remove_unfinished(f"{folder}/none/x") == []


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("format_", ["", "snapshot_format: HDF5"])
def test_a_full_disk_in_the_middle(
    format_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """The training goes on, the last good pair stays, nothing half-written does."""
    path = write_training(tmp_path / "run", f"random_seed: 7 {format_}")
    undisturbed = Solver(path)
    undisturbed.solve()
    for file in (tmp_path / "run").glob("snap_*"):
        file.unlink()
    solver = Solver(path)
    solver.step(7)
    good = {file: file.read_bytes() for file in (tmp_path / "run").glob("*snap_*")}
    assert len(good) == 2
    with monkeypatch.context() as patch:
        patch.setattr("caffecompat.output_files.os.fsync", full_disk)
        solver.step(4)
        assert {file: file.read_bytes() for file in (tmp_path / "run").glob("*snap_*")} == good
        assert {f.name for f in (tmp_path / "run").glob(".*")} == set()
        (line,) = lines.containing("this snapshot cannot be written, the training goes on")
        assert "No space left on device" in line
        assert f"the last one, {solver._prepared.files.state(5)}, is kept" in line
        assert ".new." not in line
        with pytest.raises(FileProblem, match="cannot be written: No space left on device"):
            solver.solve()
    again = Solver(path, snapshot="auto")
    assert again.iter == 5
    again.solve()
    assert parameters(again) == parameters(undisturbed)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    (tmp_path / "run").chmod(0o555)
    solver.step(6)
    (tmp_path / "run").chmod(0o755)
    assert lines.containing("this snapshot cannot be written")


def test_a_preempted_run_always_has_a_snapshot(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", "random_seed: 7 snapshot_after_train: false")
    for action, count in ((Action.STOP, 0), (Action.PREEMPT, 1)):
        solver = Solver(path)
        # Two of the questions come from the test at iteration 0.
        actions = iter([*[Action.NONE] * 4, action])
        solver.requested = lambda actions=actions: next(actions, Action.NONE)  # type: ignore[misc]
        solver.solve()
        assert solver.stopped
        assert len(list((tmp_path / "run").glob("snap_iter_3.solverstate"))) == count


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed(tmp_path: Path) -> None:
    """However often a run is killed, it ends with the weights of an undisturbed one."""
    settings = 'snapshot: 1 max_iter: 150 display: 0 snapshot_prefix: "{folder}/snap"'
    text = """net: "{folder}/net.prototxt" base_lr: 0.05 lr_policy: "plateau" gamma: 0.5
        plateau_winsize: 8 plateau_metric: "accuracy" plateau_drops: 3 test_iter: 2
        test_interval: 4 momentum: 0.9 iter_size: 2 random_seed: 4 """
    path = write_training(tmp_path / "run", "", text + settings)
    script = REPOSITORY / "tests" / "solver" / "snapshots" / "killed_training.py"
    done = run_program([str(script), str(path), "12", "3", "any"], timeout=200)
    assert done.returncode == 0, done.stderr
    message = read_solver(path)
    message.snapshot = 0
    message.snapshot_prefix = str(tmp_path / "undisturbed")
    undisturbed = Solver(message)
    undisturbed.solve()
    killed = Solver(path, snapshot="auto")
    assert killed.iter == 150
    assert parameters(killed) == parameters(undisturbed)
    for ours, theirs in zip(killed.history, undisturbed.history, strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]
