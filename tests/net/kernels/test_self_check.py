"""The trial of the kernels before they are used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caffecompat.net.kernels import choice, dropout, pooling, rectified, self_check, update
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


@DEVICES
@pytest.mark.parametrize("name", ["dropout", "pooling", "rectified", "update"])
def test_a_kernel_that_loses_nan_is_not_used(
    device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that compares with the wrong sign, or multiplies by 0 and is optimised."""
    module, function = {
        "dropout": (dropout, "_launch"),
        "pooling": (pooling, "_launch_maxima"),
        "rectified": (rectified, "rectified_gradient"),
        "update": (update, "_launch"),
    }[name]
    whole = getattr(module, function)

    def finite(*arguments: Any) -> Any:
        found = whole(*arguments)
        if name == "update":
            arguments[0].nan_to_num_()
            return None
        if isinstance(found, tuple):
            return found[0].nan_to_num(), *found[1:]
        return found.nan_to_num()

    monkeypatch.setattr(module, function, finite)
    found = self_check.tried_kernels(torch.device(device))
    assert found.kernels == Kernels.every().without(name)
    assert found.problems == (f"{name}: its results are not those of torch's operators",)


def test_no_kernels_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert self_check.working_kernels(torch.device("cpu")).kernels == TORCH_OPERATORS
    monkeypatch.setattr(self_check, "has_triton", lambda: False)
    found = self_check.working_kernels(torch.device("cuda", 77))
    assert found == self_check.WorkingKernels(TORCH_OPERATORS, (choice.NOT_INSTALLED,))
