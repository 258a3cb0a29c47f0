"""Trainings whose layers are fused; on the CPU, where the switch is forced."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.net.execution.gpu.fusing import FusingOptions
from caffecompat.net.execution.precision import arithmetic
from caffecompat.net.kernels.choice import TORCH_OPERATORS, Kernels
from caffecompat.net.kernels.self_check import WorkingKernels
from caffecompat.solver import Solver, played_passes
from caffecompat.solver.setup import compute
from caffecompat.solver.setup.compute import ComputeOptions
from tests.solver.log.caffe_log import Lines
from tests.solver.passes.played_back import PlayedOnCPU
from tests.solver.small import NET, SOLVER, write_training

# The small net with a pooling, and without the normalisation between convolution and ReLU.
FUSIBLE = (
    NET.replace('layer {{ name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }}\n', "")
    .replace('bottom: "norm" top: "norm"', 'bottom: "conv" top: "conv"')
    .replace('layer {{ name: "drop"', 'POOL layer {{ name: "drop"')
    .replace('bottom: "conv" top: "conv"\n  dropout', 'bottom: "pool" top: "pool"\n  dropout')
    .replace('bottom: "norm" top: "score"', 'bottom: "pool" top: "score"')
    .replace(
        "POOL",
        'layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" '
        "pooling_param {{ kernel_size: 2 stride: 2 }} }}\n",
    )
)


def write_fusible(folder: Path) -> Path:
    path = write_training(folder, solver=SOLVER)
    (folder / "net.prototxt").write_text(FUSIBLE.format(folder=folder))
    return path


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The train net is fused on the CPU, all of it, by torch's operators."""

    def wants(self: ComputeOptions, net: object) -> bool:
        return self.fused and self.half is not None

    monkeypatch.setattr(ComputeOptions, "_wants_fusing", wants)
    monkeypatch.setattr(compute, "FusingOptions", partial(FusingOptions, everything=True))


def losses_of(path: Path, fused: bool, steps: int = 8) -> tuple[list[float], Solver]:
    solver = Solver(path, precision="bf16", channels_last=True, fused=fused)
    found = []
    for _ in range(steps):
        solver.step(1)
        found.append(solver.loss)
    return found, solver


@pytest.mark.usefixtures("forced")
def test_a_training_with_fused_layers(tmp_path: Path, lines: Lines) -> None:
    path = write_fusible(tmp_path / "run")
    found, solver = losses_of(path, fused=True)
    assert lines.containing("Fused for the GPU") == [
        "Fused for the GPU: 1 convolution + ReLU + pooling, 1 dropout"
    ]
    assert lines.containing("A kernel is replaced by torch's operators: cuDNN's convolution")
    plain, other = losses_of(path, fused=False)
    assert len(lines.containing("Fused for the GPU")) == 1
    np.testing.assert_allclose(found, plain, rtol=0.01)
    for ours, theirs in zip(solver.net.learnable, other.net.learnable, strict=True):
        torch.testing.assert_close(ours.tensor, theirs.tensor, rtol=0.02, atol=0.01)
    scores, wanted = solver.test_all(), other.test_all()
    assert len(scores) == len(wanted) == 1


@pytest.mark.usefixtures("forced")
def test_a_resumed_training_with_fused_layers(tmp_path: Path) -> None:
    path = write_fusible(tmp_path / "run")
    _, whole = losses_of(path, fused=True)
    resumed = Solver(
        path,
        snapshot=tmp_path / "run" / "snap_iter_5.solverstate",
        precision="bf16",
        channels_last=True,
    )
    resumed.step(3)
    for ours, theirs in zip(resumed.net.learnable, whole.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("played", [False, True])
def test_bytes_become_16_bits_at_once(
    played: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With channels that the convolution takes better; here a GPU is pretended."""
    path = write_fusible(tmp_path / "run")
    plain, other = losses_of(path, fused=True)
    assert other.net.blobs["data"].data.dtype == torch.float32
    monkeypatch.setattr(Inputs, "_on_gpu", True)
    if played:
        monkeypatch.setattr(played_passes, "CapturedPass", PlayedOnCPU)
        monkeypatch.setattr(played_passes, "obstacle_to_capture", lambda *_: "")
    found, solver = losses_of(path, fused=True)
    assert solver._train_step.captures == played
    blob = solver.net.blobs["data"].data
    assert (blob.dtype, blob.shape) == (torch.bfloat16, (3, 3, 5, 5))
    assert blob.stride() == (200, 1, 40, 8)
    # Products may be added up in another order.
    np.testing.assert_allclose(found, plain, rtol=0.01)
    for ours, theirs in zip(solver.net.learnable, other.net.learnable, strict=True):
        assert ours.tensor.stride() == theirs.tensor.stride()
        torch.testing.assert_close(ours.tensor, theirs.tensor, rtol=0.02, atol=0.01)
    # A pass in fp32 takes the batch in fp32, also the one that was read ahead in 16 bits.
    with arithmetic(solver.net.device, "bf16"):
        solver.net.read_ahead(0)
    solver.net.forward()
    assert solver.net.blobs["data"].data.dtype == torch.float32


def test_nothing_is_fused_on_a_cpu(tmp_path: Path, lines: Lines) -> None:
    path = write_fusible(tmp_path / "run")
    _, solver = losses_of(path, fused=True, steps=1)
    assert not lines.containing("Fused")
    assert not lines.containing("CUDA graph")
    targets = [str(node.target) for node in solver.net.program().module.graph.nodes]
    assert not any(target.startswith("fused") for target in targets)


def test_crops_have_their_kernel_without_fusing_too(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = WorkingKernels(Kernels(normalisation=True), ("update: wrong",))
    monkeypatch.setattr(compute, "working_kernels", lambda device: working)
    path = write_fusible(tmp_path / "run")
    solver = Solver(path, fused=False)
    assert solver.net._passes.inputs.kernels == working.kernels
    assert solver.test_nets[0]._passes.inputs.kernels == TORCH_OPERATORS
    assert lines.containing("replaced") == [
        "A kernel is replaced by torch's operators: update: wrong"
    ]
    plain = Solver(path, kernels=False)
    assert plain.net._passes.inputs.kernels == TORCH_OPERATORS
    assert len(lines.containing("replaced")) == 1


def test_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_fusible(tmp_path / "run")
    seen: list[ComputeOptions] = []
    prepare = ComputeOptions.prepare

    def spy(self: ComputeOptions, net: object, train: bool) -> list[str]:
        seen.append(self)
        return prepare(self, net, train)  # type: ignore[arg-type]

    monkeypatch.setattr(ComputeOptions, "prepare", spy)
    command = ["train", "--solver", str(path)]
    assert main([*command, "--no-fusing", "--no-kernels", "--no-cuda-graph"]) == 0
    assert seen[0] == ComputeOptions(fused=False, kernels=False, cuda_graph=False)
    seen.clear()
    assert main(command) == 0
    assert seen[0] == ComputeOptions()
