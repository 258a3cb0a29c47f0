"""The ground truth of a batch: the rows of a blob (1, 1, G, 8).

A row is [image, class, instance, xmin, ymin, xmax, ymax, difficult]; boxes are relative to the
image. A row whose image is -1 holds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes
from caffecompat.layers._base import Layer

if TYPE_CHECKING:
    from torch import Tensor

_AGNOSTIC_CLASSES = 2


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    Attributes:
        labels: (G,) classes.
        boxes: (G, 4).
        difficult: (G,).
    """

    labels: NDArray[np.int64]
    boxes: Boxes
    difficult: NDArray[np.bool_]


def read_truth(layer: Layer, blob: Tensor, classes: int, background: int) -> dict[int, Truth]:
    """The objects of each image that has any, by the image's number.

    In a net with two classes every object is of class 1, as in RefineDet, whose first stage tells
    objects from background.

    Raises:
        LayerError: an object is of the background class, or of none of the classes.
    """
    rows = blob.detach().reshape(-1, 8).float().cpu().numpy()
    rows = rows[rows[:, 0].astype(np.int64) != -1]
    images, labels = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    if classes == _AGNOSTIC_CLASSES:
        labels = np.minimum(labels, 1)
    wrong = (labels < 0) | (labels >= classes) | (labels == background)
    if wrong.any():
        layer.refuse(
            f"an object of the ground truth has the label {labels[wrong][0]}, but the classes are "
            f"0 to {classes - 1} and {background} is the background; does the label map of the "
            "data fit num_classes?"
        )
    found = {}
    for image in np.unique(images):
        own = images == image
        difficult = rows[own, 7] != 0
        found[int(image)] = Truth(labels[own], np.ascontiguousarray(rows[own, 3:7]), difficult)
    return found
