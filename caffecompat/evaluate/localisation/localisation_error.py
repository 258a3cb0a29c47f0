"""Localisation errors by the criterion of ILSVRC (VGG paper, Appendix A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.evaluate.localisation.box_predictions import overlap

# A prediction is right if its intersection over union is above this.
MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one image.

    Attributes:
        classes: the predicted classes, the most likely one first.
        boxes: (number of classes, 4), one box for each, relative to the image.
    """

    classes: tuple[int, ...]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The class of an image, and the boxes (at least one) of its objects of that class.

    Attributes:
        label: the class.
        boxes: (objects, 4), relative to the image.
    """

    label: int
    boxes: NDArray[np.float64]


def is_right(prediction: Prediction, truth: Truth) -> bool:
    """Whether one of the classes is the right one and its box fits one of the objects."""
    return any(
        label == truth.label and overlap(box, truth.boxes).max() > MIN_OVERLAP
        for label, box in zip(prediction.classes, prediction.boxes, strict=True)
    )


def localisation_error(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> float:
    """The share of images, 0 to 1, without a right prediction; NaN without images.

    With the five most likely classes it is ILSVRC's top-5 localisation error, with the true class
    alone the error "of the ground truth class".
    """
    if not predictions:
        return float("nan")
    pairs = zip(predictions, truths, strict=True)
    return float(np.mean([not is_right(found, truth) for found, truth in pairs]))
