"""The detections of one image: scores and boxes to the rows that DetectionOutput gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, falling, suppress

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DetectionOptions:
    """How detections are chosen.

    Attributes:
        background: the class that is left out.
        threshold: only larger scores count.
        nms_threshold, eta: see :func:`caffecompat.data.boxes.suppress`.
        top_k: the largest number of boxes of a class before suppression; -1 for all.
        keep_top_k: the largest number of detections of an image; -1 for all.
    """

    background: int
    threshold: float
    nms_threshold: float
    eta: float
    top_k: int
    keep_top_k: int


def detect(
    scores: Floats, boxes: Boxes, options: DetectionOptions, more: Floats | None = None
) -> Floats:
    """The detections of one image.

    Args:
        scores: (P, classes).
        boxes: (P, L, 4), with L = 1 or L = classes.
        options: how detections are chosen.
        more: (P, M), further values of each box.

    Returns:
        (K, 6 + M): class, score, xmin, ymin, xmax, ymax and the further values, by rising class
        and then falling score.
    """
    found: list[tuple[int, NDArray[np.int64]]] = []
    for label in range(scores.shape[1]):
        if label != options.background:
            own = boxes[:, label if boxes.shape[1] > 1 else 0]
            found.append((label, _of_class(scores[:, label], own, options)))
    labels = np.concatenate([np.full(len(kept), label) for label, kept in found])
    places = np.concatenate([kept for _, kept in found])
    if -1 < options.keep_top_k < len(labels):
        order = falling(scores[places, labels])[: options.keep_top_k]
        order = order[np.argsort(labels[order], kind="stable")]
        labels, places = labels[order], places[order]
    columns = labels if boxes.shape[1] > 1 else np.zeros_like(labels)
    parts = [labels[:, None], scores[places, labels][:, None], boxes[places, columns]]
    if more is not None:
        parts.append(more[places])
    return np.concatenate(parts, 1).astype(np.float32)


def _of_class(scores: Floats, boxes: Boxes, options: DetectionOptions) -> NDArray[np.int64]:
    """The boxes of one class that remain, by falling score."""
    places = np.flatnonzero(scores > np.float32(options.threshold))
    places = places[falling(scores[places])]
    if options.top_k > -1:
        places = places[: options.top_k]
    return places[suppress(boxes[places], options.nms_threshold, options.eta)]
