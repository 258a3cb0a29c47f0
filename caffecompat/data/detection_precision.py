"""The average precision of the detections of one class, as SSD and VOC compute it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Steps of the recall that are smaller do not count.
_SMALLEST_STEP = 1e-6


def average_precision(
    scores: NDArray[np.floating], hits: NDArray[np.bool_], objects: int, version: str
) -> float:
    """The average precision of one class.

    Args:
        scores: of the detections.
        hits: which of them are true positives; the others are false ones.
        objects: number of objects of the class.
        version: ``"11point"``: the mean of the largest precision from 11 recalls on (VOC 2007).
            ``"MaxIntegral"``: the area under the largest precision at that or any larger recall
            (VOC 2012, ILSVRC). ``"Integral"``: the area under the precision.

    Returns:
        0 to 1; 0 without objects or detections. Source: SSD's bbox_util.cpp.
    """
    if not objects or not len(scores):
        return 0.0
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    found = np.cumsum(hits[order]).astype(np.float32)
    precision: Floats = found / np.arange(1, len(found) + 1, dtype=np.float32)
    recall: Floats = found / np.float32(objects)
    if version == "11point":
        return _mean_of_eleven(precision, recall)
    steps = np.diff(recall, prepend=np.float32(0)).astype(np.float64)
    steps[np.abs(steps) <= _SMALLEST_STEP] = 0
    if version == "MaxIntegral":
        # SSD takes the precision at the start of each step, not at its end.
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        precision = np.concatenate([envelope[:1], envelope[:-1]])
        steps[0] = recall[0]
    return float((precision * steps).sum())


def _mean_of_eleven(precision: Floats, recall: Floats) -> float:
    """The mean of the largest precisions at recalls of at least 0, 0.1, ..., 1."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall.astype(np.float64), np.arange(11) / 10)
    return float(np.append(envelope, np.float32(0))[places].astype(np.float64).mean())
