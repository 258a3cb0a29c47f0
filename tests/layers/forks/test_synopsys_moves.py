"""Pad and ResizeNearestNeighbor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, run


def test_pad() -> None:
    x = distinct((2, 3, 4))
    text = "pad_param { paddings: 1 paddings: 0 paddings: 0 paddings: 2 paddings: 3 paddings: 1 "
    (y,) = run("Pad", text + "constant_values: 0.5 }", x)
    wanted = np.full((3, 5, 8), 0.5)
    for i, j, k in np.ndindex(2, 3, 4):
        wanted[i + 1, j, k + 3] = x[i, j, k]
    assert np.array_equal(y, wanted)
    (y,) = run("Pad", text + "}", x)
    assert float(y[0, 0, 0]) == 0
    assert torch.autograd.gradcheck(lambda t: run("Pad", text + "}", t)[0], (x.requires_grad_(),))


@pytest.mark.parametrize(
    ("paddings", "sentence"),
    [
        ((1, 1), "has 2 values"),
        ((1,) * 5, "has 5 values"),
        ((4294967295, 0, 4294967295, 0), "more than any memory"),
    ],
)
def test_wrong_paddings(paddings: tuple[int, ...], sentence: str) -> None:
    text = " ".join(f"paddings: {p}" for p in paddings)
    with pytest.raises(LayerError, match=sentence):
        run("Pad", f"pad_param {{ {text} }}", distinct((2, 3)))


def row(i: int, extent: int, count: int, mode: str) -> int:
    """The source row, in single precision."""
    one = np.float32
    step = one(extent / count)
    if mode == "align_corners" and count > 1:
        step = one((extent - 1) / (count - 1))
    if mode == "half_pixel_onnx":
        found = math.floor((one(i) + one(0.5)) * step - one(0.5))
    elif mode == "half_pixel_centers":
        found = math.floor((one(i) + one(0.5)) * step)
    elif mode == "align_corners":
        found = math.floor(float(one(i) * step) + 0.5)
    else:
        found = math.floor(one(i) * step)
    return max(min(found, extent - 1), 0)


@pytest.mark.parametrize("mode", ["", "align_corners", "half_pixel_centers", "half_pixel_onnx"])
@pytest.mark.parametrize("size", [(7, 5), (2, 3), (1, 1), (4, 6)])
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
def test_nearest(mode: str, size: tuple[int, int], order: str) -> None:
    shape = (2, 4, 6, 3) if order == "NHWC" else (2, 3, 4, 6)
    x = distinct(shape)
    text = f"""resize_nearest_neighbor_param {{ output_height: {size[0]} output_width: {size[1]}
        data_format: '{order}' {mode + ": true" if mode else ""} }}"""
    (y,) = run("ResizeNearestNeighbor", text, x)
    for i, j in np.ndindex(*size):
        a, b = row(i, 4, size[0], mode), row(j, 6, size[1], mode)
        if order == "NHWC":
            assert torch.equal(y[:, i, j], x[:, a, b])
        else:
            assert torch.equal(y[:, :, i, j], x[:, :, a, b])


def test_scales_and_gradient() -> None:
    text = """resize_nearest_neighbor_param { scale_height: 2 scale_width: 1.5
        data_format: 'NCHW' }"""
    x = distinct((1, 2, 3, 3)).requires_grad_()
    (y,) = run("ResizeNearestNeighbor", text, x)
    assert y.shape == (1, 2, 6, 4)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0, 0].tolist() == [4, 2, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("align_corners: true half_pixel_onnx: true", "only one of"),
        ("data_format: 'x'", 'data_format is "x"'),
        ("output_height: 0 output_width: 3", "would be 0"),
    ],
)
def test_refusals(text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        run(
            "ResizeNearestNeighbor",
            f"resize_nearest_neighbor_param {{ {text} }}",
            distinct((1, 2, 3, 3)),
        )
