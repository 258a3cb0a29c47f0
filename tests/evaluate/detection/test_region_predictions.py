"""Faster R-CNN's predictions as detections, against loops over boxes."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.evaluate.detection.region_predictions import (
    Regions,
    decode_regions,
    detect_in_regions,
)

HEIGHT, WIDTH, CLASSES = 60, 80, 3


def regions(deltas: int = 4 * CLASSES) -> Regions:
    generator = np.random.default_rng(3)
    low = generator.uniform(0, 50, (12, 2))
    boxes = np.concatenate([low, low + generator.uniform(5, 30, (12, 2))], 1)
    scores = generator.dirichlet(np.ones(CLASSES), 12)
    moves = generator.normal(0, 0.3, (12, deltas))
    return Regions(*(one.astype(np.float32) for one in (boxes, scores, moves)))


def moved(box: np.ndarray, delta: np.ndarray) -> list[float]:
    wide, high = box[2] - box[0] + 1, box[3] - box[1] + 1
    x = delta[0] * wide + box[0] + 0.5 * wide
    y = delta[1] * high + box[1] + 0.5 * high
    w, h = exp(delta[2]) * wide, exp(delta[3]) * high
    edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    limits = (WIDTH - 1, HEIGHT - 1) * 2
    return [float(min(max(e, 0), most)) for e, most in zip(edges, limits, strict=True)]


def overlap(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return wide * high / (areas - wide * high)


@pytest.mark.parametrize("deltas", [4 * CLASSES, 8])
def test_detections(deltas: int) -> None:
    given = regions(deltas)
    wanted = []
    for label in (1, 2):
        own = slice(4 * label, 4 * label + 4) if deltas > 8 else slice(4, 8)
        kept: list[list[float]] = []
        for r in sorted(range(12), key=lambda r: -given.scores[r, label]):
            box = moved(given.boxes[r], given.deltas[r, own])
            if all(overlap(box, other) <= 0.3 for other in kept):
                kept.append(box)
                wanted.append((float(given.scores[r, label]), label, box))
    wanted.sort(key=lambda one: -one[0])
    found = detect_in_regions(given, (HEIGHT, WIDTH), 0.3)
    assert found.labels.tolist() == [label for _, label, _ in wanted]
    np.testing.assert_allclose(found.boxes, [box for _, _, box in wanted], rtol=1e-4, atol=1e-3)


def test_deltas_must_fit_the_classes() -> None:
    with pytest.raises(DataError, match="3 class probabilities and 16 deltas"):
        decode_regions(regions(16), HEIGHT, WIDTH)
