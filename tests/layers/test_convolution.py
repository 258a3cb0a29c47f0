"""Convolution: geometry, many axes, groups, and what it refuses."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run

Floats = NDArray[np.float64]


def by_loops(x: Floats, weight: Floats, stride: int, pad: int, dilation: int, group: int) -> Floats:
    """(N, C, ...) with (O, C / group, ...), the sum over every tap written out."""
    axes = x.ndim - 2
    kernel = weight.shape[2:]
    out = [
        int((size + 2 * pad - dilation * (k - 1) - 1) / stride) + 1
        for size, k in zip(x.shape[2:], kernel, strict=True)
    ]
    # Zeros on all sides, and enough of them behind for a kernel that stands out.
    x = np.pad(x, [(0, 0), (0, 0)] + [(pad, pad + 20)] * axes)
    inputs, outputs = x.shape[1] // group, weight.shape[0] // group
    y = np.zeros((x.shape[0], weight.shape[0], *out))
    for i in range(group):
        own = slice(i * outputs, (i + 1) * outputs)
        taken_from = np.moveaxis(x[:, i * inputs : (i + 1) * inputs], (0, 1), (-2, -1))
        factors = np.moveaxis(weight[own], (1, 0), (-2, -1))
        sums = np.moveaxis(y[:, own], (0, 1), (-2, -1))
        for position in product(*map(range, out)):
            for tap in product(*map(range, kernel)):
                at = tuple(p * stride + t * dilation for p, t in zip(position, tap, strict=True))
                sums[position] += taken_from[at] @ factors[tap]
    return y


@pytest.mark.parametrize("axes", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(("stride", "pad", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
def test_any_number_of_axes(axes: int, group: int, stride: int, pad: int, dilation: int) -> None:
    spatial, kernel = (4, 3, 5, 3)[:axes], (2, 3, 2, 1)[:axes]
    x = distinct((3, 4, *spatial))
    weight = distinct((6, 4 // group, *kernel), seed=1)
    listed = " ".join(f"kernel_size: {k}" for k in kernel)
    text = f"num_output: 6 group: {group} stride: {stride} pad: {pad} dilation: {dilation}"
    (y,) = run(
        "Convolution",
        f"convolution_param {{ {text} {listed} bias_term: false }}",
        x,
        parameters=[weight],
    )
    expected = by_loops(x.numpy(), weight.numpy(), stride, pad, dilation, group)
    assert np.allclose(y.numpy(), expected, rtol=0, atol=1e-10)


def test_kernel_larger_than_the_input_by_less_than_a_stride() -> None:
    # Caffe's division truncates toward zero: (4 + 0 - 5) / 2 = 0, one position.
    x, weight = distinct((2, 3, 4, 6)), distinct((2, 3, 5, 5), seed=1)
    text = "convolution_param { num_output: 2 kernel_size: 5 stride: 2 bias_term: false }"
    (y,) = run("Convolution", text, x, parameters=[weight])
    assert y.shape == (2, 2, 1, 1)
    assert np.allclose(y.numpy(), by_loops(x.numpy(), weight.numpy(), 2, 0, 1, 1))


def test_axes_before_the_channels_are_batch() -> None:
    x = distinct((2, 3, 4, 5, 6))
    weight, bias = distinct((7, 4, 3, 2), seed=1), distinct((7,), seed=2)
    text = "convolution_param { num_output: 7 kernel_h: 3 kernel_w: 2 axis: -3 }"
    (y,) = run("Convolution", text, x, parameters=[weight, bias])
    plain = torch.nn.functional.conv2d(x.flatten(0, 1), weight, bias)
    assert torch.allclose(y, plain.view(2, 3, 7, 3, 5))


def test_several_bottoms_add_to_one_gradient() -> None:
    weight = distinct((2, 3, 1, 1)).requires_grad_()
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    xs = [distinct((1, 3, 4, 5), seed=i) for i in (1, 2)]
    text = "convolution_param { num_output: 2 kernel_size: 1 }"
    tops = run("Convolution", text, *xs, parameters=[weight, bias], tops=2)
    torch.stack([top.sum() for top in tops]).sum().backward()
    assert bias.grad is not None
    assert bias.grad.tolist() == [40, 40]


def test_multiply_adds() -> None:
    text = "convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2 }"
    layer = made("Convolution", text, (2, 6, 5, 7))
    assert layer.multiply_adds([(2, 6, 5, 7)], [(2, 8, 5, 7)]) == 2 * 8 * 5 * 7 * 3 * 9


@pytest.mark.parametrize(
    ("text", "shape", "tops", "words"),
    [
        ("num_output: 2", (1, 2, 5, 6), 1, "kernel_size is given 0 times for 2"),
        ("kernel_size: 2", (1, 2, 5, 6), 1, "num_output is missing"),
        ("num_output: 2 kernel_size: 0", (1, 2, 5, 6), 1, "kernel is 0x0"),
        ("num_output: 2 kernel_size: 2 stride: 0", (1, 2, 5, 6), 1, "stride is 0x0"),
        ("num_output: 2 kernel_size: [1, 2, 3]", (1, 2, 5, 6), 1, "3 times for 2 spatial axes"),
        ("num_output: 2 kernel_size: 2 kernel_h: 2", (1, 2, 5, 6), 1, "exclude each other"),
        ("num_output: 2 kernel_h: 2", (1, 2, 5, 6), 1, "give both kernel_h and kernel_w"),
        ("num_output: 2 kernel_size: 2 stride_h: 2", (1, 2, 5, 6), 1, "stride is 2x0"),
        ("num_output: 2 kernel_h: 2 kernel_w: 2", (1, 2, 5), 1, "for 2 spatial axes"),
        ("num_output: 4 kernel_size: 2 group: 2", (1, 3, 5, 6), 1, "channels 3 is not a multiple"),
        (
            "num_output: 3 kernel_size: 2 group: 2",
            (1, 4, 5, 6),
            1,
            "num_output 3 is not a multiple",
        ),
        ("num_output: 2 kernel_size: 2", (1, 2, 5, 6), 2, "1 bottoms and 2 tops"),
        ("num_output: 2 kernel_size: 2 axis: 4", (1, 2, 5, 6), 1, "axis is 4"),
        ("num_output: 2 kernel_size: 9", (1, 2, 5, 6), 1, "too small"),
        (
            "num_output: 2 kernel_size: 9 pad_l: 1 pad_r: 1",
            (1, 2, 5, 6),
            1,
            "bottom 1x2x5x6 with pad_t 0, pad_b 0, pad_l 1 and pad_r 1;",
        ),
    ],
)
def test_refused(text: str, shape: tuple[int, ...], tops: int, words: str) -> None:
    with pytest.raises(LayerError, match=words) as caught:
        run_blank(f"convolution_param {{ {text} }}", shape, tops)
    assert str(caught.value).startswith("layer 'one' (Convolution): ")


def run_blank(text: str, shape: tuple[int, ...], tops: int) -> Tensor:
    layer = made("Convolution", text, shape, tops=tops)
    blank = {spec.name: torch.zeros(spec.shape) for spec in layer.specs}
    result = layer.forward(torch.zeros(shape), **blank)
    assert isinstance(result, Tensor)
    return result


def test_bottoms_of_two_shapes_are_refused() -> None:
    text = "convolution_param { num_output: 2 kernel_size: 1 bias_term: false }"
    layer = made("Convolution", text, (1, 3, 4, 5), (1, 3, 5, 4), tops=2)
    with pytest.raises(LayerError, match="1x3x4x5 and 1x3x5x4"):
        layer.forward(
            torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 5, 4), weight=torch.zeros(2, 3, 1, 1)
        )


def test_other_channels_after_a_resize_are_refused() -> None:
    text = "convolution_param { num_output: 2 kernel_size: 1 bias_term: false }"
    layer = made("Convolution", text, (1, 3, 4, 5))
    with pytest.raises(LayerError, match="3 channels, but the bottom is 1x4x4x5"):
        layer.forward(torch.zeros(1, 4, 4, 5), weight=torch.zeros(2, 3, 1, 1))
