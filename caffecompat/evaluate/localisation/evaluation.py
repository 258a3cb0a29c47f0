"""Boxes predicted for annotated images, part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.errors import DataError
from caffecompat.evaluate.images.unusable_images import read_if_usable
from caffecompat.evaluate.localisation import localised_images
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImage, AnnotatedImages
from caffecompat.evaluate.localisation.localisation_error import Prediction, is_right
from caffecompat.evaluate.localisation.localised_images import LocalisedImages
from caffecompat.evaluate.localisation.protocol import LocalisationProtocol
from caffecompat.evaluate.unfinished import UnfinishedEvaluation
from caffecompat.solver.distributed.process_group import ProcessGroup

# Images whose boxes are kept together while a run is unfinished.
PART = 16


@dataclass(frozen=True)
class LocalisationOptions:
    """How a set of images is worked through; none of it changes the boxes.

    Attributes:
        batch: images that the protocol gets at once.
        skip_corrupt: leave out images that cannot be read.
        output: the file of boxes to write; until then finished parts are kept beside it, and a
            later run with the same settings goes on behind them. None writes nothing.
    """

    batch: int = 16
    skip_corrupt: bool = False
    output: str | None = None


def localise(
    images: AnnotatedImages,
    protocol: LocalisationProtocol,
    options: LocalisationOptions | None = None,
    group: ProcessGroup | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> LocalisedImages:
    """Predicts boxes for all images.

    Args:
        images: of the net's number of channels.
        protocol: how.
        options: see :class:`LocalisationOptions`.
        group: the ranks that share the images; each gets the result of all.
        progress: called with the numbers of this rank's finished and of all its images, and the
            error so far.

    Raises:
        DataError: an image cannot be read (without ``skip_corrupt``), or none can; the output
            belongs to other settings; as :meth:`LocalisationProtocol.predict`.
    """
    group, options = group or ProcessGroup(), options or LocalisationOptions()
    settings = {"images": len(images), "data": images.path, **protocol.settings()}
    kept = UnfinishedEvaluation(
        options.output,
        settings,
        localised_images.load,
        localised_images.save,
        several=group.several,
    )
    own = range(group.rank, -(-len(images) // PART), group.world_size)
    total = sum(len(_indices(images, part)) for part in own)
    work = _Localisation(images, protocol, options, total, progress)
    found = []
    for part in own:
        result = kept.load(part)
        if result is None:
            result = work.run(_indices(images, part))
            kept.save(part, result)
        else:
            work.count(result, len(_indices(images, part)))
        found.append(result)
    together = localised_images.joined(
        [part for parts in group.gather(found) for part in parts], settings
    )
    if not together.names:
        raise DataError(f"{images.path}: none of the images can be read")
    if options.output is not None and group.first:
        localised_images.save(together, options.output)
        kept.remove()
    return together


def _indices(images: AnnotatedImages, part: int) -> range:
    return range(part * PART, min((part + 1) * PART, len(images)))


class _Localisation:
    """Predicts boxes for parts of a set of images, and reports the error so far."""

    def __init__(
        self,
        images: AnnotatedImages,
        protocol: LocalisationProtocol,
        options: LocalisationOptions,
        total: int,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self._images, self._protocol, self._options = images, protocol, options
        self._total, self._progress = total, progress
        self._done = self._used = self._wrong = 0

    def run(self, indices: Sequence[int]) -> LocalisedImages:
        """The boxes of some images."""
        batch = self._options.batch
        parts = []
        read = partial(_read, self._images, self._options.skip_corrupt)
        results = threaded_map(read, indices, ahead=2 * batch)
        while taken := list(islice(results, batch)):
            present = [result for result in taken if result is not None]
            images = [image for _, image in present]
            predictions = self._protocol.predict(images) if images else []
            part = _part([index for index, _ in present], images, predictions)
            self.count(part, len(taken))
            parts.append(part)
        return localised_images.joined(parts, {})

    def count(self, part: LocalisedImages, images: int) -> None:
        """Adds a finished part, which came of ``images`` images, to the report."""
        pairs = zip(part.predictions, part.truths, strict=True)
        self._wrong += sum(not is_right(*pair) for pair in pairs)
        self._used += len(part.names)
        self._done += images
        if self._progress is not None:
            used = self._used
            note = f"localisation error {100 * self._wrong / used:.2f} %" if used else ""
            self._progress(self._done, self._total, note)


def _part(
    indices: Sequence[int], images: Sequence[AnnotatedImage], predictions: Sequence[Prediction]
) -> LocalisedImages:
    names = tuple(image.name for image in images)
    truths = tuple(image.truth for image in images)
    return LocalisedImages(names, tuple(indices), tuple(predictions), truths)


def _read(
    images: AnnotatedImages, skip_corrupt: bool, index: int
) -> tuple[int, AnnotatedImage] | None:
    image = read_if_usable(images.read, index, skip_corrupt)
    return None if image is None else (index, image)
