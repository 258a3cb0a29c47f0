"""Pooling of regions against loops over bins and pixels."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, run

# [image, x1, y1, x2, y2]: inside, a point, reversed, halves, partly and wholly outside, very large.
REGIONS = [
    [0, 2, 1, 9, 13],
    [1, 5, 5, 5, 5],
    [1, 9, 9, 4, 2],
    [0, 2, 6, 10, 14],
    [1, -7, -9, 6, 5],
    [0, 40, 40, 60, 60],
    [1, -30, -30, 90, 90],
    [0, 12.5, 3.5, 17.25, 20.75],
]
STRIDE = 4


def round_half_away(value: float) -> int:
    return int(floor(abs(value) + 0.5) * (1 if value >= 0 else -1))


def bounds(low: float, high: float, i: int, count: int, extent: int) -> tuple[int, int]:
    start, end = round_half_away(low / STRIDE), round_half_away(high / STRIDE)
    step = max(end - start + 1, 1) / count
    first, last = floor(i * step) + start, ceil((i + 1) * step) + start
    return min(max(first, 0), extent), min(max(last, 0), extent)


def pooled_by_loops(
    features: np.ndarray, regions: np.ndarray, count: tuple[int, int], pad: float
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima, and how often each value of ``features`` is one."""
    _, channels, height, width = features.shape
    tops = np.zeros((len(regions), channels, *count))
    uses = np.zeros_like(features)
    for r, (image, x1, y1, x2, y2) in enumerate(regions):
        wide, high = (x2 - x1 + 1) * pad, (y2 - y1 + 1) * pad
        for i in range(count[0]):
            top, bottom = bounds(y1 - high, y2 + high, i, count[0], height)
            for j in range(count[1]):
                left, right = bounds(x1 - wide, x2 + wide, j, count[1], width)
                for c in range(channels):
                    part = features[int(image), c, top:bottom, left:right]
                    if part.size:
                        tops[r, c, i, j] = part.max()
                        y, x = np.unravel_index(part.argmax(), part.shape)
                        uses[int(image), c, top + y, left + x] += 1
    return tops, uses


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("pad", [0.0, 0.5])
@pytest.mark.parametrize("count", [(1, 1), (3, 2), (7, 7)])
def test_roi_pooling(count: tuple[int, int], pad: float, ties: bool) -> None:
    features = distinct((2, 3, 7, 9), seed=3)
    if ties:
        features = features.mul(3).round().clamp(min=0)
    features.requires_grad_(True)
    regions = torch.tensor(REGIONS, dtype=torch.float64)
    text = (
        f"roi_pooling_param {{ pooled_h: {count[0]} pooled_w: {count[1]} spatial_scale: 0.25 "
        f"pad_ratio: {pad} }}"
    )
    (top,) = run("ROIPooling", text, features, regions)
    expected, uses = pooled_by_loops(features.detach().numpy(), regions.numpy(), count, pad)
    np.testing.assert_array_equal(top.detach().numpy(), expected)
    top.sum().backward()
    assert features.grad is not None
    np.testing.assert_array_equal(features.grad.numpy(), uses)
    with torch.no_grad():
        assert torch.equal(run("ROIPooling", text, features, regions)[0], top)


def test_channels_in_parts_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from caffecompat.layers.forks.rcnn.pooling import _range_maximum

    features = distinct((2, 5, 6, 7), seed=1)
    regions = torch.tensor(REGIONS, dtype=torch.float64)
    text = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 }"
    whole = run("ROIPooling", text, features, regions)[0]
    monkeypatch.setattr(_range_maximum, "_TABLE_ELEMENTS", 2000)
    assert torch.equal(run("ROIPooling", text, features, regions)[0], whole)


