"""What the test protocols of localisation have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImage
from caffecompat.evaluate.localisation.box_net import BoxNet, WindowScores
from caffecompat.evaluate.localisation.localisation_error import Prediction
from caffecompat.evaluate.model_digest import model_digest


@dataclass(frozen=True)
class Localiser:
    """One localisation net and the images that it gets.

    Attributes:
        net: predicts the boxes.
        preparation: how images become inputs.
        scales: smallest sides of the images, in pixels.
        scores: the class posteriors of the windows; None where those of the whole image are used.

    Raises:
        DataError: an image of such a scale cannot fill the net's input.
    """

    net: BoxNet
    preparation: ImagePreparation
    scales: tuple[int, ...]
    scores: WindowScores | None = None

    def __post_init__(self) -> None:
        self.net.size.check_scales(self.scales)

    def settings(self) -> dict[str, Any]:
        """All that decides the boxes, as JSON values."""
        scores = None if self.scores is None else model_digest(self.scores.map_net.model)
        return {
            "net": model_digest(self.net.map_net.model),
            "scales": list(self.scales),
            "scores": scores,
            **self.preparation.as_json(),
            **self.net.map_net.compute.settings(),
        }


class LocalisationProtocol(ABC):
    """One way to predict boxes for images."""

    @abstractmethod
    def predict(self, images: Sequence[AnnotatedImage]) -> list[Prediction]:
        """The classes and boxes of each image.

        Raises:
            DataError: an image cannot be prepared, or its class is not one of the net's.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides the predictions, as JSON values."""
