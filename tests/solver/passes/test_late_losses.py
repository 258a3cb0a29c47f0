"""Losses that the host reads one iteration late, while captured passes are played back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import DataError, SolverError
from caffecompat.solver import Solver
from caffecompat.solver.diagnostics.nonfinite import NotFinite
from caffecompat.solver.signals import Action
from tests.solver.log.caffe_log import Lines
from tests.solver.passes.played_back import ONE_PASS, learned, statistics, trained
from tests.solver.small import write_training


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("graph", [None, False])
def test_overflows_are_reported_one_iteration_later(
    graph: bool | None, tmp_path: Path, lines: Lines
) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    solver = Solver(path, precision="fp16", cuda_graph=graph)
    scaler = solver._train_step._grad_scaler
    assert scaler is not None
    scaler.value.fill_(256)
    solver.step(2)
    before = learned(solver)
    history = [array.clone() for array in solver.history]
    scaler.value.fill_(2.0**120)
    solver.step(1)
    assert not lines.containing("gradients overflow")
    assert all(map(torch.equal, before, learned(solver)))
    assert all(map(torch.equal, history, solver.history))
    assert float(scaler.value) == 2.0**119
    solver.step(1)
    (line,) = lines.containing("gradients overflow")
    assert line.startswith("Iteration 2: gradients overflow in fp16, no update is made")
    solver.snapshot()
    assert lines.containing("Iteration 3: gradients overflow in fp16")
    scaler.value.fill_(2.0**-14)
    scaler.found.fill_(1)
    scaler.adjust()
    scaler.watch(4)
    with pytest.raises(SolverError, match="iteration 4: gradients are not finite in fp16"):
        scaler.catch_up()


@pytest.mark.usefixtures("played")
def test_an_overflow_in_the_last_iteration_is_reported(tmp_path: Path, lines: Lines) -> None:
    text = ONE_PASS.replace("snapshot: 5", "snapshot_after_train: false")
    path = write_training(tmp_path / "run", solver=text.replace("max_iter: 12", "max_iter: 2"))
    solver = Solver(path, precision="fp16")
    scaler = solver._train_step._grad_scaler
    assert scaler is not None
    scaler.value.fill_(256)
    solver.step(1)
    scaler.value.fill_(2.0**120)
    solver.solve()
    assert lines.containing("Iteration 1: gradients overflow in fp16")


@pytest.mark.usefixtures("played")
def test_a_loss_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", solver=ONE_PASS)
    _, solver = trained(path, 2)
    spoilt = solver.net.params["score"][1]
    history = [array.clone() for array in solver.history]
    with torch.no_grad():
        spoilt[0] = float("nan")
    before = learned(solver)
    with pytest.raises(NotFinite, match="iteration 2"):
        solver.step(1)
    for value, after in zip(before, learned(solver), strict=True):
        torch.testing.assert_close(after, value, rtol=0, atol=0, equal_nan=True)
    assert all(map(torch.equal, history, solver.history))
    assert solver.iter == 2


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("what", ["step", "test", "snapshot", "display"])
def test_a_late_loss_is_reported_in_time(what: str, tmp_path: Path, lines: Lines) -> None:
    """Before the next update, a test, a snapshot, and a line with the loss."""
    text = ONE_PASS.replace("snapshot: 5", "snapshot: 0").replace("test_interval: 4", "")
    text = text.replace("test_iter: 2", "")
    text = text.replace("display: 1", "display: 3" if what == "display" else "display: 0")
    if what == "test":
        text += "test_iter: 2 test_interval: 4 test_initialization: false\n"
    path = write_training(tmp_path / "run", solver=text)
    _, solver = trained(path, 2, snapshot=None)
    before = learned(solver)
    step = solver._train_step
    reads: list[int] = []
    check = step._check_loss

    def spoilt(value: Any, index: int, iteration: int) -> None:
        reads.append(solver.iter)
        check((lambda: [float("inf")]) if iteration == 3 else value, index, iteration)

    step._check_loss = spoilt  # type: ignore[method-assign]
    if what == "snapshot":
        # As a signal asks for one after iteration 3.
        solver.requested = lambda: Action.SNAPSHOT if solver.iter == 4 else Action.NONE
    with pytest.raises(NotFinite, match="iteration 3") as caught:
        solver.step(4)
    assert caught.value.iteration == solver.iter == 3
    assert not any(map(torch.equal, before, learned(solver)))
    # The display of iteration 3 reads the loss before its end.
    assert reads[-1] == (3 if what == "display" else 4)
    assert not list(path.parent.glob("*_iter_4.*"))
    assert not lines.containing("Iteration 4, Testing net")


@pytest.mark.usefixtures("played")
def test_no_update_follows_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """The device has played back a further pass before the host reads the loss."""
    text = ONE_PASS.replace("display: 1", "display: 0").replace("test_interval: 4", "")
    path = write_training(tmp_path / "run", solver=text.replace("test_iter: 2", ""))
    solver = Solver(path)
    solver.step(2)
    before, history = learned(solver), [array.clone() for array in solver.history]
    kept = statistics(solver)
    source: Any = solver.net.layers[0].source
    whole, read = source.read, []

    def spoilt(index: int) -> Any:
        data, label = whole(index)
        read.append(index)
        # One batch alone: the pass after it has a finite loss.
        return (data * np.float32("nan") if index == 2 else data), label

    source.read = spoilt
    with pytest.raises(NotFinite, match="iteration 2"):
        solver.step(5)
    assert 3 in read
    assert solver.iter == 2
    assert all(map(torch.equal, before, learned(solver)))
    assert all(map(torch.equal, history, solver.history))
    source.read = whole
    # Its batch has left no trace in the statistics, nor has the one after it.
    for buffer, value in zip(statistics(solver), kept, strict=True):
        assert torch.equal(buffer, value)
    solver.step(1)
    assert not any(map(torch.equal, before, learned(solver)))


@pytest.mark.usefixtures("played")
def test_a_loss_before_a_restored_state_is_not_read(tmp_path: Path) -> None:
    """An error ends the pass after it, so that nobody has read it yet."""
    text = ONE_PASS.replace("display: 1", "display: 0").replace("test_interval: 4", "")
    path = write_training(tmp_path / "run", solver=text.replace("test_iter: 2", ""))
    solver = Solver(path)
    solver.step(2)
    state = solver.snapshot()[1]
    source: Any = solver.net.layers[0].source
    whole = source.read

    def spoilt(index: int) -> Any:
        if index == 3:
            raise DataError("no such record")
        data, label = whole(index)
        return data * np.float32("nan"), label

    source.read = spoilt
    with pytest.raises(DataError):
        solver.step(5)
    source.read = whole
    for buffer in solver.net.buffers():
        buffer.data.nan_to_num_(1.0)
    solver.restore(state)
    before = learned(solver)
    solver.step(2)
    assert solver.iter == 4
    assert not any(map(torch.equal, before, learned(solver)))
