"""Classification errors: top-k error and the confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ranks(posteriors: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many classes come before the right one, per image.

    Among equal posteriors the class with the smaller number comes first.

    Args:
        posteriors: images x classes.
        labels: of the images, 0 to classes - 1.
    """
    own = np.take_along_axis(posteriors, labels[:, None], 1)
    earlier = np.arange(posteriors.shape[1]) < labels[:, None]
    return ((posteriors > own) | ((posteriors == own) & earlier)).sum(1)


def top_k_error(posteriors: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> float:
    """The share of images, 0 to 1, whose class is not among the ``k`` with the largest posteriors.

    NaN without images. Source: VGG paper, Sect. 4.
    """
    return float((ranks(posteriors, labels) >= k).mean()) if len(labels) else float("nan")


def confusion_matrix(
    posteriors: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Images by class (rows) and by predicted class (columns)."""
    classes = posteriors.shape[1]
    cells = labels * classes + posteriors.argmax(1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
