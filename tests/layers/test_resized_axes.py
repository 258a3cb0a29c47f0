"""Axes counted from the last one, after an input was resized to another number of axes.

Caffe finds such an axis anew for each shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made
from tests.layers.single import call

Expected = Callable[[Tensor], Tensor]

BUILT = (2, 3, 4)
RESIZED = [(5, 4), (3, 2, 3, 4), (1, 2, 2, 3, 4)]
WEIGHT = distinct((2, 4), seed=1)
BIAS = distinct((2,), seed=2)
FACTORS = distinct((4,), seed=3)

# Type, settings, parameters, and the first top for any number of axes.
ONE_BOTTOM: list[tuple[str, str, Sequence[Tensor], Expected]] = [
    ("Softmax", "softmax_param { axis: -1 }", (), lambda x: x.exp() / x.exp().sum(-1, True)),
    ("Flatten", "flatten_param { axis: -2 }", (), lambda x: x.reshape(*x.shape[:-2], -1)),
    ("Flatten", "", (), lambda x: x.reshape(x.shape[0], prod(x.shape[1:]))),
    ("Tile", "tile_param { axis: -1 tiles: 2 }", (), lambda x: torch.cat([x, x], -1)),
    ("Reduction", "reduction_param { axis: -2 }", (), lambda x: x.sum((-2, -1))),
    ("Slice", "slice_param { axis: -1 slice_point: 3 }", (), lambda x: x[..., :3]),
    (
        "InnerProduct",
        "inner_product_param { num_output: 2 axis: -1 }",
        (WEIGHT, BIAS),
        lambda x: x @ WEIGHT.T + BIAS,
    ),
    ("Scale", "scale_param { axis: -1 }", (FACTORS,), lambda x: x * FACTORS),
    ("Bias", "bias_param { axis: -1 }", (FACTORS,), lambda x: x + FACTORS),
]


@pytest.mark.parametrize("shape", RESIZED, ids=str)
@pytest.mark.parametrize(
    ("type_name", "settings", "parameters", "expected"),
    ONE_BOTTOM,
    ids=lambda value: str(value)[:9],
)
def test_negative_axis_counts_from_the_last_axis_of_the_resized_bottom(
    type_name: str,
    settings: str,
    parameters: Sequence[Tensor],
    expected: Expected,
    shape: tuple[int, ...],
) -> None:
    layer = made(type_name, settings, BUILT, tops=2 if type_name == "Slice" else 1)
    x = distinct(shape)
    top = call(layer, [x], parameters)[0]
    torch.testing.assert_close(top, expected(x))
    stated = layer.top_shapes([shape])
    assert stated is None or stated[0] == tuple(top.shape)


@pytest.mark.parametrize(
    ("type_name", "settings"),
    [
        ("Concat", "concat_param { axis: -1 }"),
        ("Crop", "crop_param { axis: -1 offset: 1 }"),
    ],
)
def test_two_resized_bottoms(type_name: str, settings: str) -> None:
    a, b = distinct((2, 5, 3, 4)), distinct((2, 5, 3, 2), seed=1)
    layer = made(type_name, settings, (2, 3, 4), (2, 3, 2))
    expected = torch.cat([a, b], -1) if type_name == "Concat" else a[..., 1:3]
    assert torch.equal(call(layer, [a, b], [])[0], expected)
    assert layer.top_shapes([tuple(a.shape), tuple(b.shape)]) == [tuple(expected.shape)]


@pytest.mark.parametrize(
    ("type_name", "settings", "classes"),
    [
        ("Accuracy", "accuracy_param { axis: -1 }", 4),
        ("SoftmaxWithLoss", "softmax_param { axis: -1 }", 4),
    ],
)
def test_classes_along_the_last_axis_of_resized_scores(
    type_name: str, settings: str, classes: int
) -> None:
    scores = distinct((3, 2, 5, classes))
    labels = torch.arange(30).reshape(3, 2, 5) % classes
    layer = made(type_name, settings, (2, 3, classes), (2, 3))
    (top,) = call(layer, [scores, labels.to(scores.dtype)], [])
    if type_name == "Accuracy":
        expected = (scores.argmax(-1) == labels).double().mean()
    else:
        chosen = scores.log_softmax(-1).gather(-1, labels.unsqueeze(-1))
        expected = -chosen.mean()
    torch.testing.assert_close(top, expected)


@pytest.mark.parametrize(
    ("type_name", "settings"), [("Softmax", ""), ("Reduction", "reduction_param { axis: 1 }")]
)
def test_a_resized_bottom_without_the_axis(type_name: str, settings: str) -> None:
    layer = made(type_name, settings, BUILT)
    with pytest.raises(LayerError, match="axis is 1, but the bottom has 1 axes 7"):
        call(layer, [distinct((7,))], [])
