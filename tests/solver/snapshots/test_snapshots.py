"""Snapshots: names, contents, crashes, and states that cannot be used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import CaffeError, FileProblem, FormatError, SolverError
from caffecompat.proto import read_solver, schema
from caffecompat.solver import Solver
from caffecompat.solver.snapshots.snapshot_files import find_learned_net, snapshot_files, write_pair
from caffecompat.weights import LayerWeights, SolverState, Weights, load_weights, read_state
from tests.places import REPOSITORY
from tests.programs import run_program
from tests.solver.small import write_training
from tests.solver.snapshots.killed_training import newest_state

PLAIN = """
net: "{folder}/net.prototxt" base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 random_seed: 4
"""


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = schema.new("SolverParameter")
    assert snapshot_files(message, "a/b.solver.prototxt").prefix == "a/b.solver"
    # An empty prefix that is written down is one, as in Caffe.
    message.snapshot_prefix = ""
    assert snapshot_files(message, "a/b.solver.prototxt").model(7) == "_iter_7.caffemodel"
    message.snapshot_prefix = "p/q"
    files = snapshot_files(message, "a/b.solver.prototxt")
    assert files.model(7) == "p/q_iter_7.caffemodel"
    assert files.state(7) == "p/q_iter_7.solverstate"
    (tmp_path / "p" / "q").mkdir(parents=True)
    assert snapshot_files(message, "a/b.prototxt").prefix == "p/q/b"
    message.snapshot_format = 0
    assert snapshot_files(message, "b").state(1).endswith("_iter_1.solverstate.h5")
    assert snapshot_files(message, "b").model(1).endswith("_iter_1.caffemodel.h5")


@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_contents(format_: str, tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", f"snapshot_format: {format_} snapshot_diff: true")
    solver = Solver(path)
    solver.step(4)
    model, state_path = solver.snapshot()
    state = read_state(state_path)
    assert (state.iteration, state.learned_net, state.current_step) == (4, model, 1)
    assert state.random_seed == solver.seed
    assert [a.shape for a in state.history] == [tuple(e.tensor.shape) for e in solver.net.learnable]
    weights = load_weights(model)
    for entry, history in zip(solver.net.learnable, state.history, strict=True):
        stored = weights[entry.layer]
        np.testing.assert_array_equal(stored.blobs[entry.index], entry.tensor.detach())
        if entry.lr_mult and stored.diffs:
            # The diffs are the last update, which for SGD is the history.
            np.testing.assert_array_equal(stored.diffs[entry.index], history)


def test_no_snapshot_after_train(tmp_path: Path) -> None:
    for after, count in (("true", 1), ("false", 0)):
        text = PLAIN + f"max_iter: 2 snapshot_after_train: {after}"
        path = write_training(tmp_path / after, "", text)
        Solver(path).solve()
        assert len(list(path.parent.glob("small.solver_iter_2.solverstate"))) == count


@pytest.mark.parametrize(("interval", "count"), [(0, 1), (3, 0)])
def test_after_no_iteration(interval: int, count: int, tmp_path: Path) -> None:
    """Iteration 0 is a multiple of every interval, so that Caffe leaves the last snapshot out."""
    path = write_training(tmp_path / "run", "", PLAIN + f"max_iter: 0 snapshot: {interval}")
    Solver(path).solve()
    assert len(list(path.parent.glob("small.solver_iter_0.solverstate"))) == count


def test_a_snapshot_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one after training is left out where the last iteration has written one."""
    path = write_training(tmp_path / "run", "", PLAIN + "max_iter: 4 snapshot: 2")
    solver = Solver(path)
    written = []
    snapshot = solver.snapshot

    def recording_snapshot() -> tuple[str, str]:
        written.append(solver.iter)
        return snapshot()

    monkeypatch.setattr(solver, "snapshot", recording_snapshot)
    solver.solve()
    assert written == [2, 4]


