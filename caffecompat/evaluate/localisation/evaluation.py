"""The localisation error of nets on annotated images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.errors import DataError
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImage, AnnotatedImages
from caffecompat.evaluate.localisation.localisation_error import (
    Prediction,
    Truth,
    is_right,
    localisation_error,
)
from caffecompat.evaluate.localisation.protocol import LocalisationProtocol

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalisedImages:
    """The predictions for a set of images.

    Attributes:
        indices: their places in the list; images that were left out are missing.
        predictions, truths: one per image.
    """

    indices: tuple[int, ...]
    predictions: tuple[Prediction, ...]
    truths: tuple[Truth, ...]

    @property
    def error(self) -> float:
        """The share of images without a right prediction, 0 to 1."""
        return localisation_error(self.predictions, self.truths)

    @property
    def class_error(self) -> float:
        """The share of images whose class is not among the predicted ones, 0 to 1."""
        pairs = list(zip(self.predictions, self.truths, strict=True))
        return sum(truth.label not in found.classes for found, truth in pairs) / len(pairs)


def localise(
    images: AnnotatedImages,
    protocol: LocalisationProtocol,
    batch: int = 16,
    skip_corrupt: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> LocalisedImages:
    """Predicts boxes for all images.

    Args:
        images: of the net's number of channels.
        protocol: how.
        batch: images that the protocol gets at once.
        skip_corrupt: leave out images that cannot be read.
        progress: called with the numbers of finished and of all images, and the error so far.

    Raises:
        DataError: an image cannot be read (without ``skip_corrupt``), or none can; as
            :meth:`LocalisationProtocol.predict`.
    """
    indices: list[int] = []
    predictions: list[Prediction] = []
    truths: list[Truth] = []
    wrong = 0
    read = partial(_read, images, skip_corrupt)
    for group in _groups(threaded_map(read, range(len(images)), ahead=2 * batch), batch):
        present = [image for _, image in group]
        if present:
            found = protocol.predict(present)
            predictions += found
            truths += [image.truth for image in present]
            indices += [index for index, _ in group]
            pairs = zip(found, present, strict=True)
            wrong += sum(not is_right(one, image.truth) for one, image in pairs)
        if progress is not None and indices:
            note = f"localisation error {100 * wrong / len(indices):.2f} %"
            progress(indices[-1] + 1, len(images), note)
    if not indices:
        raise DataError(f"{images.path}: none of the images can be read")
    return LocalisedImages(tuple(indices), tuple(predictions), tuple(truths))


def _read(
    images: AnnotatedImages, skip_corrupt: bool, index: int
) -> tuple[int, AnnotatedImage] | None:
    try:
        return index, images.read(index)
    except DataError as error:
        if not skip_corrupt:
            raise DataError(
                f"{error}; --skip-corrupt leaves out images that cannot be used"
            ) from error
        log.warning("%s; it is left out", error)
        return None


def _groups(
    results: Iterator[tuple[int, AnnotatedImage] | None], size: int
) -> Iterator[list[tuple[int, AnnotatedImage]]]:
    while group := list(islice(results, size)):
        yield [result for result in group if result is not None]
