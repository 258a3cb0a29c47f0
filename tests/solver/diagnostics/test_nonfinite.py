"""Losses and weights that are not finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.solver import Solver
from caffecompat.solver.diagnostics.nonfinite import NotFinite
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training


def test_the_layer_where_it_began_is_named(tmp_path: Path) -> None:
    """A score beyond float32: the loss layer shows it, the layer before has made it."""
    path = write_training(tmp_path / "run")
    solver = Solver(path)
    solver.step(3)
    solver.net.params["score"][0].data.fill_(3e38)
    before = [entry.tensor.detach().clone() for entry in solver.net.learnable]
    with pytest.raises(SolverError, match="iteration 3: the loss is ") as caught:
        solver.step(1)
    text = str(caught.value)
    assert text.startswith(f"{path}: iteration 3: the loss is ")
    assert "net.prototxt:16: layer 'score' (InnerProduct): its output 'score' is the first" in text
    assert text.endswith("lower base_lr or set clip_gradients")
    assert "\n" not in text
    assert solver.iter == 3
    for value, entry in zip(before, solver.net.learnable, strict=True):
        assert torch.equal(value, entry.tensor.detach()), entry.layer


def test_a_parameter_that_an_update_broke_is_named(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    solver.step(2)
    solver.net.params["conv"][1].data[1] = math.inf
    with pytest.raises(SolverError, match=r"parameter 1 of layer 'conv' is already not finite"):
        solver.step(1)


def test_looking_for_it_changes_no_statistics(tmp_path: Path) -> None:
    from caffecompat.solver.diagnostics.nonfinite import explain

    solver = Solver(write_training(tmp_path / "run"))
    before = [buffer.clone() for buffer in solver.net.params["norm"]]
    assert explain(solver.net, 1).startswith("every output is finite")
    for value, buffer in zip(before, solver.net.params["norm"], strict=True):
        assert torch.equal(value, buffer)


def test_a_batch_that_gives_nan_leaves_no_trace_in_statistics(tmp_path: Path) -> None:
    """Of an iteration of two passes, of which the second one fails."""
    solver = Solver(write_training(tmp_path / "run"))
    solver.step(3)
    before = [value.clone() for value in solver.net.params["norm"]]
    source: Any = solver.net.layers[0].source
    read = source.read

    def spoilt(index: int) -> Any:
        data, label = read(index)
        return (data * np.float32("nan") if index == 7 else data), label

    source.read = spoilt
    with pytest.raises(NotFinite, match="iteration 3"):
        solver.step(1)
    assert all(map(torch.equal, before, solver.net.params["norm"]))
    source.read = read
    solver.step(1)
    assert all(value.isfinite().all() for value in solver.net.params["norm"])


def test_broken_weights_are_never_written(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path / "run")
    solver = Solver(path, on_nan="ignore")
    solver.step(5)
    good = (tmp_path / "run" / "snap_iter_5.caffemodel").read_bytes()
    solver.net.params["score"][0].data.fill_(math.nan)
    solver.step(5)
    assert solver.iter == 10
    assert lines.containing("iteration 10: the weights are not finite numbers, so no snapshot")
    with pytest.raises(SolverError, match=r"not finite numbers.*snap_iter_5.solverstate, is kept"):
        solver.snapshot()
    assert [f.name for f in (tmp_path / "run").glob("*.solverstate")] == ["snap_iter_5.solverstate"]
    assert (tmp_path / "run" / "snap_iter_5.caffemodel").read_bytes() == good


def test_a_diverging_run_ends_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path / "run")
    path.write_text(path.read_text().replace("base_lr: 0.05", "base_lr: 1e30"))
    assert main(["train", "--solver", str(path)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert "the loss is " in errors[0]
    assert main(["train", "--solver", str(path), "--on-nan", "ignore"]) == 1
    assert "the weights are not finite numbers, so no snapshot" in capsys.readouterr().err


def test_an_unknown_choice(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match="on_nan is 'explode'; it must be one of: stop, ignore"):
        Solver(write_training(tmp_path / "run"), on_nan="explode")
