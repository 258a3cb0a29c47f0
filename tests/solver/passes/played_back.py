"""Captured passes on the CPU, and what a training with them learned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from caffecompat.net import Result
from caffecompat.net.execution.gpu.cuda_graph import CapturedPass
from caffecompat.net.kernels.choice import Kernels
from caffecompat.solver import Solver, played_passes
from caffecompat.solver.setup.capturing import obstacle_to_capture
from caffecompat.solver.setup.compute import ComputeOptions
from tests.solver.small import SOLVER

GPU = torch.device("cuda", 0)
ONE_PASS = SOLVER.replace("iter_size: 2", "iter_size: 1")


class PlayedOnCPU(CapturedPass):
    """Plays a pass back by launching it again over the same tensors, as a CUDA graph does."""

    def _captured(self, learned: Any) -> Any:
        for _ in range(3):
            self._result = self._pass()
        return SimpleNamespace(replay=lambda: self._replay(learned))

    def _replay(self, learned: Any) -> None:
        for parameter in () if self._adds_up else learned:
            parameter.grad = None
        found = self._pass()
        self._result = Result(found.outputs, found.loss)


def by_torch(*arguments: Any) -> None:
    from caffecompat.net.kernels.update import sgd_update_by_torch

    sgd_update_by_torch(*arguments)


def trained(path: Path, steps: int, **options: Any) -> tuple[list[float], Solver]:
    solver = Solver(path, **options)
    scaler = solver._train_step._grad_scaler
    if scaler is not None:
        scaler.value.fill_(256)
    losses = []
    for _ in range(steps):
        solver.step(1)
        losses.append(solver.loss)
    return losses, solver


def learned(solver: Solver) -> list[torch.Tensor]:
    """The parameters that train; statistics change in each forward pass."""
    return [entry.tensor.detach().clone() for entry in solver.net.learnable if entry.lr_mult]


def statistics(solver: Solver) -> list[torch.Tensor]:
    """Those of BatchNorm; they are no parameters that learn."""
    return [value.detach().clone() for value in solver.net.params["norm"]]


def check_same(ours: Solver, theirs: Solver) -> None:
    for a, b in zip(ours.net.learnable, theirs.net.learnable, strict=True):
        assert torch.equal(a.tensor, b.tensor), a.layer
    for array, other in zip(ours.history, theirs.history, strict=True):
        assert torch.equal(array, other)
    for array, other in zip(ours.net.buffers(), theirs.net.buffers(), strict=True):
        assert torch.equal(array, other)


def play_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes trainings on the CPU go the way of those on a GPU."""
    on_gpu = lambda layers, device, *rest: obstacle_to_capture(layers, GPU, *rest)  # noqa: E731
    monkeypatch.setattr(played_passes, "obstacle_to_capture", on_gpu)
    monkeypatch.setattr(played_passes, "CapturedPass", PlayedOnCPU)
    kernels = Kernels(update=True)
    monkeypatch.setattr(ComputeOptions, "kernels_on", lambda self, device: kernels)
    # No kernel runs on a CPU; its definition in torch operators does.
    monkeypatch.setattr("caffecompat.net.kernels.update._launch", by_torch)
