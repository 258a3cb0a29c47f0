"""The localisation error of nets on annotated images."""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from caffecompat.solver.distributed.process_group import ProcessGroup

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
    group: ProcessGroup | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> LocalisedImages:
    """Predicts boxes for all images.

    Args:
        images: of the net's number of channels.
        protocol: how.
        batch: images that the protocol gets at once.
        skip_corrupt: leave out images that cannot be read.
        group: the ranks that share the images; each gets the result of all.
        progress: called with the numbers of this rank's finished and of all its images, and the
            error so far.

    Raises:
        DataError: an image cannot be read (without ``skip_corrupt``), or none can; as
            :meth:`LocalisationProtocol.predict`.
    """
    group = group or ProcessGroup()
    own = range(group.rank, len(images), group.world_size)
    read = partial(_read, images, skip_corrupt)
    found: list[tuple[int, Prediction, Truth]] = []
    done = wrong = 0
    results = threaded_map(read, own, ahead=2 * batch)
    while taken := list(islice(results, batch)):
        present = [result for result in taken if result is not None]
        predictions = protocol.predict([image for _, image in present]) if present else []
        for (index, image), prediction in zip(present, predictions, strict=True):
            found.append((index, prediction, image.truth))
            wrong += not is_right(prediction, image.truth)
        done += len(taken)
        if progress is not None:
            note = f"localisation error {100 * wrong / len(found):.2f} %" if found else ""
            progress(done, len(own), note)
    together = [entry for part in group.gather(found) for entry in part]
    if not together:
        raise DataError(f"{images.path}: none of the images can be read")
    together.sort(key=lambda entry: entry[0])
    indices, all_predictions, truths = zip(*together, strict=True)
    return LocalisedImages(indices, all_predictions, truths)


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
