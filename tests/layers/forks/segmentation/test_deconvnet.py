"""DeconvNet's unpooling and the layer that is a block of DenseNet, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from caffecompat import Net
from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def test_unpooling_puts_values_at_the_mask() -> None:
    x = distinct((1, 2, 2, 3))
    mask = torch.tensor([0, 3, 9, 16, 21, 23], dtype=torch.float64).reshape(1, 1, 2, 3)
    mask = mask.expand(1, 2, 2, 3)
    text = "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 4 unpool_w: 6 }"
    (y,) = run("UNPOOLING", text, x, mask)
    expected = torch.zeros(1, 2, 24, dtype=x.dtype)
    for c, k in np.ndindex(2, 6):
        expected[0, c, int(mask.flatten()[k])] = x.flatten(2)[0, c, k]
    assert torch.equal(y, expected.reshape(1, 2, 4, 6))
    (z,) = run("UNPOOLING", text, x)
    assert torch.equal(z[:, :, ::2, ::2], x)
    assert int((z != 0).sum()) == 12


@pytest.mark.parametrize("method", ["AVE", "TILE"])
def test_unpooling_adds_windows(method: str) -> None:
    x = distinct((2, 1, 2, 3)).requires_grad_()
    text = f"""unpooling_param {{ unpool: {method} kernel_h: 3 kernel_w: 2 stride: 2
               unpool_h: 4 unpool_w: 7 }}"""
    (y,) = run("UNPOOLING", text, x)
    weights = distinct(y.shape, 1)
    expected = torch.zeros(2, 1, 4, 7, dtype=x.dtype)
    gradient = torch.zeros_like(x)
    for n, i, j in np.ndindex(2, 2, 3):
        window = np.s_[n, 0, 2 * i : min(2 * i + 3, 4), 2 * j : min(2 * j + 2, 7)]
        size = expected[window].numel()
        expected[window] += x.detach()[n, 0, i, j] / (size if method == "AVE" else 1)
        gradient[n, 0, i, j] = weights[window].sum() / size
    torch.testing.assert_close(y.detach(), expected)
    torch.testing.assert_close(torch.autograd.grad((y * weights).sum(), x)[0], gradient)


def test_unpooling_settings() -> None:
    for text, message in (
        ("kernel_size: 2", "give unpool_size"),
        ("unpool_size: 4", "give kernel_size"),
        ("kernel_size: 2 unpool_size: 4 pad: 1", "pad must be 0"),
        ("kernel_size: 2 unpool_size: 4 unpool_h: 4", "give unpool_size"),
    ):
        with pytest.raises(LayerError, match=message):
            made("UNPOOLING", f"unpooling_param {{ {text} }}", (1, 1, 2, 2))


def test_unpooling_in_an_old_definition(tmp_path: Path) -> None:
    path = tmp_path / "old.prototxt"
    path.write_text("""input: "data" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
    layers { name: "pool" type: POOLING bottom: "data" top: "pool" top: "mask"
             pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
    layers { name: "back" type: UNPOOLING bottom: "pool" bottom: "mask" top: "back"
             unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 4 } }""")
    x = distinct((1, 1, 4, 4)).float()
    y = Net(path).forward(data=x.numpy())["back"]
    largest, places = F.max_pool2d(x, 2, return_indices=True)
    assert np.array_equal(y, F.max_unpool2d(largest, places, [2, 2]).numpy())


def batch_normalised(x: Tensor, *values: Tensor) -> Tensor:
    """ReLU of the values with scale, shift, mean and variance of each channel."""
    scale, shift, mean, variance = (v.reshape(1, -1, 1, 1) for v in values)
    return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_dense_block(bottleneck: bool, phase: str) -> None:
    x = distinct((2, 3, 4, 5))
    text = f"""denseblock_param {{ numTransition: 2 initChannel: 3 growthRate: 2
               use_BC: {str(bottleneck).lower()} moving_average_fraction: 0.25 }}"""
    layer = made("DenseBlock", text, x.shape, phase=phase)
    inner = [8, 8] if bottleneck else [3, 5]
    shapes = [(2, c, 3, 3) for c in inner] + [(1, c, 1, 1) for c in [3, 5] * 4]
    if bottleneck:
        shapes += [(8, c, 1, 1) for c in (3, 5)] + [(1, 8, 1, 1)] * 8
    assert [spec.shape for spec in layer.specs] == [*shapes, (1,)]
    blobs = [distinct(s, i) / 2 for i, s in enumerate(shapes)] + [torch.zeros(1)]
    for kind in (8, 9, 18, 19):
        if kind < len(shapes):
            blobs[kind] = blobs[kind].abs() + 0.5
    before = [b.clone() for b in blobs]
    (y,) = call(layer, [x], blobs)

    def normalised(v: Tensor, first: int, step: int) -> Tensor:
        scale, shift, mean, variance = (before[first + 2 * k + step] for k in range(1, 5))
        if phase == "TRAIN":
            running = [blobs[first + 2 * k + step].flatten() for k in (3, 4)]
            mean, variance = v.mean((0, 2, 3)), v.var((0, 2, 3), unbiased=False)
            kept = before[first + 6 + step].flatten()
            torch.testing.assert_close(running[0], 0.75 * kept + 0.25 * mean)
            kept = before[first + 8 + step].flatten()
            torch.testing.assert_close(running[1], 0.75 * kept + 0.25 * v.var((0, 2, 3)))
        return batch_normalised(v, scale, shift, mean, variance)

    expected = x
    for step in range(2):
        v = normalised(expected, 0, step)
        if bottleneck:
            v = normalised(F.conv2d(v, before[10 + step]), 10, step)
        expected = torch.cat([expected, F.conv2d(v, before[step], padding=1)], 1)
    torch.testing.assert_close(y, expected)
    assert tuple(y.shape) == (2, 7, 4, 5)


def test_dense_block_drops_new_channels_in_training() -> None:
    x = torch.rand(2, 2, 6, 6, dtype=torch.float64)
    text = """denseblock_param { numTransition: 1 initChannel: 2 growthRate: 3 use_dropout: true
              dropout_amount: 0.5 Filter_Filler { type: "constant" value: 1 }
              BN_Bias_Filler { type: "constant" value: 1 } }"""
    shapes = [spec.shape for spec in made("DenseBlock", text, x.shape).specs]
    blobs = [torch.ones(s, dtype=torch.float64) for s in shapes]
    (whole,) = run("DenseBlock", text, x, parameters=blobs, phase="TEST")
    (y,) = run("DenseBlock", text, x, parameters=[b.clone() for b in blobs])
    assert torch.equal(y[:, :2], x)
    kept = y[:, 2:] != 0
    assert 0.3 < float(kept.double().mean()) < 0.7
    assert (whole[:, 2:] != 0).all()
