"""Overlaps and suppression of boxes, against loops over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.data.boxes import areas, coverages, falling, overlaps, suppress


def random_boxes(count: int, seed: int) -> np.ndarray:
    """Boxes around the unit square, some of which end before they begin."""
    generator = np.random.default_rng(seed)
    low = generator.uniform(-0.2, 0.8, (count, 2))
    size = generator.uniform(-0.05, 0.6, (count, 2))
    return np.concatenate([low, low + size], 1).astype(np.float32)


def area_of(box: np.ndarray, extra: float) -> float:
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    return 0.0 if width < 0 or height < 0 else (width + extra) * (height + extra)


def overlap_of(a: np.ndarray, b: np.ndarray, extra: float = 0.0) -> float:
    width = min(float(a[2]), float(b[2])) - max(float(a[0]), float(b[0])) + extra
    height = min(float(a[3]), float(b[3])) - max(float(a[1]), float(b[1])) + extra
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (area_of(a, extra) + area_of(b, extra) - width * height)


@pytest.mark.parametrize("extra", [0.0, 1.0])
def test_overlaps_and_areas(extra: float) -> None:
    first, second = random_boxes(7, 1) * 10, random_boxes(5, 2) * 10
    expected = [[overlap_of(a, b, extra) for b in second] for a in first]
    np.testing.assert_allclose(overlaps(first, second, extra), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(areas(first, extra), [area_of(a, extra) for a in first], rtol=1e-5)


def test_coverage_is_the_covered_share_of_the_first_box() -> None:
    small, large = np.array([[0, 0, 1, 1]], np.float32), np.array([[0.5, 0, 2, 4]], np.float32)
    assert coverages(small, large).tolist() == [[0.5]]
    assert coverages(large, small)[0, 0] == pytest.approx(0.5 / 6)


def test_falling_keeps_the_order_of_equal_scores() -> None:
    assert falling(np.array([0.5, 0.9, 0.5, 0.9], np.float32)).tolist() == [1, 3, 0, 2]


def suppressed(boxes: np.ndarray, threshold: float, eta: float) -> list[int]:
    kept: list[int] = []
    for index in range(len(boxes)):
        if all(overlap_of(boxes[index], boxes[k]) <= threshold for k in kept):
            kept.append(index)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("threshold", "eta"), [(0.45, 1.0), (0.7, 1.0), (0.9, 0.8), (0.0, 1.0)])
def test_suppression(seed: int, threshold: float, eta: float) -> None:
    boxes = random_boxes(40, seed)
    assert suppress(boxes, threshold, eta).tolist() == suppressed(boxes, threshold, eta)


def test_suppression_of_nothing() -> None:
    assert suppress(np.zeros((0, 4), np.float32), 0.5).tolist() == []
