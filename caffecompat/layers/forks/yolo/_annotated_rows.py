"""Objects of a batch in the rows that AnnotatedData gives, for the layers of YOLO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer

if TYPE_CHECKING:
    import numpy as np

_WIDTH = 8


def has_annotated_rows(shape: Sequence[int]) -> bool:
    """Whether labels of this shape are (1, 1, G, 8).

    Lists of five numbers for each object never are: each image then has a row of its own, whose
    extent is a multiple of five.
    """
    return len(shape) == 4 and tuple(shape[:2]) == (1, 1) and shape[3] == _WIDTH


def objects_in_rows(layer: Layer, labels: np.ndarray, images: int) -> list[np.ndarray]:
    """For each image its objects (T, 5): rows [class - 1, x, y, width, height].

    Args:
        labels: (1, 1, G, 8), rows [image, class, instance, xmin, ymin, xmax, ymax, difficult];
            a row whose image is -1 holds nothing. Objects without an area are left out.

    Raises:
        LayerError: a row names an image that the batch does not have.
    """
    import numpy as np

    rows = labels.reshape(-1, _WIDTH)
    rows = rows[rows[:, 0].astype(np.int64) != -1]
    numbers = rows[:, 0].astype(np.int64)
    beyond = (numbers < 0) | (numbers >= images)
    if beyond.any():
        layer.refuse(
            f"its labels have an object of image {numbers[beyond][0]}, but the batch has {images} "
            "images, counted from 0"
        )
    centre = (rows[:, 3:5] + rows[:, 5:7]) / 2
    extent = rows[:, 5:7] - rows[:, 3:5]
    objects = np.concatenate([rows[:, 1:2] - 1, centre, extent], 1)
    whole = (extent > 0).all(1)
    return [objects[whole & (numbers == image)] for image in range(images)]
