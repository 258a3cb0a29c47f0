"""Which prior boxes are to find which objects: the matching of MultiBoxLoss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, overlaps

UNMATCHED = -1
# The box crosses the border of the image and takes no part.
LEFT_OUT = -2

_SMALLEST_OVERLAP = np.float32(1e-6)


@dataclass(frozen=True)
class MatchOptions:
    """How boxes are matched.

    Attributes:
        threshold: the smallest overlap of a match beyond the best one of each object.
        per_prediction: whether there are matches beyond the best one of each object.
        ignore_cross_boundary: leave boxes out that cross the border of the image.
    """

    threshold: float
    per_prediction: bool
    ignore_cross_boundary: bool


@dataclass(frozen=True)
class Match:
    """The matches of P boxes with the objects of an image.

    Attributes:
        objects: (P,) index of the matched object, :data:`UNMATCHED` or :data:`LEFT_OUT`.
        overlaps: (P,) overlap with that object, or the largest with any object.
    """

    objects: NDArray[np.int64]
    overlaps: NDArray[np.float32]


def match_boxes(objects: Boxes, boxes: Boxes, options: MatchOptions) -> Match:
    """Matches boxes with objects.

    First each object, in the order of falling overlaps, takes the free box that overlaps it most.
    Then, with ``per_prediction``, each free box takes the object that it overlaps most, if the
    overlap is at least ``threshold``. Source: SSD's MultiBoxLoss layer.

    Args:
        objects: (G, 4).
        boxes: (P, 4).
    """
    found = np.full(len(boxes), UNMATCHED, np.int64)
    if not len(objects):
        return Match(found, np.zeros(len(boxes), np.float32))
    shared = overlaps(boxes, objects)
    shared[shared <= _SMALLEST_OVERLAP] = 0
    if options.ignore_cross_boundary:
        out = ((boxes < 0) | (boxes > 1)).any(1)
        found[out] = LEFT_OUT
        shared[out] = 0
    largest = shared.max(1)
    left = shared.copy()
    left[found != UNMATCHED] = 0
    for _ in range(len(objects)):
        box, one = np.unravel_index(int(left.argmax()), left.shape)
        if left[box, one] <= 0:
            break
        found[box], largest[box] = one, shared[box, one]
        left[box, :] = 0
        left[:, one] = 0
    if options.per_prediction:
        free = (found == UNMATCHED) & (largest > 0) & (largest >= np.float32(options.threshold))
        found[free] = shared[free].argmax(1)
    return Match(found, largest)
