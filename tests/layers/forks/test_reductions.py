"""MIL, BatchReduction and Gather."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run


def shares(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_maximum_over_the_map() -> None:
    x = distinct((2, 3, 2, 4)).requires_grad_()
    (y,) = run("MIL", "", x)
    assert y.shape == (2, 3, 1, 1)
    assert torch.equal(y, x.amax((2, 3), keepdim=True))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, (x == y).double())


def test_equal_maxima_get_the_whole_gradient_each() -> None:
    x = torch.tensor([[[[0.5, 0.5, 0.2]]]], requires_grad=True)
    (y,) = run("MIL", "", x)
    (3 * y).sum().backward()
    assert x.grad is not None
    assert x.grad.ravel().tolist() == [3, 3, 0]


def test_noisy_or() -> None:
    x = shares(2, 3, 2, 4).requires_grad_()
    (y,) = run("MIL", "mil_param { type: NOR }", x)
    for n, c in np.ndindex(2, 3):
        values = x[n, c].detach().ravel().tolist()
        none = 1.0
        for p in values:
            none *= 1 - p
        assert abs(float(y[n, c].detach()) - max(1 - none, *values)) < 1e-12
    torch.testing.assert_close(y, 1 - (1 - x).flatten(2).prod(2).view(2, 3, 1, 1))
    assert torch.autograd.gradcheck(lambda t: run("MIL", "mil_param { type: NOR }", t)[0], (x,))


def test_noisy_or_of_certain_places() -> None:
    x = torch.tensor([[[[1.0, 0.3, 0.0]]]], requires_grad=True)
    (y,) = run("MIL", "mil_param { type: NOR }", x)
    assert float(y.detach()) == 1
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.ravel().tolist() == [1, 0, 0]


def reduced(x: Tensor, settings: str, operation: str = "SUM", more: str = "axis: 1") -> Tensor:
    text = f"""batch_reduction_param {{ {settings}
        reduction_param {{ operation: {operation} {more} }} }}"""
    return run("BatchReduction", text, x)[0]


@pytest.mark.parametrize("operation", ["SUM", "MEAN"])
def test_reduction_of_one_axis(operation: str) -> None:
    x = distinct((2, 5, 3))
    wanted = x.sum(1) / (5 if operation == "MEAN" else 1)
    torch.testing.assert_close(reduced(x, "", operation), wanted)
    torch.testing.assert_close(reduced(x, "level: 1", operation), wanted)


@pytest.mark.parametrize("operation", ["SUM", "MEAN"])
def test_levels(operation: str) -> None:
    x = distinct((2, 14, 3))
    found = reduced(x, "level: 1 level: 2 level: 3", operation)
    assert found.shape == (2, 3, 3)
    start = 0
    for group, count in enumerate((1, 4, 9)):
        total = sum(x[:, start + k] for k in range(count))
        wanted = total / count if operation == "MEAN" else total
        torch.testing.assert_close(found[:, group], wanted)
        start += count
    assert reduced(distinct((2, 4, 3)), "level: 2").shape == (2, 1, 3)


def test_equal_places_of_two_axes() -> None:
    x = distinct((2, 3, 3, 4))
    wanted = x[:, 0, 0] + x[:, 1, 1] + x[:, 2, 2]
    torch.testing.assert_close(reduced(x, "pos: true"), wanted)


def test_the_mean_of_the_largest() -> None:
    x = distinct((2, 5, 3)).requires_grad_()
    y = reduced(x, "", "TOPK", "axis: 1 k: 2")
    y.sum().backward()
    assert x.grad is not None
    for n, i in np.ndindex(2, 3):
        values = sorted(x[n, :, i].tolist(), reverse=True)[:2]
        assert abs(float(y[n, i].detach()) - sum(values) / 2) < 1e-12
        wanted = [0.5 if v in values else 0.0 for v in x[n, :, i].tolist()]
        assert x.grad[n, :, i].tolist() == wanted


@pytest.mark.parametrize(
    ("settings", "operation", "more", "sentence"),
    [
        ("", "ASUM", "axis: 1", "operation is ASUM"),
        ("level: 2", "SUM", "axis: 1", "need 4 elements along axis 1"),
        ("level: 1 level: 2 pos: true", "SUM", "axis: 1", "one level only"),
        ("level: 1 level: 2", "TOPK", "axis: 1", "one level only"),
        ("pos: true", "SUM", "axis: 1", "equal axes 1 and 2"),
        ("", "TOPK", "axis: 1 k: 9", "has 5 elements"),
        ("level: 0", "SUM", "axis: 1", "at least 1"),
    ],
)
def test_refusals(settings: str, operation: str, more: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        reduced(distinct((2, 5, 3)), settings, operation, more)


def test_gather_keeps_the_rows() -> None:
    a, b = distinct((2, 3)), distinct((2, 1, 4), 1)
    found = run("Gather", "", a, b, tops=2)
    assert torch.equal(found[0], a)
    assert torch.equal(found[1], b)
    with pytest.raises(LayerError, match="2 bottoms and 1 tops"):
        made("Gather", "", (2, 3), (2, 3))
