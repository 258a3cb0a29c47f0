"""Which nets, trainings and updates are captured as CUDA graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from caffecompat.net import Net
from caffecompat.net.kernels.choice import Kernels
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.optim.policies import policies
from caffecompat.solver.setup.capturing import obstacle_to_capture, obstacle_to_update
from caffecompat.solver.setup.compute import ComputeOptions

GPU = torch.device("cuda", 0)


def layers_of(definition: str) -> Any:
    return Net(parse_text(definition, "NetParameter")[0], phase="train", allow_python=True).layers


INPUT = """layer { name: "in" type: "Input" top: "x" top: "y" input_param {
  shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }"""
LSTM = """layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "y" top: "z" recurrent_param {
  num_output: 5 weight_filler { type: "xavier" } } }"""
IMAGES = """layer { name: "in" type: "Input" top: "x" input_param {
  shape { dim: 2 dim: 8 dim: 5 dim: 6 } } }"""
ORIENTED = """layer { name: "turned" type: "Convolution" bottom: "x" top: "z"
  convolution_param { num_output: 16 kernel_size: 3 bias_term: false }
  orn_param { orientations: 4 } }"""
FILTER = """layer { name: "s" type: "Slice" bottom: "y" top: "a" top: "b" slice_param { axis: 1 } }
layer { name: "filter" type: "Filter" bottom: "x" bottom: "a" top: "z" }"""


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (INPUT, ""),
        (IMAGES + ORIENTED, "layer 'turned' (Convolution): a pass exchanges numbers with the host"),
        (INPUT + LSTM, "layer 'lstm' (LSTM): it keeps its state from pass to pass"),
        (INPUT + FILTER, "layer 'filter' (Filter): the shapes of its tops depend on values"),
    ],
)
def test_which_nets_are_captured(definition: str, words: str) -> None:
    found = obstacle_to_capture(layers_of(definition), GPU, ComputeOptions(), 1)
    assert words in found
    assert bool(found) == bool(words)
    # Asked for, it is tried, and ends with an error.
    assert obstacle_to_capture(layers_of(definition), GPU, ComputeOptions(cuda_graph=True), 1) == ""


def test_python_layers_are_not_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module_of_this_test.py").write_text(
        "import caffe\n\n\nclass Own(caffe.Layer):\n"
        "    def setup(self, bottom, top):\n        pass\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(1)\n"
        "    def forward(self, bottom, top):\n        pass\n"
        "    def backward(self, top, down, bottom):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    layers = layers_of(
        INPUT + 'layer { name: "own" type: "Python" bottom: "x" top: "z" '
        'python_param { module: "own_module_of_this_test" layer: "Own" } }'
    )
    assert "it runs code" in obstacle_to_capture(layers, GPU, ComputeOptions(), 1)


@pytest.mark.parametrize(
    ("device", "options", "ranks", "words"),
    [
        (torch.device("cpu"), {}, 1, "it needs a GPU"),
        (GPU, {}, 2, "several ranks"),
        (GPU, {"compiled": True}, 1, "the net is compiled"),
        (GPU, {"cuda_graph": False}, 1, "it is switched off"),
    ],
)
def test_which_trainings_are_captured(
    device: torch.device, options: dict[str, Any], ranks: int, words: str
) -> None:
    assert words in obstacle_to_capture(layers_of(INPUT), device, ComputeOptions(**options), ranks)


@pytest.mark.parametrize(
    ("more", "kernel", "words"),
    [
        ('lr_policy: "fixed"', True, ""),
        ('lr_policy: "fixed"', False, "its kernel is not used"),
        ('lr_policy: "fixed" iter_size: 2', True, "iter_size"),
        ('lr_policy: "plateau" gamma: 0.1 plateau_winsize: 5', True, "depends on the loss"),
    ],
)
def test_which_updates_are_captured(
    more: str, kernel: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ComputeOptions, "kernels_on", lambda *rest: Kernels(update=kernel))
    message = parse_text(f"base_lr: 0.1 {more}", "SolverParameter")[0]
    policy = policies.find(message.lr_policy)(message, "solver")
    found = obstacle_to_update(message, policy, ComputeOptions(), GPU)
    assert words in found
    assert bool(found) == bool(words)
