"""Torch modules that are not layers of Caffe are refused, with a reason for each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad, rrelu
from torch.nn.functional import scaled_dot_product_attention as attention

from caffecompat.errors import ExportError
from caffecompat.export import from_torch
from tests.export.torch_import.converted import Each, Function, assert_same


def test_what_caffe_does_not_have_is_named_at_once() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
            self.up = nn.Upsample(scale_factor=2)
            self.fine = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.up(self.fine(self.pool(x)))
            return torch.nn.functional.selu(x)

    with pytest.raises(ExportError) as caught:
        from_torch(Bad(), torch.zeros(1, 3, 9, 7))
    lines = str(caught.value).splitlines()
    assert lines[0] == "Bad cannot be written as layers of Caffe:"
    assert len(lines) == 4
    for line, parts in zip(
        lines[1:],
        [
            (
                "pool (AvgPool2d): aten.avg_pool2d: count_include_pad is false",
                "test_refused_modules.py:",
            ),
            ("up (Upsample): aten.upsample_nearest2d: Caffe has no layer for it", "test_refused"),
            ("aten.selu: Caffe has no layer for it", "test_refused_modules.py:"),
        ],
        strict=True,
    ):
        assert all(part in line for part in parts)


REFUSED = [
    (nn.ConvTranspose2d(4, 3, 3, 2, output_padding=1), "Caffe has no output_padding"),
    (nn.MaxPool2d(2, dilation=2), "Caffe's Pooling has no dilation"),
    (nn.AdaptiveAvgPool2d(4), "6x7 does not divide into 4x4"),
    (nn.BatchNorm2d(4, track_running_stats=False), "takes its statistics from the batch"),
    (nn.LocalResponseNorm(4), "its size 4 is even"),
    (nn.SELU(), "aten.selu: Caffe has no layer for it"),
    (nn.Conv2d(4, 3, 2, padding="same"), "pads one side more than the other"),
    (Function(lambda x, p: x.transpose(0, 1)[:, 0]), "aten.select: it cuts the axis of the batch"),
    (Function(lambda x, p: x.reshape(-1, 16)), "across the axis of the batch"),
    (Function(lambda x, p: pad(x, (1, 1, 1, 1), "reflect")), "Caffe has no layer"),
    (Function(lambda x, p: pad(x, (-1, 2))), "its border is negative"),
    (Function(lambda x, p: pad(x, (0,) * 7 + (1,))), "a border around the axis of the batch"),
    (Function(lambda x, p: torch.layer_norm(x, (2, 4, 6, 7))), "over the axis of the batch"),
    (Function(lambda x, p: x @ x[:, :1].mT), "their axes but two must be equal here"),
    (Function(lambda x, p: torch.einsum("nchw->nc", x)), "two operands with one letter per axis"),
    (Function(lambda x, p: torch.einsum("nchw,nchw->nc", x, x)), "no product of stacks of matric"),
    (Function(lambda x, p: torch.einsum("nchw,mcvw->nmhv", x, x)), "no product of stacks of matr"),
    (Function(lambda x, p: attention(x, x, x, is_causal=True)), "it has a mask; Caffe has no lay"),
    (Function(lambda x, p: x.roll(1, 0)), "it rolls all values, or the axis of the batch"),
    (Function(lambda x, p: x.expand(3, 2, 4, 6, 7)), "it adds axes; use unsqueeze() first"),
    (Function(lambda x, p: x.norm(dim=2)), "it reduces the axes [2] of 4; Caffe's Reduction takes"),
    (Function(lambda x, p: x.norm(1, dim=3)), "it is no Euclidean norm"),
    (Function(lambda x, p: x.sum()), "aten.sum: it reduces the axis of the batch"),
    (
        Function(lambda x, p: torch.div(x, 0.3, rounding_mode="floor")),
        "its rounding_mode is 'floor'",
    ),
    (Function(lambda x, p: x.clamp(min=p), (4, 1, 1)), "its bounds are tensors"),
    (Function(lambda x, p: 2**x), "its exponent is no number"),
    (Function(lambda x, p: torch.maximum(x, x[:, :1])), "Caffe's Eltwise needs equal shapes"),
    (nn.Softplus(2), "Caffe's BNLL has beta 1"),
    (Function(lambda x, p: nn.functional.max_pool2d(x[:, 0], 2)), "no axis of the batch"),
    (Function(lambda x, p: x / x[:, :1]), "Caffe's Eltwise needs equal shapes"),
    (Function(lambda x, p: x + torch.ones(2, 1, 1, 7)), "Caffe takes the same values for each"),
    (Function(lambda x, p: torch.cat([x, torch.ones(2, 5, 6, 7)], 1)), "puts a parameter beside"),
    (Function(lambda x, p: x[:1]), "aten.slice: it cuts the axis of the batch"),
    (Function(lambda x, p: x[::2]), "aten.slice: it cuts the axis of the batch"),
    (Function(lambda x, p: x[1]), "aten.select: it cuts the axis of the batch"),
    (Function(lambda x, p: x.nonzero()), "aten.nonzero: Caffe has no layer"),
    (Function(lambda x, p: x * torch.rand(2, 4, 6, 7)), "aten.rand: it draws numbers"),
    (Function(lambda x, p: x * torch.bernoulli(p)), "aten.bernoulli: it draws numbers"),
    (Function(lambda x, p: x + torch.empty(6, 1).normal_()), "aten.normal_functional: it draws"),
    (Function(lambda x, p: x + torch.rand_like(x)), "aten.rand_like: it draws numbers"),
    (Function(lambda x, p: x + dropout(p)), "dropout is active"),
    (Function(lambda x, p: x + rrelu(p, training=True)), "aten.rrelu: it draws numbers"),
    (Function(lambda x, p: x + torch.empty(6, 7)), "aten.empty: its values are what its memory"),
    (Function(lambda x, p: x + p.new_empty(6, 7)), "aten.new_empty: its values are what"),
    (Function(lambda x, p: p * 1), "it does not depend on an input"),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_settings_that_caffe_does_not_have_are_named_at_once() -> None:
    with pytest.raises(ExportError) as caught:
        from_torch(Each([module for module, _ in REFUSED]), torch.zeros(2, 4, 6, 7))
    for (module, reason), line in zip(REFUSED, str(caught.value).splitlines()[1:], strict=True):
        assert reason in line, module


class Shifted(nn.Module):
    """Adds numbers that it draws once, in ``__init__``."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.get_buffer("noise")


