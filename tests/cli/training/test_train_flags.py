"""Flags of ``train`` and ``test`` that Caffe does not have."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError
from caffecompat.solver import Callback, Solver, Training
from caffecompat.solver.scores import Scores
from caffecompat.weights import load_weights
from tests.solver.small import write_training

PYTHON_NET = """
layer { name: "data" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: [2, 3] } shape { dim: [2] } data_filler { type: "gaussian" std: 1 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "own" type: "Python" bottom: "x" top: "y"
  python_param { module: "solver_flags_layer" layer: "Double" } }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "s"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" }
"""

PYTHON_LAYER = """
import caffe


class Double(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff
"""


def start(folder: Path) -> tuple[Path, Path]:
    """A solver, and weights of its net that are all 5, but for the score's, of another shape."""
    from caffecompat.weights import save_weights

    path = write_training(folder)
    weights = Solver(path).net.to_weights()
    for layer in weights.layers:
        layer.blobs = [np.full_like(blob, 5) for blob in layer.blobs]
    score = next(layer for layer in weights.layers if layer.name == "score")
    score.blobs = [np.full((7, 9), 5, np.float32), np.full(7, 5, np.float32)]
    for layer in weights.layers:
        layer.legacy = [False] * len(layer.blobs)
    save_weights(weights, folder / "five.caffemodel")
    return path, folder / "five.caffemodel"


def test_layers_to_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, five = start(tmp_path / "run")
    # With an interval for snapshots none is written after 0 iterations, as in Caffe.
    text = path.read_text().replace("snapshot: 5 ", "").replace("max_iter: 12", "max_iter: 0")
    path.write_text(text)
    command = ["train", "-solver", str(path), "-weights", str(five)]
    assert main(command) == 1
    assert "layer 'score' (InnerProduct)" in capsys.readouterr().err
    assert main([*command, "--layers", "conv, n*"]) == 0
    loaded = load_weights(tmp_path / "run" / "snap_iter_0.caffemodel")
    assert (loaded["conv"].blobs[0] == 5).all()
    assert not (loaded["score"].blobs[0] == 5).any()
    assert "not asked for: score" in capsys.readouterr().err
    assert main([*command, "--on_mismatch=skip"]) == 0
    assert "layer 'score' was left as it was" in capsys.readouterr().err
    assert main([*command, "--layers", "nosuch"]) == 1
    assert "nosuch" in capsys.readouterr().err


def test_layers_to_load_in_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, five = start(tmp_path / "run")
    command = f"test -model {tmp_path}/run/net.prototxt -weights {five} -iterations 1".split()
    assert main(command) == 1
    assert main([*command, "--on-mismatch", "reinit"]) == 0
    assert "layer 'score' was filled afresh" in capsys.readouterr().err
    assert main([*command, "-layers", "conv"]) == 0


def test_python_layers_run_only_where_they_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "solver_flags_layer.py").write_text(PYTHON_LAYER)
    (tmp_path / "net.prototxt").write_text(PYTHON_NET)
    solver = tmp_path / "s.prototxt"
    solver.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 random_seed: 1'
    )
    command = ["train", "--solver", str(solver)]
    assert main(command) == 1
    assert "--allow-python" in capsys.readouterr().err
    assert main([*command, "--allow-python"]) == 0
    assert main(["time", f"--model={tmp_path}/net.prototxt", "--iterations=1"]) == 1
    timed = ["time", f"--model={tmp_path}/net.prototxt", "--iterations=1", "--allow_python"]
    assert main(timed) == 0


def spoil(path: Path, at: int) -> str:
    """Makes a record of a database unreadable; returns its key."""
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as t:
        key = list(t.cursor().iternext(values=False))[at]
        t.put(key, b"\xff\xff\xff")
    return key.decode()


def test_a_corrupt_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path / "run")
    key = spoil(tmp_path / "run" / "train_lmdb", 7)
    assert main(["train", "--solver", str(path)]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    for words in ("train_lmdb", f"key {key!r}", "record 7"):
        assert words in error
    assert main(["train", "--solver", str(path), "--skip-corrupt"]) == 0
    assert "skipped: " in capsys.readouterr().err


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    path = write_training(tmp_path / "run")
    folder = tmp_path / "curves"
    assert main(["train", "--solver", str(path), f"-tensorboard={folder}"]) == 0
    curves = events.EventAccumulator(str(folder)).Reload()
    assert set(curves.Tags()["scalars"]) == {
        "train/mean_loss", "train/loss", "lr", "test/accuracy", "test/loss",
    }  # fmt: skip
    rates = [(event.step, round(event.value, 6)) for event in curves.Scalars("lr")]
    assert rates == [(i, 0.05 if i < 3 else 0.025 if i < 9 else 0.0125) for i in range(12)]
    assert [event.step for event in curves.Scalars("test/loss")] == [0, 4, 8, 12]


def test_tensorboard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from caffecompat.solver.reporters.tensorboard import TensorBoard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(CaffeError, match=r"pip install 'caffecompat\[tensorboard\]'"):
        TensorBoard(str(tmp_path))


def test_tensorboard_where_nothing_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    path = write_training(tmp_path / "run")
    assert main(["train", "--solver", str(path), f"--tensorboard={path}/x"]) == 1
    assert re.search(r"error: .*/x: cannot be written: ", capsys.readouterr().err)


def test_callbacks(tmp_path: Path) -> None:
    class Diary(Callback):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def iterated(self, solver: Training) -> None:
            self.lines.append(f"{solver.iter} done")

        def displayed(self, solver: Training, outputs: dict[str, list[float]]) -> None:
            self.lines.append(f"{solver.iter} shows {sorted(outputs)}")

        def tested(self, solver: Training, net: int, scores: Scores) -> None:
            self.lines.append(f"{solver.iter} tests {net}: {sorted(scores.outputs)}")

    path = write_training(tmp_path / "run")
    path.write_text(path.read_text().replace("display: 1", "display: 2"))
    solver = Solver(path)
    diary = Diary()
    solver.callbacks.append(diary)
    solver.step(2)
    assert diary.lines == [
        "0 tests 0: ['accuracy', 'loss']",
        "0 shows ['loss']",
        "1 done",
        "2 done",
    ]