def test_a_crash_between_the_files_leaves_no_mixed_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure while the files are written leaves the earlier pair unchanged."""
    path = write_training(tmp_path / "run", "", PLAIN)
    solver = Solver(path)
    solver.step(1)
    _, own = solver.snapshot()
    other = read_solver(path)
    other.random_seed = 5
    other.snapshot_prefix = own.removesuffix("_iter_1.solverstate")
    another = Solver(other)
    another.step(1)

    def crash(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("caffecompat.solver.snapshots.snapshot_files.write_state", crash)
    before = {path: path.read_bytes() for path in Path(own).parent.glob("*_iter_1.*")}
    assert len(before) == 2
    for writer in (solver, another):
        with pytest.raises(
            FileProblem, match=r"small\.solver_iter_1\.solverstate: cannot be written"
        ):
            writer.snapshot()
        after = {path: path.read_bytes() for path in Path(own).parent.glob("*_iter_1.*")}
        assert after == before


def test_moved_pairs_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_training(tmp_path / "run", "", PLAIN)
    monkeypatch.chdir(path.parent)
    message = read_solver(path)
    message.snapshot_prefix = "snap"
    solver = Solver(message)
    solver.step(2)
    model, state = solver.snapshot()
    assert model == "snap_iter_2.caffemodel"
    monkeypatch.chdir(tmp_path)
    other = Solver(path, snapshot=path.parent / state)
    np.testing.assert_array_equal(
        other.net.params["conv"][0].detach(), solver.net.params["conv"][0].detach()
    )
    (path.parent / model).unlink()
    with pytest.raises(FileProblem, match=r"its weights 'snap_iter_2.caffemodel' are missing"):
        Solver(path, snapshot=path.parent / state)


def two_runs(tmp_path: Path, format_: str) -> list[tuple[Path, Path]]:
    """The pairs of files of two runs with other seeds, under the same names in two folders."""
    pairs = []
    for seed in (4, 5):
        text = PLAIN.replace("random_seed: 4", f"random_seed: {seed} snapshot_format: {format_}")
        path = write_training(tmp_path / str(seed), "", text)
        message = read_solver(path)
        message.snapshot_prefix = str(path.parent / "snap")
        solver = Solver(message)
        solver.step(2)
        model, state = map(Path, solver.snapshot())
        pairs.append((model, state))
    return pairs


@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_weights_of_another_run_are_refused(format_: str, tmp_path: Path) -> None:
    (model, state), (other, _) = two_runs(tmp_path, format_)
    solver = tmp_path / "4" / "small.solver.prototxt"
    model.write_bytes(other.read_bytes())
    with pytest.raises(SolverError, match=r"not the weights that this state was written with"):
        Solver(solver, snapshot=state)
    # The advice of the message: start afresh from these weights.
    Solver(solver, weights=model)


def test_a_flipped_byte_of_the_weights_is_seen(tmp_path: Path) -> None:
    ((model, state), _) = two_runs(tmp_path, "BINARYPROTO")
    data = bytearray(model.read_bytes())
    data[-20] ^= 1
    model.write_bytes(data)
    with pytest.raises(SolverError, match="their SHA-256 differs"):
        Solver(tmp_path / "4" / "small.solver.prototxt", snapshot=state)


def test_the_weights_beside_a_state_are_preferred(tmp_path: Path) -> None:
    ((model, state), (other, _)) = two_runs(tmp_path, "BINARYPROTO")
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in (model, state):
        (copies / path.name).write_bytes(path.read_bytes())
    read = read_state(state)
    found = find_learned_net(read, str(copies / state.name))
    assert found is not None
    assert found.path == str(copies / model.name)
    assert f"taken from {found.path}, not from {model}" in found.note
    # Where only the other one is what the state was written with, that one counts.
    (copies / model.name).write_bytes(other.read_bytes())
    found = find_learned_net(read, str(copies / state.name))
    assert found is not None
    assert found.path == str(model)
    # A state of Caffe does not say; the one beside it counts.
    read.learned_net_sha256 = ""
    found = find_learned_net(read, str(copies / state.name))
    assert found is not None
    assert found.path == str(copies / model.name)
    found = find_learned_net(read, str(state))
    assert found is not None
    assert not found.note


@pytest.mark.parametrize("which", [0, 1], ids=["weights", "state"])
def test_a_snapshot_never_replaces_a_device(which: int, tmp_path: Path) -> None:
    ((model, state), _) = two_runs(tmp_path, "BINARYPROTO")
    pipe, name = tmp_path / "pipe", (model, state)[which]
    os.mkfifo(pipe)
    name.unlink()
    name.symlink_to(pipe)
    other = (model, state)[1 - which].read_bytes()
    weights = Weights([LayerWeights("fc", "InnerProduct", [np.ones(2, np.float32)])])
    with pytest.raises(FileProblem, match=r"snap_iter_2\.\w+: is a pipe, expected a file"):
        write_pair(weights, SolverState(2, str(model), []), str(state))
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert (model, state)[1 - which].read_bytes() == other


def test_states_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", "", PLAIN)
    solver = Solver(path)
    solver.step(1)
    model, state = solver.snapshot()
    with pytest.raises(SolverError, match=f"this is a weight file.*{Path(state).name}"):
        Solver(path, snapshot=model)
    other = tmp_path / "weights_under_another_name"
    other.write_bytes(Path(model).read_bytes())
    with pytest.raises(FormatError, match="caffemodel, expected a solver state"):
        Solver(path, snapshot=other)
    with pytest.raises(FileProblem, match="there is no such solver state; --snapshot takes"):
        Solver(path, snapshot="none.solverstate")
    with pytest.raises(CaffeError, match="prototxt"):
        Solver(path, snapshot=path)
    cut = tmp_path / "cut.solverstate"
    cut.write_bytes(Path(state).read_bytes()[:-50])
    before = [entry.tensor.clone() for entry in solver.net.learnable]
    with pytest.raises(CaffeError, match=r"cut\.solverstate"):
        solver.restore(cut)
    for entry, value in zip(solver.net.learnable, before, strict=True):
        np.testing.assert_array_equal(entry.tensor.detach(), value.detach())


def test_the_folder_is_checked_before_training(tmp_path: Path) -> None:
    text = PLAIN + 'max_iter: 3 snapshot_prefix: "{folder}/none/x"'
    solver = Solver(write_training(tmp_path / "run", "", text))
    solver.step(1)
    with pytest.raises(SolverError, match=r"cannot write snapshots to .*none/x': No such file"):
        solver.solve()
    assert solver.iter == 1


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Every state that a killed training left restores, and the last goes on as undisturbed."""
    text = PLAIN + 'max_iter: 100000 snapshot: 1 snapshot_prefix: "{folder}/snap"'
    path = write_training(tmp_path / "run", "", text)
    script = REPOSITORY / "tests" / "solver" / "snapshots" / "killed_training.py"
    done = run_program([str(script), str(path), "25", "6"], timeout=120)
    assert done.returncode == 0, done.stderr
    # Not those that a kill caught before they had their names.
    states = list(path.parent.glob("snap_iter_*.solverstate"))
    assert len(states) >= 25
    solver = Solver(path)
    for state in states:
        solver.restore(state)
        assert solver.iter == int(state.stem.split("_")[-1])
    last = newest_state(path.parent)
    assert last is not None
    solver.restore(last)
    message = read_solver(path)
    message.snapshot = 0
    undisturbed = Solver(message)
    undisturbed.step(solver.iter + 3)
    solver._message.snapshot = 0
    solver.step(3)
    for ours, theirs in zip(solver.net.learnable, undisturbed.net.learnable, strict=True):
        np.testing.assert_array_equal(ours.tensor.detach(), theirs.tensor.detach())
