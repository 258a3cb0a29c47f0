"""Boxes, merging and errors against references written from the publications' words."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from caffecompat.evaluate.localisation.box_merging import MergeOptions, merge
from caffecompat.evaluate.localisation.box_predictions import (
    from_window,
    mirrored,
    overlap,
    to_corners,
)
from caffecompat.evaluate.localisation.localisation_error import (
    Prediction,
    Truth,
    localisation_error,
)


def counted_overlap(first: np.ndarray, second: np.ndarray, cells: int = 400) -> float:
    """Intersection over union by counting cells of a fine grid over [-1, 2]."""
    places = (np.arange(cells) + 0.5) / cells * 3 - 1

    def inside(box: np.ndarray) -> np.ndarray:
        across = np.abs(places - box[0]) < box[2] / 2
        down = np.abs(places - box[1]) < box[3] / 2
        return down[:, None] & across[None]

    both = inside(first) & inside(second)
    either = inside(first) | inside(second)
    return both.sum() / either.sum() if either.any() else 0.0


def test_overlap_is_that_of_the_areas() -> None:
    random = np.random.default_rng(1)
    found = np.concatenate([random.uniform(0, 1, (30, 2)), random.uniform(0.2, 0.9, (30, 2))], 1)
    for first, second in itertools.pairwise(found):
        assert overlap(first, second) == pytest.approx(counted_overlap(first, second), abs=0.03)
    assert overlap(found[0], found[0]) == pytest.approx(1)
    pairs = overlap(found[:, None], found[None])
    assert pairs.shape == (30, 30)
    np.testing.assert_allclose(pairs, pairs.T)


def test_boxes_without_area() -> None:
    empty = np.array([0.5, 0.5, 0.0, 0.2])
    negative = np.array([0.5, 0.5, -0.4, 0.2])
    assert overlap(empty, empty) == 0
    assert overlap(negative, np.array([0.5, 0.5, 0.4, 0.2])) == 0


def test_corners_and_windows() -> None:
    box = np.array([[20.0, 40.0, 20.0, 40.0]])
    np.testing.assert_allclose(to_corners(box), [[10, 20, 30, 60]])
    # The right half of a window of 40 x 20 at (8, 4).
    right = np.array([0.75, 0.5, 0.5, 1])
    inside = from_window(right, np.array([8, 4, 40, 20]))
    np.testing.assert_allclose(to_corners(inside), [28, 4, 48, 24])
    np.testing.assert_allclose(mirrored(right), [0.25, 0.5, 0.5, 1])


def slow_merge(boxes: np.ndarray, scores: np.ndarray, options: MergeOptions) -> list[Any]:
    """OverFeat's steps (d) to (g), one pair after the other."""
    left = [(box, score, 1) for box, score in zip(boxes, scores, strict=True)]

    def match(a: np.ndarray, b: np.ndarray) -> float:
        apart = np.hypot(a[0] - b[0], a[1] - b[1]) / ((a[2] + a[3] + b[2] + b[3]) / 4)
        unlike = 1 - float(overlap(a, b))
        return {"distance": apart, "overlap": unlike}.get(options.match, apart + unlike)

    while len(left) > 1:
        pairs = list(itertools.combinations(range(len(left)), 2))
        values = [match(left[i][0], left[j][0]) for i, j in pairs]
        best = int(np.argmin(values))
        if values[best] > options.threshold:
            break
        i, j = pairs[best]
        (a, score_a, count_a), (b, score_b, count_b) = left[i], left[j]
        shares = [count_a, count_b] if options.weighted else [1, 1]
        left[i] = (np.average([a, b], 0, shares), score_a + score_b, count_a + count_b)
        del left[j]
    return sorted(left, key=lambda entry: -entry[1])


@pytest.mark.parametrize("match", ["distance-overlap", "overlap", "distance"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 5.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_merging(match: Any, threshold: float, weighted: bool) -> None:
    options = MergeOptions(match, threshold, weighted)
    for seed in range(2):
        random = np.random.default_rng(seed)
        centres = random.uniform(0.1, 0.9, (3, 2))[random.integers(0, 3, 14)]
        boxes = np.concatenate([centres, np.full((14, 2), 0.4)], 1)
        boxes += random.normal(0, 0.05, boxes.shape)
        scores = random.uniform(0, 1, 14)
        expected = slow_merge(boxes, scores, options)
        found = merge(boxes, scores, options)
        assert found.counts.tolist() == [count for _, _, count in expected]
        np.testing.assert_allclose(found.scores, [score for _, score, _ in expected])
        np.testing.assert_allclose(found.boxes, [box for box, _, _ in expected])


def test_many_boxes_on_a_grid() -> None:
    """Many equal match scores: the first pair of them is merged."""
    places = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
    boxes = np.concatenate([places, np.full((36, 2), 2.0)], 1)
    for threshold in (1.17, 1.4):
        options = MergeOptions(threshold=threshold)
        expected = slow_merge(boxes, np.ones(36), options)
        found = merge(boxes, np.ones(36), options)
        assert 1 < len(found.counts) < 36
        assert found.counts.tolist() == [count for _, _, count in expected]
        np.testing.assert_allclose(found.boxes, [box for box, _, _ in expected])


def test_equal_boxes_merge_at_any_threshold() -> None:
    boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.0, 0.2]])[[0, 1, 0, 1, 0]]
    found = merge(boxes, np.ones(5), MergeOptions(threshold=0))
    assert found.counts.tolist() == [3, 2]


def test_errors_count_images() -> None:
    truth = Truth(2, np.array([[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.4, 0.4]]))
    fitting, shifted = np.array([0.7, 0.72, 0.4, 0.4]), np.array([0.7, 0.95, 0.4, 0.4])
    half = np.array([0.7, 0.7, 0.2, 0.4])  # an overlap of exactly one half is not enough
    cases = [
        (Prediction((1, 2), np.array([shifted, fitting])), False),
        (Prediction((2, 1), np.array([shifted, fitting])), True),
        (Prediction((0, 1), np.array([fitting, fitting])), True),
        (Prediction((2,), half[None]), True),
    ]
    for prediction, wrong in cases:
        assert localisation_error([prediction], [truth]) == wrong
    assert localisation_error([case for case, _ in cases], [truth] * 4) == 0.75
    assert math.isnan(localisation_error([], []))
