"""Deconvolution is the transpose of Convolution."""

from __future__ import annotations

import pytest
import torch

from tests.layers.messages import distinct, made, run


@pytest.mark.parametrize("axes", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    ("stride", "pad", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 1, 1)]
)
def test_transpose(axes: int, group: int, stride: int, pad: int, dilation: int) -> None:
    """The scalar products (conv x, y) and (x, deconv y) agree for one and the same weight."""
    kernel = (3, 2, 3, 2)[:axes]
    reach = [dilation * (k - 1) + 1 for k in kernel]
    counts = (2, 3, 1, 2)[:axes]
    # Extents that the windows cover without a rest, so that both ways have the same shapes.
    sizes = [(n - 1) * stride + r - 2 * pad for n, r in zip(counts, reach, strict=True)]
    if min(sizes, default=1) < 1:
        pytest.skip("nothing is left")
    x, y = distinct((2, 4, *sizes)), distinct((2, 6, *counts), seed=1)
    weight = distinct((6, 4 // group, *kernel), seed=2)
    listed = " ".join(f"kernel_size: {k}" for k in kernel)
    text = f"stride: {stride} pad: {pad} dilation: {dilation} group: {group} bias_term: false"
    forth = f"convolution_param {{ num_output: 6 {listed} {text} }}"
    back = f"convolution_param {{ num_output: 4 {listed} {text} }}"
    (there,) = run("Convolution", forth, x, parameters=[weight])
    (home,) = run("Deconvolution", back, y, parameters=[weight])
    assert there.shape == y.shape
    assert home.shape == x.shape
    assert torch.allclose((there * y).sum(), (x * home).sum())


def test_bias_is_added_everywhere() -> None:
    for axes in (0, 2, 4):
        x = torch.zeros(1, 2, *(2, 3, 1, 2)[:axes])
        kernel = " ".join("kernel_size: 2" for _ in range(axes))
        text = f"convolution_param {{ num_output: 3 {kernel} stride: 3 }}"
        parameters = [torch.zeros(2, 3, *(2,) * axes), torch.tensor([1.0, 2.0, 3.0])]
        (y,) = run("Deconvolution", text, x, parameters=parameters)
        assert y.reshape(3, -1).mean(1).tolist() == [1, 2, 3]


def test_multiply_adds() -> None:
    text = "convolution_param { num_output: 8 kernel_size: 4 stride: 2 group: 2 }"
    layer = made("Deconvolution", text, (2, 6, 5, 7))
    assert layer.multiply_adds([(2, 6, 5, 7)], [(2, 8, 12, 16)]) == 2 * 6 * 5 * 7 * 4 * 16
