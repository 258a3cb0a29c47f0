"""Measures of ranked lists and of classifications: VOC's average precision, mean class recall."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def precision_and_recall(
    scores: NDArray[np.floating], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall after each image of a list that is sorted by falling score.

    Images of equal score keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return precision, hits / max(1, int(positive.sum()))


def average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], points: int | None = None
) -> float:
    """VOC's average precision of one class.

    Args:
        scores: of the images for the class.
        positive: which images are of the class; VOC leaves "difficult" ones out before.
        points: 11 for the mean of the interpolated precision at 11 recalls (VOC 2007); None for
            the area under the interpolated curve (VOC 2010 and later).

    Returns:
        0 to 1; NaN without an image of the class.
    """
    if not positive.any():
        return float("nan")
    precision, recall = precision_and_recall(scores, positive)
    # At each recall the largest precision at that or any larger recall.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is not None:
        places = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
        reached = places < len(envelope)
        return float(np.where(reached, envelope[np.minimum(places, len(envelope) - 1)], 0).mean())
    steps = np.diff(np.concatenate([[0.0], recall]))
    return float((steps * envelope).sum())


def mean_class_recall(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """The mean over the classes of the share of their images that are recognised (Caltech)."""
    shares = [(predicted[labels == label] == label).mean() for label in np.unique(labels)]
    return float(np.mean(shares))
