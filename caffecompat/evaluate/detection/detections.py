"""The detections of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes


@dataclass(frozen=True)
class Detections:
    """The K objects that a net has found in an image, by falling score.

    Attributes:
        labels: (K,) classes.
        scores: (K,), 0 to 1.
        boxes: (K, 4): xmin, ymin, xmax, ymax in pixels of the image, clipped to it.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    boxes: Boxes

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least ``threshold``."""
        return self.chosen(np.flatnonzero(self.scores >= threshold))

    def chosen(self, indices: NDArray[np.int64]) -> Detections:
        """The detections at these indices."""
        return Detections(self.labels[indices], self.scores[indices], self.boxes[indices])

    def sorted(self) -> Detections:
        """The detections by falling score."""
        return self.chosen(np.argsort(-self.scores, kind="stable"))


def clipped(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes (K, 4) in pixels, cut at the edges of an image of ``height`` x ``width`` pixels."""
    limits = np.array([width, height, width, height], np.float32)
    found: Boxes = np.clip(boxes, np.float32(0), limits).astype(np.float32)
    return found
