"""What passes change in a net, kept and restored."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caffecompat import Net
from caffecompat.net.execution.kept_state import KeptState, unchanged_by
from caffecompat.solver.diagnostics.nonfinite import explain
from tests.net.nets import net

NET = """
layer { name: "x" type: "Input" top: "x" top: "cont" top: "label" input_param {
  shape { dim: 3 dim: 2 dim: 5 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 1 dim: 4 dim: 1 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "lstm" recurrent_param {
  num_output: 4 weight_filler { type: "uniform" min: -0.5 max: 0.5 } } }
layer { name: "norm" type: "BatchNorm" bottom: "lstm" top: "norm" }
layer { name: "scores" type: "Reshape" bottom: "norm" top: "scores" reshape_param {
  shape { dim: 0 dim: 2 dim: 4 dim: 1 } } }
layer { name: "accuracy" type: "SegAccuracy" bottom: "scores" bottom: "label" top: "accuracy"
  seg_accuracy_param { reset: false } }
layer { name: "loss" type: "Reduction" bottom: "norm" top: "loss" loss_weight: 1 }
"""


def passed(model: Net, seed: int) -> dict[str, Any]:
    """One pass over random values; all outputs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 5, generator=generator)
    label = torch.randint(0, 2, (3, 1, 4, 1), generator=generator).float()
    outputs = model.forward(x=x, cont=torch.ones(3, 2), label=label, blobs=("norm",))
    return {name: value.detach().clone() for name, value in outputs.items()}


def values(model: Net) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in model.params["norm"]]


def check_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_passes_are_taken_back() -> None:
    model = net(NET, phase="train")
    passed(model, 1)
    kept = KeptState(model)
    kept.keep()
    second = passed(model, 2)
    assert not torch.equal(passed(model, 2)["accuracy"], second["accuracy"])
    for _ in range(2):
        kept.restore()
        check_same(passed(model, 2), second)
    kept.keep()
    third = passed(model, 3)
    kept.restore()
    check_same(passed(model, 3), third)


def failing(model: Net, error: Exception) -> None:
    with unchanged_by(model, LookupError):
        passed(model, 1)
        raise error


def test_one_kind_of_error_takes_them_back() -> None:
    model = net(NET, phase="train")
    first = values(model)
    with pytest.raises(KeyError):
        failing(model, KeyError())
    assert all(map(torch.equal, values(model), first))
    with pytest.raises(ZeroDivisionError):
        failing(model, ZeroDivisionError())
    assert not any(map(torch.equal, values(model), first))


def test_the_search_for_a_nan_is_taken_back() -> None:
    model, other = net(NET, phase="train"), net(NET, phase="train")
    for one in (model, other):
        passed(one, 1)
    explain(model, 1)
    check_same(passed(model, 2), passed(other, 2))
