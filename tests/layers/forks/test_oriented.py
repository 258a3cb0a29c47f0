"""Oriented response networks against kernels that are turned element by element."""

from __future__ import annotations

import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.net.nets import net

# Where the elements of a 3x3 kernel stand after an eighth of a turn clockwise.
EIGHTH = {0: 1, 1: 2, 2: 5, 5: 8, 8: 7, 7: 6, 6: 3, 3: 0, 4: 4}


def turned(place: int, eighths: int) -> int:
    for _ in range(eighths):
        place = EIGHTH[place]
    return place


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("size", [1, 3])
def test_kernels_are_turned(count: int, size: int) -> None:
    outputs, inputs = 2, 3
    x = distinct((2, inputs * count, 5, 4))
    weight = distinct((outputs * count, inputs * count, size, size), 1).requires_grad_(True)
    text = (
        f"convolution_param {{ num_output: {outputs * count} kernel_size: {size} stride: 2 pad: 1 "
        f"bias_term: false }} orn_param {{ orientations: {count} }}"
    )
    (y,) = run("Convolution (ORN)", text, x, parameters=(weight,))
    blob = weight.detach().reshape(outputs, count, inputs, count, size * size)
    full = torch.empty_like(blob)
    for turn in range(count):
        for orientation in range(count):
            for place in range(size * size):
                there = turned(place, turn * 8 // count) if size == 3 else place
                full[:, turn, :, (orientation + turn) % count, there] = blob[
                    :, 0, :, orientation, place
                ]
    wanted = torch.nn.functional.conv2d(x, full.reshape(weight.shape), stride=2, padding=1)
    torch.testing.assert_close(y, wanted)
    y.square().sum().backward()
    assert weight.grad is not None
    gradient = weight.grad.reshape(outputs, count, inputs, count, -1)
    assert gradient[:, 0].abs().min() > 0
    assert (gradient[:, 1:] == 0).all()


def test_one_orientation_is_an_ordinary_convolution() -> None:
    x, weight = distinct((2, 3, 5, 4)), distinct((2, 3, 2, 3), 1)
    text = (
        "convolution_param { num_output: 2 kernel_h: 2 kernel_w: 3 bias_term: false } "
        "orn_param { orientations: 1 }"
    )
    (y,) = run("Convolution (ORN)", text, x, parameters=(weight,))
    torch.testing.assert_close(y, torch.nn.functional.conv2d(x, weight))


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("num_output: 6 kernel_size: 3", 3, "orientations is 3, supported are 1, 4 and 8"),
        ("num_output: 8 kernel_size: 5", 8, "rotated kernels are 1x1 or 3x3"),
        ("num_output: 8 kernel_size: 3 group: 2", 8, "and group 2"),
        ("num_output: 6 kernel_size: 3", 4, "num_output 6 is not a multiple of orientations 4"),
    ],
)
def test_refused(text: str, count: int, words: str) -> None:
    whole = f"convolution_param {{ {text} }} orn_param {{ orientations: {count} }}"
    with pytest.raises(LayerError, match=words):
        made("Convolution (ORN)", whole, (2, 24, 6, 5))


NET = """
input: "x" input_shape { dim: 1 dim: 4 dim: 5 dim: 5 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" orn_param { orientations: 4 }
        convolution_param { num_output: 4 kernel_size: 3 } }
"""


def test_orn_param_means_this_convolution() -> None:
    layer = net(NET).layers[-1].layer
    assert layer is not None
    assert layer.fork == "ORN"
