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


def fading(x: torch.Tensor, at: tuple[float, float]) -> torch.Tensor:
    """The value of planes between rows and columns, where everything beyond the last is 0."""
    value = torch.zeros(x.shape[:2], dtype=x.dtype)
    for i, j in np.ndindex(*x.shape[2:]):
        share = max(0, 1 - abs(at[0] - i)) * max(0, 1 - abs(at[1] - j))
        value += share * x[:, :, i, j]
    return value


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("height: 3 width: 7", (3, 7)),
        ("height: 9 width: 2", (9, 2)),
        ("is_pyramid_test: true out_height_scale: 1.5 out_width_scale: 0.5", (7, 3)),
    ],
)
def test_resize_of_normface(text: str, size: tuple[int, int]) -> None:
    x = distinct((2, 3, 5, 6))
    (y,) = run("Resize (NormFace)", f"resize_param {{ {text} }}", x)
    assert tuple(y.shape) == (2, 3, *size)
    for i, j in np.ndindex(*size):
        wanted = fading(x, (i * 5 / size[0], j * 6 / size[1]))
        torch.testing.assert_close(y[:, :, i, j], wanted, rtol=1e-5, atol=1e-5)


SQUARE = "Resize (Wei Zhen)"
RESIZES = [
    ("FACTOR_GIVEN resize_factor: 1.5", 6, 9),
    ("FACTOR_GIVEN resize_factor: 0.4", 6, 2),
    ("SIZE_GIVEN output_size: 8", 6, 8),
    ("BLOB_ALIGN", 6, 4),
]


@pytest.mark.parametrize(("text", "side", "count"), RESIZES)
@pytest.mark.parametrize("kind", ["NEAREST", "BILINEAR"])
def test_resize_of_squares(kind: str, text: str, side: int, count: int) -> None:
    x = distinct((2, 3, side, side)).requires_grad_(True)
    like = [torch.zeros(1, 1, 4, 5)] if "ALIGN" in text else []
    whole = f"resize_param {{ function_type: {text} intepolation_type: {kind} }}"
    (y,) = run(SQUARE, whole, x, *like)
    assert tuple(y.shape) == (2, 3, count, count)
    factor = {"1.5": 1.5, "0.4": float(np.float32(0.4))}.get(text[-3:], count / side)
    fixed = x.detach()
    for i, j in np.ndindex(count, count):
        if kind == "NEAREST":
            wanted = fixed[:, :, int(i / factor), int(j / factor)]
        else:
            wanted = fading(fixed, (i / factor, j / factor))
        torch.testing.assert_close(y[:, :, i, j].detach(), wanted, rtol=1e-5, atol=1e-5)
    above = distinct((2, 3, count, count), 2)
    y.backward(above)
    assert x.grad is not None
    for i, j in np.ndindex(side, side):
        if kind == "NEAREST":
            rows = [min(int(k * factor), count - 1) for k in (i, j)]
            found = above[:, :, rows[0], rows[1]]
        else:
            found = torch.zeros(2, 3, dtype=above.dtype)
            for r, c in np.ndindex(count, count):
                share = max(0, 1 - abs(r / factor - i)) * max(0, 1 - abs(c / factor - j))
                found += share * above[:, :, r, c] / factor**2
        torch.testing.assert_close(x.grad[:, :, i, j], found, rtol=1e-5, atol=1e-5)


def test_resizes_refused() -> None:
    with pytest.raises(LayerError, match="must be square maps"):
        run(SQUARE, "resize_param { output_size: 2 }", distinct((1, 2, 3, 4)))
    with pytest.raises(LayerError, match="SIZE_GIVEN needs a positive one"):
        run(SQUARE, "resize_param { function_type: SIZE_GIVEN }", distinct((1, 2, 3, 3)))
    with pytest.raises(LayerError, match="BLOB_ALIGN it needs a second bottom"):
        run(SQUARE, "resize_param { function_type: BLOB_ALIGN }", distinct((1, 2, 3, 3)))
    with pytest.raises(LayerError, match="give height and width"):
        run("Resize (NormFace)", "resize_param { height: 3 }", distinct((1, 2, 3, 3)))
