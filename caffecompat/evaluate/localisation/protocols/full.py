"""Dense prediction, merging, top-5 classes (VGG paper, Appendix A.1, second protocol)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImage
from caffecompat.evaluate.localisation.box_merging import MergeOptions, merge
from caffecompat.evaluate.localisation.box_net import check_classes
from caffecompat.evaluate.localisation.box_predictions import mirrored
from caffecompat.evaluate.localisation.localisation_error import Prediction
from caffecompat.evaluate.localisation.protocol import LocalisationProtocol, Localiser

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FullOptions:
    """What the paper leaves open, and the number of classes.

    Attributes:
        merging: the greedy merging.
        flip: add the boxes that are predicted from the mirrored images.
        top_k: how many classes are predicted.
    """

    merging: MergeOptions = field(default_factory=MergeOptions)
    flip: bool = False
    top_k: int = 5


@dataclass(frozen=True)
class Candidates:
    """The boxes predicted for one image by one net at one scale.

    Attributes:
        boxes: (places, classes or 1, 4), relative to the image.
        scores: (places, classes): the class score of the window of each place.
    """

    boxes: Floats
    scores: Floats

    def of_class(self, label: int) -> tuple[Floats, Floats]:
        """Boxes (places, 4) and scores (places,) of a class."""
        shared = self.boxes.shape[1] == 1
        return self.boxes[:, 0 if shared else label], self.scores[:, label]


class Full(LocalisationProtocol):
    """Predicts one box for each of the most likely classes.

    For each class the boxes of all places of all scales and nets are merged; of the merged boxes,
    the one with the largest sum of class scores is the prediction.

    Args:
        localisers: the union of their boxes is merged.
        posteriors: of the images, by name; they decide which classes are predicted.
        options: see :class:`FullOptions`.

    Raises:
        DataError: a net predicts boxes for another number of classes.
    """

    def __init__(
        self,
        localisers: Sequence[Localiser],
        posteriors: Posteriors,
        options: FullOptions | None = None,
    ) -> None:
        self._localisers = localisers
        self._options = options or FullOptions()
        self._digest = hashlib.sha256(posteriors.values.tobytes()).hexdigest()
        self._posteriors = dict(zip(posteriors.names, posteriors.values, strict=True))
        classes = posteriors.values.shape[1]
        for localiser in localisers:
            path = localiser.net.map_net.path
            check_classes(path, localiser.net.classes, classes)
            if localiser.scores is not None and localiser.scores.classes != classes:
                raise DataError(
                    f"{path}: the net that scores its boxes has {localiser.scores.classes} "
                    f"classes, the posteriors are for {classes}"
                )

    def predict(self, images: Sequence[AnnotatedImage]) -> list[Prediction]:
        return [self._predict(image) for image in images]

    def settings(self) -> dict[str, Any]:
        return {
            "protocol": "full",
            "nets": [localiser.settings() for localiser in self._localisers],
            "posteriors": self._digest,
            **asdict(self._options),
        }

    def _predict(self, image: AnnotatedImage) -> Prediction:
        posterior = self._posteriors.get(image.name)
        if posterior is None:
            raise DataError(
                f"image {image.name!r} has no class posteriors in the file of --posteriors; run "
                "caffecompat evaluate --output on the same images, with the same names"
            )
        found = [
            candidates
            for localiser in self._localisers
            for scale in localiser.scales
            for candidates in self._candidates(localiser, image, scale, posterior)
        ]
        # Among equal posteriors the class with the smaller number comes first.
        classes = np.argsort(-posterior, kind="stable")[: self._options.top_k].tolist()
        boxes = []
        for label in classes:
            pairs = [candidates.of_class(label) for candidates in found]
            together = np.concatenate([pair[0] for pair in pairs])
            scores = np.concatenate([pair[1] for pair in pairs])
            boxes.append(merge(together, scores, self._options.merging).boxes[0])
        return Prediction(tuple(classes), np.stack(boxes))

    def _candidates(
        self,
        localiser: Localiser,
        image: AnnotatedImage,
        scale: int,
        posterior: NDArray[np.float32],
    ) -> list[Candidates]:
        batch = torch.from_numpy(localiser.preparation.at_scale(image.pixels, scale))[None]
        if self._options.flip:
            batch = torch.cat([batch, batch.flip(3)])
        boxes = localiser.net(batch)
        boxes[1:] = mirrored(boxes[1:])
        if localiser.scores is None:
            shape = (*boxes.shape[:2], len(posterior))
            scores: Floats = np.broadcast_to(posterior.astype(np.float64), shape)
        else:
            scores = localiser.scores(batch)
        return [Candidates(*pair) for pair in zip(boxes, scores, strict=True)]
