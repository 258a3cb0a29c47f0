"""Nets that torch's compiler makes code of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from caffecompat.net import Net
from caffecompat.solver import Solver
from tests.solver.small import write_training


@pytest.mark.filterwarnings("ignore")
def test_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The train net is one graph with its backward pass; test_compiled_gradients makes code of it.

    No code is made here, which would take most of a minute.
    """
    path = write_training(tmp_path / "run")
    plain, compiled_nets = Solver(path), []

    def without_code(net: Net) -> None:
        compiled_nets.append(net)
        net.program().compile(backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(Net, "compile", without_code)
    compiled = Solver(path, compiled=True)
    assert compiled_nets == [compiled.net]
    for _ in range(6):
        plain.step(1)
        compiled.step(1)
        assert compiled.loss == pytest.approx(plain.loss, rel=1e-4)
    assert compiled.iter == 6


POOLED = """
layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
  shape {{ dim: {batch} dim: 3 dim: 16 dim: 16 }} shape {{ dim: {batch} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 6 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6"
  inner_product_param {{ num_output: {width} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7"
  inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc7" bottom: "label" top: "loss" }}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_gradients(tmp_path: Path) -> None:
    """With its own order of kernels torch's compiler gives ``conv`` zeros for these sizes."""
    batch, width = 12, 16
    path = tmp_path / "net.prototxt"
    path.write_text(POOLED.format(batch=batch, width=width))
    images = torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for compiled in (False, True):
        net = Net(path, phase="train", seed=1)
        if compiled:
            torch._dynamo.reset()
            net.compile(mode="default")
        net.blobs["data"].data.copy_(images)
        net.blobs["label"].data.copy_(torch.arange(batch) % 5)
        net.run(0).loss.backward()
        gradients.append([entry.tensor.grad for entry in net.learnable])
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
