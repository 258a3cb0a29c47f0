"""Boxes as arrays: areas, overlaps and non-maximum suppression.

A box is (xmin, ymin, xmax, ymax). Coordinates are float32 and every step rounds to float32, as in
Caffe's forks, so that comparisons with a threshold have the same result as there.

``extra`` is added to the width and height of a box: 0 for coordinates that are relative to the
image (SSD), 1 for pixels whose last row and column belong to the box (R-CNN).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
Indices = NDArray[np.int64]


def areas(boxes: Boxes, extra: float = 0.0) -> NDArray[np.float32]:
    """The areas of (..., 4) boxes; 0 for a box that ends before it begins."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    area = (sizes[..., 0] + np.float32(extra)) * (sizes[..., 1] + np.float32(extra))
    return np.where((sizes < 0).any(-1), np.float32(0), area)


def intersections(first: Boxes, second: Boxes, extra: float = 0.0) -> NDArray[np.float32]:
    """The areas that each of A boxes shares with each of B boxes, (A, B)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sizes = np.maximum(high - low + np.float32(extra), np.float32(0))
    shared: NDArray[np.float32] = sizes[..., 0] * sizes[..., 1]
    return shared


def overlaps(first: Boxes, second: Boxes, extra: float = 0.0) -> NDArray[np.float32]:
    """Intersection over union (Jaccard overlap) of A and B boxes, (A, B), from 0 to 1."""
    shared = intersections(first, second, extra)
    union = areas(first, extra)[:, None] + areas(second, extra)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def coverages(covered: Boxes, by: Boxes) -> NDArray[np.float32]:
    """The share of the area of each of A boxes that lies in each of B boxes, (A, B)."""
    shared = intersections(covered, by)
    whole = np.broadcast_to(areas(covered)[:, None], shared.shape)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def falling(scores: NDArray[np.floating]) -> Indices:
    """The order of falling scores; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")


def suppress(boxes: Boxes, threshold: float, eta: float = 1.0, extra: float = 0.0) -> Indices:
    """The boxes that greedy non-maximum suppression keeps.

    A box is kept if its overlap with every box that is kept before it is at most the threshold.
    With ``eta`` below 1 the threshold, while it is above 0.5, is multiplied by ``eta`` after each
    box that is kept.

    Args:
        boxes: (N, 4), by falling score.
        threshold: largest overlap of two boxes that are kept.
        eta: factor of the threshold, from 0 to 1.
        extra: see the module.

    Returns:
        rising indices into ``boxes``.
    """
    current = np.float32(threshold)
    largest = np.zeros(len(boxes), np.float32)  # overlap with a box that is kept
    kept: list[int] = []
    start = 0
    while start < len(boxes):
        free = largest[start:] <= current
        step = int(free.argmax())
        if not free[step]:
            break
        index = start + step
        kept.append(index)
        start = index + 1
        rest = overlaps(boxes[index : index + 1], boxes[start:], extra)[0]
        np.maximum(largest[start:], rest, out=largest[start:])
        if eta < 1 and current > 0.5:
            current = current * np.float32(eta)
    return np.array(kept, np.int64)
