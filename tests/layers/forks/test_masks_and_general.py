"""Layers for instance masks and of no single subject, against loops over their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run


def test_mask_pooling() -> None:
    x, mask = distinct((2, 3, 2, 4)), distinct((2, 1, 2, 4), 1)
    (y,) = run("MaskPooling", "", x, mask)
    for n, c, i, j in np.ndindex(*y.shape):
        assert y[n, c, i, j] == x[n, c, i, j] * mask[n, 0, i, j]
    with pytest.raises(LayerError, match="masks Nx1xHxW"):
        run("MaskPooling", "", x, x)


@pytest.mark.parametrize("size", [(3, 4), (8, 20), (5, 3)])
def test_mask_resize(size: tuple[int, int]) -> None:
    x = distinct((2, 2, 5, 6))
    text = f"mask_resize_param {{ output_height: {size[0]} output_width: {size[1]} }}"
    (y,) = run("MaskResize", text, x)
    assert tuple(y.shape) == (2, 2, *size)
    for i, j in np.ndindex(*size):
        a, b = i * 5 / size[0], j * 6 / size[1]
        if a > 4.5 or b > 5.5:
            assert (y[:, :, i, j] == 0).all()
            continue
        a, b = min(a, 4), min(b, 5)
        top, left = int(a), int(b)
        expected = torch.zeros(2, 2, dtype=x.dtype)
        for r, wr in ((top, 1 - a + top), (min(top + 1, 4), a - top)):
            for c, wc in ((left, 1 - b + left), (min(left + 1, 5), b - left)):
                expected += wr * wc * x[:, :, r, c]
        torch.testing.assert_close(y[:, :, i, j], expected, rtol=1e-5, atol=1e-5)


def test_sum() -> None:
    a, b, c = (distinct((2, 3), i) for i in range(3))
    (y,) = run("Sum", "", a, b, c)
    torch.testing.assert_close(y, a + b + c)
    with pytest.raises(LayerError, match="must have one shape"):
        run("Sum", "", a, b[:, :2])


def test_locally_connected() -> None:
    x = distinct((2, 3, 4, 5))
    text = "local_param { num_output: 2 kernel_size: 3 stride: 2 pad: 1 }"
    assert [s.shape for s in made("LOCAL", text, x.shape).specs] == [(2, 1, 27, 6), (1, 1, 2, 6)]
    weight, bias = distinct((2, 1, 27, 6), 1), distinct((1, 1, 2, 6), 2)
    (y,) = run("LOCAL", text, x, parameters=(weight, bias))
    assert tuple(y.shape) == (2, 2, 2, 3)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    for n, m, i, j in np.ndindex(*y.shape):
        window = padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].ravel()
        place = 3 * i + j
        expected = (window * weight[m, 0, :, place].numpy()).sum() + bias[0, 0, m, place].item()
        np.testing.assert_allclose(y[n, m, i, j].item(), expected)


@pytest.mark.parametrize("mode", ["", "align_corners", "half_pixel_centers", "pytorch_half_pixel"])
@pytest.mark.parametrize("size", [(1, 8), (7, 3)])
def test_resize_bilinear(mode: str, size: tuple[int, int]) -> None:
    x = distinct((2, 4, 5, 3))
    setting = f"{mode}: true" if mode else ""
    text = f"resize_bilinear_param {{ output_height: {size[0]} output_width: {size[1]} {setting} }}"
    (y,) = run("ResizeBilinear", text, x)
    assert tuple(y.shape) == (2, *size, 3)

    def neighbours(i: int, extent: int, count: int) -> tuple[int, int, float]:
        at = i * extent / count
        if mode == "align_corners" and count > 1:
            at = i * (extent - 1) / (count - 1)
        if "half" in mode:
            at = (i + 0.5) * extent / count - 0.5
        if mode == "pytorch_half_pixel" and count == 1:
            at = -0.5
        at = round(at, 5)
        low, high = int(np.floor(at)), int(np.ceil(at))
        return max(low, 0), max(min(high, extent - 1), 0), at - low

    for i, j in np.ndindex(*size):
        a, b, v = neighbours(i, 4, size[0])
        c, d, h = neighbours(j, 5, size[1])
        upper = (1 - h) * x[:, a, c] + h * x[:, a, d]
        lower = (1 - h) * x[:, b, c] + h * x[:, b, d]
        torch.testing.assert_close(y[:, i, j], (1 - v) * upper + v * lower, rtol=1e-4, atol=1e-4)


def test_resize_bilinear_by_scale() -> None:
    x = distinct((1, 2, 5, 3))
    text = 'data_format: "NCHW" scale_height: 1.5 scale_width: 2'
    (y,) = run("ResizeBilinear", f"resize_bilinear_param {{ {text} }}", x)
    assert tuple(y.shape) == (1, 2, 7, 6)
    with pytest.raises(LayerError, match="quantised"):
        run("ResizeBilinear", "resize_bilinear_param { input_zero_point: 3 }", x)
