"""VOC's measures against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffecompat.evaluate.features.average_precision import (
    average_precision,
    mean_class_recall,
)


def curve(scores: np.ndarray, positive: np.ndarray) -> list[tuple[float, float]]:
    """(recall, precision) after each image."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    points, hits = [], 0
    for count, index in enumerate(order, 1):
        hits += bool(positive[index])
        points.append((hits / positive.sum(), hits / count))
    return points


def best_precision(points: list[tuple[float, float]], recall: float) -> float:
    return max((p for r, p in points if r >= recall - 1e-12), default=0.0)


def area(points: list[tuple[float, float]]) -> float:
    total, before = 0.0, 0.0
    for recall, _ in points:
        total += (recall - before) * best_precision(points, recall)
        before = recall
    return total


@pytest.mark.parametrize("seed", range(20))
def test_against_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 12, 25).astype(float)
    positive = random.random(25) < 0.3
    positive[random.integers(25)] = True
    points = curve(scores, positive)
    eleven = np.mean([best_precision(points, r / 10) for r in range(11)])
    assert average_precision(scores, positive, 11) == pytest.approx(eleven)
    assert average_precision(scores, positive) == pytest.approx(area(points))


def test_a_perfect_list() -> None:
    scores, positive = np.array([0.1, 3.0, 2.0]), np.array([False, True, True])
    assert average_precision(scores, positive) == 1
    assert average_precision(scores, positive, 11) == 1


def test_a_class_without_an_image() -> None:
    assert math.isnan(average_precision(np.array([2.0, 5.0]), np.array([False, False])))


def test_mean_class_recall() -> None:
    """Two of four images of class 0, the only one of class 3: classes count alike."""
    labels, predicted = np.array([0, 0, 0, 0, 3]), np.array([0, 0, 1, 3, 3])
    assert mean_class_recall(labels, predicted) == 0.75
