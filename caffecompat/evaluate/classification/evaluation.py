"""Class posteriors of a set of images under test protocols and at several scales."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.errors import DataError
from caffecompat.evaluate.classification import posteriors as posteriors_file
from caffecompat.evaluate.classification.error_rates import top_k_error
from caffecompat.evaluate.classification.posterior_net import Average, PosteriorNet
from caffecompat.evaluate.classification.posteriors import NO_LABEL, Posteriors
from caffecompat.evaluate.images.inference_net import InputSize
from caffecompat.evaluate.images.labelled_images import LabelledImage, LabelledImages
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.images.unusable_images import read_if_usable
from caffecompat.evaluate.model_digest import model_digest
from caffecompat.evaluate.protocol import Protocol, protocols
from caffecompat.evaluate.unfinished import UnfinishedEvaluation
from caffecompat.export.model import CaffeModel
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.setup.compute import ComputeOptions

# Images of one part are decoded together, so that those of like shapes can share a batch.
PART = 64
# Batches that are prepared while the net works on another one.
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class EvaluationOptions:
    """The test protocol.

    Attributes:
        protocols: names of protocols; the posteriors of several are averaged.
        scales: smallest sides of the images, in pixels; the posteriors of several are averaged.
        flip: average with the posteriors of the mirrored images.
        average: whether scores or posteriors are averaged over the map of a dense evaluation.
        batch: images of the size of the net's input in one batch; larger images make smaller
            batches.
        skip_corrupt: leave out images that cannot be read.
    """

    protocols: tuple[str, ...] = ("center",)
    scales: tuple[int, ...] = (256,)
    flip: bool = True
    average: Average = "scores"
    batch: int = 16
    skip_corrupt: bool = False

    def as_json(self) -> dict[str, Any]:
        """What decides the result, for the file of posteriors."""
        decisive = {key: value for key, value in asdict(self).items() if key != "skip_corrupt"}
        return {**decisive, "protocols": list(self.protocols), "scales": list(self.scales)}


@dataclass
class Evaluation:
    """Evaluates a model on a set of images.

    Args:
        model: a deploy net with its weights.
        preparation: how images become inputs.
        options: the protocol.
        device: where the nets run.
        compute: their precision.
    """

    model: CaffeModel
    preparation: ImagePreparation
    options: EvaluationOptions
    device: str | torch.device = "cpu"
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        kinds = [protocols.find(name) for name in self.options.protocols]
        self._protocols: list[Protocol] = [kind() for kind in kinds]
        self._nets = {
            dense: PosteriorNet(self.model, dense, self.options.average, self.device, self.compute)
            for dense in sorted({protocol.dense for protocol in self._protocols})
        }
        self.size.check_scales(self.options.scales)

    @cached_property
    def _digest(self) -> str:
        return model_digest(self.model)

    @property
    def size(self) -> InputSize:
        """The size of the net's input."""
        return next(iter(self._nets.values())).size

    @property
    def classes(self) -> int:
        return next(iter(self._nets.values())).classes

    def run(
        self,
        images: LabelledImages,
        output: str | None = None,
        group: ProcessGroup | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Posteriors:
        """The posteriors of all images.

        Args:
            images: of the net's number of channels.
            output: the file of posteriors to write; until then finished parts are kept beside it,
                and a later run with the same arguments goes on behind them. None writes nothing.
            group: the ranks that share the work; the result is the same for any number of them.
            progress: called with the numbers of finished and of all images, and the error so far.
                An image counts as finished in part while a scale or protocol is left.

        Raises:
            DataError: an image cannot be read (without ``skip_corrupt``) or is too small, a label
                is not one of the net's classes, or ``output`` belongs to other settings.
        """
        group = group or ProcessGroup()
        self._check_classes(images)
        files = (posteriors_file.load, posteriors_file.save)
        kept = UnfinishedEvaluation(output, self.settings(images), *files, several=group.several)
        found: dict[int, Posteriors] = {}
        parts = range(0, len(images), PART)
        own = [part for part in range(len(parts)) if part % group.world_size == group.rank]
        indices = [range(first, min(first + PART, len(images))) for first in parts]
        count = _Count(sum(len(indices[part]) for part in own), progress)
        for part in own:
            result = kept.load(part)
            if result is None:
                result = self._evaluate(images, indices[part], count)
                kept.save(part, result)
            found[part] = result
            count.finish(len(indices[part]), _errors_so_far(found))
        together: dict[int, Posteriors] = {}
        for others in group.gather(found):
            together.update(others)
        result = _joined([together[part] for part in sorted(together)], self.settings(images))
        if output is not None and group.first:
            posteriors_file.save(result, output)
            kept.remove()
        return result

    def settings(self, images: LabelledImages) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            **self.options.as_json(),
            "images": len(images),
            "data": images.path,
            "model": self._digest,
            **self.preparation.as_json(),
            **self.compute.settings(),
        }

    def _check_classes(self, images: LabelledImages) -> None:
        count = len(images.class_names)
        if count not in (0, self.classes):
            raise DataError(
                f"{images.path}: it has {count} sub-folders, one for each class, but the net has "
                f"{self.classes} classes; make an empty sub-folder for each class without images, "
                "or give a list of images with the labels of the net"
            )

    def _evaluate(
        self, images: LabelledImages, indices: Sequence[int], count: _Count
    ) -> Posteriors:
        """The posteriors of some images."""
        loaded = list(threaded_map(partial(self._read, images), indices))
        usable = [image for image in loaded if image is not None]
        kept = [index for index, image in zip(indices, loaded, strict=True) if image is not None]
        sums = np.zeros((len(usable), self.classes))
        passes = list(itertools.product(self._protocols, self.options.scales))
        count.begin(len(indices), len(usable) * len(passes))
        for protocol, scale in passes:
            sums += self._posteriors(usable, protocol, scale, count)
        labels = [NO_LABEL if image.label is None else image.label for image in usable]
        names = tuple(image.name for image in usable)
        values = (sums / len(passes)).astype(np.float32)
        return Posteriors(names, np.array(kept, np.int64), np.array(labels, np.int64), values)

    def _read(self, images: LabelledImages, index: int) -> LabelledImage | None:
        read = partial(self._read_checked, images)
        image = read_if_usable(read, index, self.options.skip_corrupt)
        if image is None:
            return None
        if image.label is not None and not 0 <= image.label < self.classes:
            raise DataError(
                f"{images.path}: image {image.name!r} has the label {image.label}, but the net has "
                f"the classes 0 to {self.classes - 1}"
            )
        return image

    def _read_checked(self, images: LabelledImages, index: int) -> LabelledImage:
        """An image that is large enough for all scales."""
        image = images.read(index)
        try:
            for scale in self.options.scales:
                self.preparation.size(image.pixels, scale)
        except DataError as error:
            raise DataError(f"image {image.name!r}: {error}") from error
        return image

    def _posteriors(
        self, images: Sequence[LabelledImage], protocol: Protocol, scale: int, count: _Count
    ) -> NDArray[np.float64]:
        """The posteriors under one protocol at one scale, averaged over crops and flips."""
        sums = np.zeros((len(images), self.classes))
        counts = np.zeros((len(images), 1))
        net = self._nets[protocol.dense]
        work = partial(self._views, images, protocol, scale)
        batches = self._batches(images, protocol, scale)
        for members, batch in threaded_map(work, batches, ahead=_BATCHES_AHEAD):
            values = net(batch)
            if self.options.flip:
                values = (values + net(batch.flip(3))) / 2
            np.add.at(sums, members, values.double().cpu().numpy())
            np.add.at(counts, members, 1)
            count.advance(len(np.unique(members)))
        return sums / counts

    def _batches(
        self, images: Sequence[LabelledImage], protocol: Protocol, scale: int
    ) -> Iterator[list[int]]:
        """Indices of images whose views have one shape and fit into one batch."""
        shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            size = self.preparation.size(image.pixels, scale)
            shapes[size if protocol.dense else self.size.crop].append(index)
        limit = self.options.batch * self.size.height * self.size.width
        for (height, width), members in sorted(shapes.items()):
            views = 1 if protocol.dense else len(protocol.corners(height, width, self.size.crop))
            count = max(1, limit // (views * height * width))
            for start in range(0, len(members), count):
                yield members[start : start + count]

    def _views(
        self, images: Sequence[LabelledImage], protocol: Protocol, scale: int, members: list[int]
    ) -> tuple[NDArray[np.int64], torch.Tensor]:
        """The index of the image of each view, and the views as one batch."""
        views: list[NDArray[np.float32]] = []
        owners: list[int] = []
        for index in members:
            scaled = self.preparation.at_scale(images[index].pixels, scale)
            parts = protocol.views(scaled, self.size.crop)
            views += parts
            owners += [index] * len(parts)
        return np.array(owners), torch.from_numpy(np.stack(views))


class _Count:
    """How much of a run is done, in images; those of the part that is at work count by shares.

    Args:
        total: the images of the run.
        progress: called with finished and all images, and the error so far; None for no report.
    """

    def __init__(self, total: int, progress: Callable[[int, int, str], None] | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0
        self._images = self._worked = self._work = 0
        self._note = ""

    def begin(self, images: int, work: int) -> None:
        """Begins a part of some images, to be worked on ``work`` times in all."""
        self._images, self._work, self._worked = images, work, 0

    def advance(self, images: int) -> None:
        """Counts images that the net has worked on once."""
        self._worked += images
        if self._worked < self._work:
            self._show(self._done + self._images * self._worked // self._work)

    def finish(self, images: int, note: str) -> None:
        """Counts a part as a whole."""
        self._done += images
        self._note = note
        self._show(self._done)

    def _show(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total, self._note)


def _joined(parts: Sequence[Posteriors], settings: dict[str, Any]) -> Posteriors:
    names = tuple(name for part in parts for name in part.names)
    if not names:
        raise DataError("none of the images can be read, so there is nothing to evaluate")
    indices = np.concatenate([part.indices for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Posteriors(names, indices, labels, values, settings)


def _errors_so_far(found: dict[int, Posteriors]) -> str:
    values = np.concatenate([part.values for part in found.values()])
    labels = np.concatenate([part.labels for part in found.values()])
    usable = labels != NO_LABEL
    if not usable.any():
        return ""
    values, labels = values[usable], labels[usable]
    one, five = (100 * top_k_error(values, labels, k) for k in (1, 5))
    return f"top-1 error {one:.2f} %, top-5 error {five:.2f} %"
