"""Fork layers for small nets, against loops over their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run


@pytest.mark.parametrize("name", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_each_channel_has_its_own_kernel(name: str) -> None:
    x = distinct((2, 3, 5, 6))
    weight, bias = distinct((3, 1, 3, 3), 1), distinct((3,), 2)
    text = "convolution_param { num_output: 3 kernel_size: 3 stride: 2 pad: 1 }"
    assert [s.shape for s in made(name, text, x.shape).specs] == [(3, 1, 3, 3), (3,)]
    (y,) = run(name, text, x, parameters=(weight, bias))
    padded = F.pad(x, (1, 1, 1, 1)).numpy()
    for n, c, i, j in np.ndindex(*y.shape):
        window = padded[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        np.testing.assert_allclose(y[n, c, i, j], (window * weight[c, 0].numpy()).sum() + bias[c])


def test_groups_of_depthwise_convolutions() -> None:
    text = "convolution_param { num_output: 4 kernel_size: 1 group: 2 }"
    assert made("DepthwiseConvolution", text, (1, 4, 3, 3)).specs[0].shape == (4, 2, 1, 1)
    assert made("ConvolutionDepthwise", text, (1, 4, 3, 3)).specs[0].shape == (4, 1, 1, 1)
    with pytest.raises(LayerError, match="write num_output: 2"):
        made("ConvolutionDepthwise", text, (1, 2, 3, 3))


def test_shuffled_channels() -> None:
    x = distinct((2, 6, 2, 2))
    (y,) = run("ShuffleChannel", "shuffle_channel_param { group: 3 }", x)
    for i in range(3):
        for j in range(2):
            assert (y[:, j * 3 + i] == x[:, i * 2 + j]).all()
    with pytest.raises(LayerError, match="not a multiple of group 4"):
        run("ShuffleChannel", "shuffle_channel_param { group: 4 }", x)


def test_activations() -> None:
    x = torch.tensor([-4.0, -1, -0.5, 0, 0.5, 2, 3, 6, 7], dtype=torch.float64)
    (y,) = run("ReLU6", "", x)
    torch.testing.assert_close(y, x.clamp(0, 6))
    (y,) = run("ReLU6", "relu6_param { negative_slope: 0.5 }", x)
    torch.testing.assert_close(y, torch.where(x < 0, x / 2, x).clamp(max=6))
    rising = x.clone().requires_grad_()
    (y,) = run("ReLU6", "relu6_param { negative_slope: 0.5 }", rising)
    (slope,) = torch.autograd.grad(y.sum(), rising)
    assert slope.tolist() == [0.5, 0.5, 0.5, 0.5, 1, 1, 1, 0, 0]
    (y,) = run("HardSwish", "", x)
    torch.testing.assert_close(y, x * (x + 3).clamp(0, 6) / 6)
    (y,) = run("Mish", "", x)
    torch.testing.assert_close(y, x * torch.tanh(torch.log(1 + torch.exp(x))))


def test_axpy() -> None:
    a, x, y = distinct((2, 3, 1, 1)), distinct((2, 3, 2, 4), 1), distinct((2, 3, 2, 4), 2)
    for weights in (a, a.flatten(1)):
        (top,) = run("Axpy", "", weights, x, y)
        for n, c, i, j in np.ndindex(*top.shape):
            assert top[n, c, i, j] == a[n, c, 0, 0] * x[n, c, i, j] + y[n, c, i, j]
    with pytest.raises(LayerError, match="its bottoms are 2x3x1x1, 2x3x2x4, 2x3x2x3"):
        run("Axpy", "", a, x, y[..., :3])


@pytest.mark.parametrize(
    ("text", "shape"),
    [("", (2, 3)), ("axis: 1", (2, 3, 1)), ("axis: -1 axis: 1", (2, 3)), ("axis: 3", (2, 1, 3))],
)
def test_squeezed_axes(text: str, shape: tuple[int, ...]) -> None:
    (y,) = run("Squeeze", f"squeeze_param {{ {text} }}", distinct((2, 1, 3, 1)))
    assert y.shape == shape


def test_only_axes_of_extent_1_are_squeezed() -> None:
    with pytest.raises(LayerError, match="axis 2 of the bottom 2x1x3x1 has extent 3"):
        made("Squeeze", "squeeze_param { axis: 2 }", (2, 1, 3, 1))


def test_cross_channel_pooling_is_a_convolution_by_single_pixels() -> None:
    x, weight, bias = distinct((2, 4, 3, 3)), distinct((6, 2, 1, 1), 1), distinct((6,), 2)
    (y,) = run("CCCP", "cccp_param { num_output: 6 group: 2 }", x, parameters=(weight, bias))
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, groups=2))
    with pytest.raises(LayerError, match="have no meaning"):
        made("CCCP", "cccp_param { num_output: 6 kernel_size: 3 }", (2, 4, 3, 3))
