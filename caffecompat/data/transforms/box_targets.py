"""Bounding boxes as targets of a regression, under the crop and flip of their image.

VGG paper, Appendix A.1: x and y of the centre, width and height. The paper does not state the
unit; here they are fractions of the crop's width and height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.transforms.transform import CropPlace

Floats = NDArray[np.float32]

# The box, its class, and the share of its area that the crop shows.
LABEL_SHAPE = (6,)


def box_label(box: NDArray[np.float64], label: int, place: CropPlace, mirror: bool) -> Floats:
    """A box, relative to its crop, as a label of :data:`LABEL_SHAPE`.

    Args:
        box: (4,): centre, width and height, relative to the whole image.
        label: the class.
        place: where the crop is.
        mirror: whether the crop is flipped left to right.
    """
    image, size = np.array(place.image[::-1]), np.array(place.size[::-1])
    centre = (box[:2] * image - (place.left, place.top)) / size
    sides = box[2:] * image / size
    if mirror:
        centre[0] = 1 - centre[0]
    seen = np.minimum(centre + sides / 2, 1) - np.maximum(centre - sides / 2, 0)
    visible = np.maximum(seen, 0).prod() / sides.prod()
    return np.array([*centre, *sides, label, visible], np.float32)


def box_targets(labels: Floats, classes: int, min_visible: float) -> tuple[Floats, Floats]:
    """The targets of a regression, and the mask of the values that take part in its loss.

    Where the mask is 0 the target is 0, so ``prediction * mask`` differs from the target nowhere
    else. With one class the four values of each box are its targets, whatever the label.

    Args:
        labels: (N, 6), see :func:`box_label`.
        classes: how many boxes are predicted.
        min_visible: the mask is 0 for crops that show a smaller share of the box.

    Returns:
        targets and mask, (N, 4 * classes) each; the values of class c begin at 4 * c.
    """
    rows = np.arange(len(labels))
    own = labels[:, 4].astype(np.int64) if classes > 1 else 0
    used = labels[:, 5] >= min_visible
    targets = np.zeros((len(labels), classes, 4), np.float32)
    masks = np.zeros_like(targets)
    targets[rows, own] = labels[:, :4] * used[:, None]
    masks[rows, own] = used[:, None]
    return targets.reshape(len(labels), -1), masks.reshape(len(labels), -1)
