"""Faster R-CNN's predictions for boxes as detections: deltas, then suppression for each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, falling, suppress
from caffecompat.errors import DataError
from caffecompat.evaluate.detection.detections import Detections
from caffecompat.layers.forks.rcnn._pixel_boxes import clip, decode

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Regions:
    """What a net predicts for R boxes.

    Attributes:
        boxes: (R, 4), in pixels of the image file.
        scores: (R, classes) probabilities; class 0 is the background.
        deltas: (R, 4 * classes), or (R, 8) if all objects share the last four.
    """

    boxes: Boxes
    scores: Floats
    deltas: Floats


def decode_regions(regions: Regions, height: int, width: int) -> Boxes:
    """The predicted boxes (R, classes, 4), cut at the edges of the image.

    Source: py-faster-rcnn's bbox_transform.py.
    """
    count, classes = regions.scores.shape
    if regions.deltas.shape[1] not in (8, 4 * classes):
        raise DataError(
            f"the net has {classes} class probabilities and {regions.deltas.shape[1]} deltas for "
            f"each box; expected {4 * classes}, or 8"
        )
    boxes, deltas = torch.from_numpy(regions.boxes), torch.from_numpy(regions.deltas)
    every = decode(boxes, deltas).reshape(-1, 4)
    extent = (torch.tensor(float(side)) for side in (height, width))
    found: Boxes = clip(every, *extent).reshape(count, deltas.shape[1] // 4, 4).numpy()
    if found.shape[1] != classes:
        found = np.repeat(found[:, -1:], classes, 1)
    return found


def detect_in_regions(
    regions: Regions, size: tuple[int, int], nms_threshold: float = 0.3
) -> Detections:
    """The detections of an image, by falling score.

    Of each class but the background the boxes pass non-maximum suppression; their last row and
    column count (+1), as in py-faster-rcnn.

    Args:
        regions: the predictions.
        size: height and width of the image.
        nms_threshold: the largest overlap of two detections of a class.
    """
    boxes = decode_regions(regions, *size)
    labels, scores, places = [], [], []
    for label in range(1, regions.scores.shape[1]):
        order = falling(regions.scores[:, label])
        kept = order[suppress(boxes[order, label], nms_threshold, extra=1.0)]
        labels.append(np.full(len(kept), label))
        scores.append(regions.scores[kept, label])
        places.append(boxes[kept, label])
    found = Detections(
        np.concatenate([np.zeros(0, np.int64), *labels]),
        np.concatenate([np.zeros(0, np.float32), *scores]),
        np.concatenate([np.zeros((0, 4), np.float32), *places]),
    )
    return found.sorted()