def test_psroi_pooling() -> None:
    bins, outputs = 3, 2
    features = distinct((2, bins * bins * outputs, 7, 9), seed=2)
    regions = torch.tensor(REGIONS, dtype=torch.float64)
    text = "psroi_pooling_param { spatial_scale: 0.25 output_dim: 2 group_size: 3 }"
    (top,) = run("PSROIPooling", text, features, regions)
    for r, (image, *corners) in enumerate(regions.numpy()):
        x1, y1, x2, y2 = (round_half_away(value) for value in corners)
        limits = [(x1 / STRIDE, (x2 + 1) / STRIDE), (y1 / STRIDE, (y2 + 1) / STRIDE)]
        (x_step, y_step) = (max(end - start, 0.1) / bins for start, end in limits)
        for i in range(bins):
            rows = [limits[1][0] + k * y_step for k in (i, i + 1)]
            for j in range(bins):
                columns = [limits[0][0] + k * x_step for k in (j, j + 1)]
                for c in range(outputs):
                    part = features[
                        int(image),
                        (c * bins + i) * bins + j,
                        max(floor(rows[0]), 0) : max(ceil(rows[1]), 0),
                        max(floor(columns[0]), 0) : max(ceil(columns[1]), 0),
                    ]
                    expected = part.mean() if part.numel() else torch.zeros(())
                    assert top[r, c, i, j] == pytest.approx(float(expected), abs=1e-12)


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    height, width = plane.shape
    if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = floor(y), floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = plane[top, left] * (1 - u) + plane[top, right] * u
    lower = plane[bottom, left] * (1 - u) + plane[bottom, right] * u
    return float(upper * (1 - v) + lower * v)


def test_roi_align_of_cascade_rcnn() -> None:
    features = distinct((2, 3, 7, 9), seed=4)
    regions = torch.tensor(REGIONS, dtype=torch.float64)
    text = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 pad_ratio: 0.125 }"
    (top,) = run("ROIAlign", text, features, regions)
    assert top.shape == (len(REGIONS), 3, 3, 4)
    for r, (image, x1, y1, x2, y2) in enumerate(regions.numpy()):
        wide, high = (x2 - x1 + 1) * 0.125, (y2 - y1 + 1) * 0.125
        left, right = (x1 - wide) / STRIDE - 0.5, (x2 + wide) / STRIDE - 0.5
        upper, lower = (y1 - high) / STRIDE - 0.5, (y2 + high) / STRIDE - 0.5
        for i in range(3):
            for j in range(4):
                y, x = upper + i * (lower - upper) / 2, left + j * (right - left) / 3
                for c in range(3):
                    malformed = right <= left or lower <= upper
                    plane = features[int(image), c].numpy()
                    expected = 0.0 if malformed else bilinear(plane, y, x)
                    assert top[r, c, i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["ROIPooling", "PSROIPooling", "ROIAlign"])
@pytest.mark.parametrize("image", [2, -1])
def test_a_region_of_no_image(kind: str, image: int) -> None:
    grid = "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"
    if kind == "PSROIPooling":
        grid = "psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 2 }"
    regions = torch.tensor([[image, 0.0, 0, 3, 3]])
    with pytest.raises(LayerError, match="an image outside 0 to 1"):
        run(kind, grid, torch.zeros(2, 4, 5, 6), regions)


@pytest.mark.parametrize(
    ("kind", "text", "shape", "sentence"),
    [
        ("ROIPooling", "roi_pooling_param { pooled_w: 3 }", (2, 5), "pooled_h is 0"),
        ("ROIAlign", "roi_pooling_param { pooled_h: 3 }", (2, 5), "pooled_w is 0"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", (2, 4), "second bottom"),
        (
            "PSROIPooling",
            "psroi_pooling_param { spatial_scale: 1 output_dim: 5 group_size: 2 }",
            (2, 5),
            "has 4 channels; output_dim 5 and group_size 2 need 20",
        ),
    ],
)
def test_refusals(kind: str, text: str, shape: tuple[int, int], sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        run(kind, text, torch.zeros(1, 4, 5, 6), torch.zeros(shape))
