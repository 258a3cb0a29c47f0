"""A CUDA graph was asked for and cannot be had: the training that the message advises runs.

The passes are those of a training on a GPU, with stand-ins for what needs one.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.net.execution.gpu.cuda_graph import CapturedPass, NotCapturable
from caffecompat.solver import Solver, played_passes
from caffecompat.solver.setup.compute import ComputeOptions
from tests.solver.passes.played_back import ONE_PASS
from tests.solver.small import write_training

REMEDY = "; train with --no-cuda-graph (cuda_graph=False)"
RECURRENT = """
layer { name: "data" type: "DummyData" top: "x" top: "cont" top: "t" dummy_data_param {
  shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 dim: 5 }
  data_filler { type: "gaussian" } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param {
  num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }"""


@pytest.fixture
def asked(played: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--cuda-graph`` is accepted, as on a GPU."""
    monkeypatch.setattr(ComputeOptions, "check", lambda *given: None)


@pytest.mark.usefixtures("asked")
def test_a_layer_with_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(RECURRENT)
    path = tmp_path / "solver.prototxt"
    path.write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 '
        f'snapshot_prefix: "{tmp_path}/snap"'
    )
    command = ["train", "--solver", str(path)]
    assert main([*command, "--cuda-graph"]) == 1
    words = f"net.prototxt:5: layer 'lstm' (LSTM): it keeps its state from pass to pass{REMEDY}\n"
    assert words in capsys.readouterr().err
    assert main([*command, "--no-cuda-graph"]) == 0
    assert (tmp_path / "snap_iter_3.caffemodel").exists()


@pytest.mark.usefixtures("asked")
def test_a_batch_of_another_shape(tmp_path: Path) -> None:
    path = write_training(tmp_path, solver=ONE_PASS)
    words = r"CUDA graph: 'data' is \(2, 3, 5, 5\) in this batch and was \(3, 3, 5, 5\)"
    with pytest.raises(NotCapturable, match=words) as caught:
        train_with_a_smaller_batch(path, cuda_graph=True)
    assert str(caught.value).endswith(f"in the first one{REMEDY}")
    assert train_with_a_smaller_batch(path, cuda_graph=False).iter == 3


def train_with_a_smaller_batch(path: Path, **options: Any) -> Solver:
    """Three iterations; the last of them has two images instead of three."""
    solver = Solver(path, **options)
    solver.step(2)
    source = solver.net.layers[0].source
    assert source is not None
    whole = source.read
    source.read = lambda index: [array[:2] for array in whole(index) or ()]  # type: ignore
    solver.step(1)
    return solver


@pytest.mark.usefixtures("asked")
def test_an_operation_that_cannot_be_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nMore.")

    monkeypatch.setattr(played_passes, "CapturedPass", CapturedPass)
    monkeypatch.setattr(CapturedPass, "_warm_up", refuse)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(device=device))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    command = ["train", "--solver", str(write_training(tmp_path, solver=ONE_PASS))]
    assert main([*command, "--cuda-graph"]) == 1
    words = "CUDA graph: this net cannot be captured: operation not permitted when stream is "
    assert f"{words}capturing{REMEDY}\n" in capsys.readouterr().err
    assert main([*command, "--no-cuda-graph"]) == 0
