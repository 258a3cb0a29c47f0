"""The trial of the kernels before they are used."""

from __future__ import annotations

import pytest
import torch

from caffecompat.net.kernels import choice, rectified, self_check, update
from caffecompat.net.kernels.choice import TORCH_OPERATORS, Kernels
from tests.net.kernels.devices import DEVICES


def test_names() -> None:
    assert Kernels.every().chosen() == Kernels.names() == list(self_check._TRIALS)
    assert Kernels.every().without("update").chosen() == Kernels.names()[:-1]
    assert TORCH_OPERATORS.chosen() == []


@DEVICES
def test_all_work(device: str) -> None:
    found = self_check.tried_kernels(torch.device(device))
    assert found.problems == ()
    assert found.kernels == Kernels.every()


@DEVICES
def test_a_broken_kernel_is_not_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> None:
        pass

    def broken(*arguments: object) -> None:
        raise RuntimeError("ptxas fatal\nmore")

    monkeypatch.setattr(update, "_launch", wrong)
    monkeypatch.setattr(rectified, "_blocks", broken)
    found = self_check.tried_kernels(torch.device(device))
    assert found.kernels.chosen() == ["dropout", "pooling", "normalisation"]
    assert found.problems == (
        "rectified: RuntimeError: ptxas fatal",
        "update: its results are not those of torch's operators",
    )


def test_no_kernels_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert self_check.working_kernels(torch.device("cpu")).kernels == TORCH_OPERATORS
    monkeypatch.setattr(self_check, "has_triton", lambda: False)
    found = self_check.working_kernels(torch.device("cuda", 77))
    assert found == self_check.WorkingKernels(TORCH_OPERATORS, (choice.NOT_INSTALLED,))
