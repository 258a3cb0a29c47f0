"""A training that fails on its way, and the same one changed as its message says: it ends."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, SolverError
from caffecompat.layers.inner_product import InnerProduct
from caffecompat.proto import schema
from caffecompat.solver import Solver
from tests.data.databases import write_records
from tests.solver.estimate.plain_run import little_memory, write_plain
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training

LINEAR = """
layer { name: "in" type: "DummyData" top: "data" top: "target" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
  data_filler { type: "constant" value: %g } data_filler { type: "constant" value: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {
  num_output: 2 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "target" top: "loss"
  loss_weight: %g }
"""
FINITE = (
    "gradients are not finite in fp16 whatever the loss scale; lower base_lr, set clip_gradients, "
    "or use --precision bf16"
)
TESTS = 'eval_type: "detection"'
ROWS = """
layer { name: "found" type: "DummyData" top: "found" top: "truth" include { phase: TEST }
  dummy_data_param { shape { dim: [1, 1, 1, 7] } shape { dim: [1, 1, 1, 8] } } }
layer { name: "rows" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "rows"
  include { phase: TEST }
  detection_evaluate_param { num_classes: 2 background_label_id: 1 overlap_threshold: 0.5 } }
"""


def regression(folder: Path, value: float, loss_weight: float, settings: str) -> Path:
    """The solver of a linear regression whose first loss is 36 * ``loss_weight``, or more."""
    (folder / "net.prototxt").write_text(LINEAR % (value, loss_weight))
    path = folder / "solver.prototxt"
    path.write_text(
        f'net: "{folder}/net.prototxt" lr_policy: "fixed" max_iter: 60 random_seed: 1 '
        f'snapshot_prefix: "{folder}/snap" {settings}'
    )
    return path


@pytest.mark.parametrize("fix", ["base_lr: 1e-7", "base_lr: 3e-3 clip_gradients: 0.1"])
def test_a_training_that_diverges_in_fp16(fix: str, tmp_path: Path) -> None:
    path = regression(tmp_path, 30, 1000, "base_lr: 3e-3")
    with pytest.raises(SolverError) as caught:
        Solver(path, precision="fp16").solve()
    assert str(caught.value).endswith(FINITE)
    solver = Solver(regression(tmp_path, 30, 1000, fix), precision="fp16")
    solver.step(1)
    first = solver.loss
    solver.solve()
    assert solver.iter == 60
    assert solver.loss < first


def test_gradients_that_fp16_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = regression(tmp_path, 1, 1e9, "base_lr: 1e-10")
    command = ["train", "--solver", str(path), "--precision"]
    assert main([*command, "fp16"]) == 1
    assert FINITE in capsys.readouterr().err
    assert main([*command, "bf16"]) == 0
    solver = Solver(path, precision="bf16")
    solver.solve()
    assert 0 <= solver.loss < 1e6


@pytest.mark.parametrize("fix", ["base_lr: 0.01", "base_lr: 30 clip_gradients: 0.01"])
def test_a_training_that_has_diverged_on_its_way(fix: str, tmp_path: Path, lines: Lines) -> None:
    text = "snapshot: 5 base_lr: "
    path = regression(tmp_path, 1, 1, f"{text}0.01")
    Solver(path).step(5)
    older = tmp_path / "snap_iter_5.solverstate"
    regression(tmp_path, 1, 1, f"{text}30")
    with pytest.raises(CaffeError, match="lower base_lr or set clip_gradients"):
        Solver(path, snapshot=older).solve()
    with contextlib.suppress(CaffeError):  # of the last snapshot
        Solver(path, snapshot=older, on_nan="ignore").solve()
    words = "Lower base_lr or set clip_gradients, and go on from an older snapshot"
    (warning,) = lines.containing("the run has diverged")
    assert warning.endswith(words)
    lines.text.clear()
    regression(tmp_path, 1, 1, f"snapshot: 5 {fix}")
    solver = Solver(path, snapshot=older)
    solver.solve()
    assert solver.iter == 60
    assert not lines.containing("diverged")


def test_data_that_are_no_numbers(tmp_path: Path) -> None:
    path = write_training(tmp_path)

    def write(value: float) -> None:
        shutil.rmtree(tmp_path / "train_lmdb")
        records = []
        for label in range(3):
            record = schema.new("Datum")
            record.channels, record.height, record.width, record.label = 3, 6, 7, label
            record.float_data.extend([value if label == 2 else 9.0] * 3 * 6 * 7)
            records.append(record.SerializeToString())
        write_records(tmp_path / "train_lmdb", records)

    write(math.nan)
    with pytest.raises(CaffeError) as caught:
        Solver(path).step(2)
    words = "layer 'data' (Data): its output 'data' is the first; look at the data"
    assert words in str(caught.value)
    write(5.0)
    solver = Solver(path)
    solver.step(2)
    assert math.isfinite(solver.loss)


def test_a_test_of_detections_without_detections(tmp_path: Path) -> None:
    path = write_training(tmp_path, f"random_seed: 7 {TESTS}")
    words = (
        "eval_type: 'detection' needs the rows of DetectionEvaluate (1, 1, rows, 5); "
        "consume the output with a Silence layer, or remove eval_type"
    )
    net = tmp_path / "net.prototxt"
    plain = net.read_text()
    net.write_text(plain + ROWS)
    consumed = []
    for _ in range(2):
        with pytest.raises(SolverError) as caught:
            Solver(path).solve()
        assert words in str(caught.value)
        found = re.search(r"the test net's output '(\w+)' is", str(caught.value))
        assert found is not None
        consumed.append(found[1])
        net.write_text(
            f"{net.read_text()}\nlayer {{ name: 'not {found[1]}' type: 'Silence' "
            f"bottom: '{found[1]}' include {{ phase: TEST }} }}"
        )
    assert sorted(consumed) == ["accuracy", "loss"]
    Solver(path).solve()
    net.write_text(plain)
    path.write_text(path.read_text().replace(TESTS, ""))
    Solver(path).solve()


def refusing(most: int) -> Callable[..., Any]:
    """InnerProduct's forward pass, whose backward pass has memory for ``most`` rows."""
    forward = InnerProduct.forward

    def refuse(gradient: torch.Tensor) -> None:
        if len(gradient) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    @functools.wraps(forward)
    def limited(self: InnerProduct, *args: Any, **kwargs: Any) -> torch.Tensor:
        made: torch.Tensor = forward(self, *args, **kwargs)
        if made.requires_grad:
            made.register_hook(refuse)
        return made

    return limited


def test_memory_that_the_backward_pass_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_plain(tmp_path)
    monkeypatch.setattr(InnerProduct, "forward", refusing(2))
    command = ["train", "--solver", str(path)]
    assert main(command) == 1
    words = "out of memory; try a smaller batch_size, or train --auto-iter-size"
    assert words in capsys.readouterr().err
    little_memory(monkeypatch, 0.4)(path)
    assert main([*command, "--auto-iter-size"]) == 0
    assert "--auto-iter-size: batch_size is 2 and iter_size 6 now" in capsys.readouterr().err
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("batch_size: 6", "batch_size: 2"))
    assert main(command) == 0


def test_memory_that_python_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path)

    def limited(self: Solver) -> None:
        batch = self.images_per_iteration
        if batch is not None and batch > 2 * 2:
            raise MemoryError
        self.step(3)

    monkeypatch.setattr(Solver, "_solve", limited)
    assert main(["train", "--solver", str(path)]) == 1
    assert "out of memory; try a smaller batch_size" in capsys.readouterr().err
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("batch_size: 3", "batch_size: 2"))
    assert main(["train", "--solver", str(path)]) == 0
