"""The box of the true class from the central crop (VGG paper, Appendix A.1, first protocol)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from caffecompat.errors import DataError
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImage
from caffecompat.evaluate.localisation.box_predictions import from_window
from caffecompat.evaluate.localisation.localisation_error import Prediction
from caffecompat.evaluate.localisation.protocol import LocalisationProtocol, Localiser


class GroundTruthClass(LocalisationProtocol):
    """Predicts one box for each image, that of its true class, from the central crop alone.

    It compares regression nets without the errors of a classification.

    Args:
        localiser: with one scale.
    """

    def __init__(self, localiser: Localiser) -> None:
        if len(localiser.scales) != 1:
            raise DataError(
                f"--scales has {len(localiser.scales)} scales, but a central crop is taken at one; "
                "give one, or --protocol full"
            )
        self._localiser = localiser

    def predict(self, images: Sequence[AnnotatedImage]) -> list[Prediction]:
        net = self._localiser.net
        crops, windows = [], []
        for image in images:
            scaled = self._localiser.preparation.at_scale(image.pixels, self._localiser.scales[0])
            (height, width), (rows, columns) = scaled.shape[1:], net.size.crop
            top, left = (height - rows) // 2, (width - columns) // 2
            crops.append(scaled[:, top : top + rows, left : left + columns])
            # The crop, seen as a part of an image of width and height 1.
            windows.append([left / width, top / height, columns / width, rows / height])
        boxes = net(torch.from_numpy(np.stack(crops)))
        found = []
        for image, places, window in zip(images, boxes, windows, strict=True):
            label = image.truth.label
            if net.classes > 1 and label >= net.classes:
                raise DataError(
                    f"image {image.name!r} has the label {label}, but the net predicts boxes for "
                    f"the classes 0 to {net.classes - 1}"
                )
            box = places[0, label if net.classes > 1 else 0]
            found.append(Prediction((label,), from_window(box, np.array(window))[None]))
        return found

    def settings(self) -> dict[str, Any]:
        return {"protocol": "ground-truth class", "nets": [self._localiser.settings()]}