@pytest.mark.parametrize(
    ("bad", "advice", "good"),
    [
        (
            Function(lambda x, p: x + torch.rand(4, 1, 1)),
            "draw them in __init__ and keep them with self.register_buffer(), or make them an",
            Shifted(),
        ),
        (
            Function(lambda x, p: x + torch.empty(4, 1, 1)),
            "use torch.zeros(), or another function that writes them",
            Function(lambda x, p: x + torch.zeros(4, 1, 1)),
        ),
        (
            Function(lambda x, p: x[:, :1] * p, (4, 1, 1)),
            "which it would enlarge; Caffe's Scale keeps the shape: use expand() first",
            Function(lambda x, p: x[:, :1].expand(2, 4, 6, 7) * p, (4, 1, 1)),
        ),
    ],
    ids=["draws", "empty", "enlarges"],
)
def test_values_of_one_run_alone(
    bad: nn.Module, advice: str, good: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=re.escape(advice)):
        from_torch(bad, torch.zeros(2, 4, 6, 7))
    assert_same(good, (2, 4, 6, 7), tmp_path)


def test_what_cannot_be_traced() -> None:
    with pytest.raises(ExportError, match=r"Function: torch.export cannot trace it"):
        from_torch(Function(lambda x, p: x if x.sum() > 0 else -x), torch.zeros(2, 4, 6, 7))


def test_an_example_without_a_batch(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    with pytest.raises(ExportError, match="no axis of the batch: give an example with one"):
        from_torch(net, torch.zeros(4, 6, 7))
    assert_same(net, (1, 4, 6, 7), tmp_path)
