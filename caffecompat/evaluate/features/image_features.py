"""Image descriptors of a net's penultimate activations (VGG paper, Appendix B)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels
from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.errors import DataError
from caffecompat.evaluate.features.feature_file import normalized
from caffecompat.evaluate.images.inference_net import InferenceNet, input_size
from caffecompat.evaluate.images.labelled_images import LabelledImage, LabelledImages
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.images.unusable_images import read_if_usable
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.net import Net
from caffecompat.reporting.progress import Progress
from caffecompat.solver.setup.compute import ComputeOptions

Pooling = Literal["average", "max", "stack"]
Part = Literal["image", "box", "both"]
_IMAGES_AHEAD = 4


@dataclass(frozen=True)
class FeatureOptions:
    """How the descriptor of an image is computed.

    Attributes:
        blob: whose activations are taken; empty for the bottom of the last layer with weights.
        scales: smallest sides of the images, in pixels.
        pooling: descriptors of several scales are averaged, or combined by the maximum of each
            element, or stacked into a longer one. The paper stacks if the classes depend on the
            size of objects, else it averages; it found the maximum no better than the average.
        flip: average with the descriptor of the mirrored image.
        normalize: divide by the Euclidean norm: each scale's descriptor, their combination, and
            the result.
        part: the whole image, the box of its object, or both, whose descriptors are stacked. A box
            is cut out and then rescaled like an image.
        skip_corrupt: leave out images that cannot be used.
    """

    blob: str = ""
    scales: tuple[int, ...] = (256,)
    pooling: Pooling = "average"
    flip: bool = True
    normalize: bool = True
    part: Part = "image"
    skip_corrupt: bool = False


class FeatureNet:
    """A fully convolutional net up to one blob, whose values are averaged over the map.

    Args:
        model: a deploy net with its weights.
        blob: the blob; empty for the bottom of the last layer with weights.
        device: where the net runs.
        compute: precision and memory format.

    Attributes:
        blob: the name of the blob.
        length: the number of its channels.
        size: of the net's input.

    Raises:
        BlobError: there is no such blob.
        NetError, ExportError: as for
            :class:`caffecompat.evaluate.classification.posterior_net.PosteriorNet`.
    """

    def __init__(
        self,
        model: CaffeModel,
        blob: str = "",
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self.size = input_size(model)
        self.blob = blob or penultimate_blob(model)
        dense = fully_convolutional(_until(model, self.blob))
        self._net = InferenceNet(dense.definition, dense.weights, device, compute)
        self.length = self._net.net.blobs[self.blob].shape[1]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Descriptors, N x channels, of images, N x channels x height x width."""
        values = self._net(batch)
        maps = values[next(v for v in values if v.blob == self.blob)].float()
        return maps.reshape(*maps.shape[:2], -1).mean(2)


def penultimate_blob(model: CaffeModel) -> str:
    """The bottom of the last layer with weights: the activations before the classifier."""
    net = Net(model.definition, shapes_only=True)
    last = [built for built in net.layers if built.layer is not None and built.layer.specs][-1]
    return last.bottoms[0].blob


def _until(model: CaffeModel, blob: str) -> CaffeModel:
    """The model up to the last layer that writes ``blob``."""
    net = Net(model.definition, shapes_only=True)
    net.blobs[blob]
    writers = [i for i, built in enumerate(net.layers) if blob in {t.blob for t in built.tops}]
    kept = {built.name for built in net.layers[: writers[-1] + 1]}
    message = type(model.definition.message)()
    message.CopyFrom(net.definition)
    layers = [layer for layer in message.layer if layer.name in kept]
    del message.layer[:]
    message.layer.extend(layers)
    return replace(model, definition=replace(model.definition, message=message))


@dataclass
class FeatureExtraction:
    """Descriptors of a set of images.

    Args:
        model: a deploy net with its weights.
        preparation: how images become inputs.
        options: how the descriptors are computed.
        device, compute: of the net.
    """

    model: CaffeModel
    preparation: ImagePreparation
    options: FeatureOptions
    device: str | torch.device = "cpu"
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        self.net = FeatureNet(self.model, self.options.blob, self.device, self.compute)
        self.net.size.check_scales(self.options.scales)

    @property
    def length(self) -> int:
        """The length of a descriptor."""
        stacked = len(self.options.scales) if self.options.pooling == "stack" else 1
        return self.net.length * stacked * (2 if self.options.part == "both" else 1)

    def run(
        self, images: LabelledImages, progress: Progress | None = None
    ) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
        """Each image with its descriptor.

        Raises:
            DataError: an image cannot be used (without ``skip_corrupt``), or the images have no
                boxes and ``part`` needs them.
        """
        if self.options.part != "image" and not images.has_boxes:
            raise DataError(
                f"{images.path}: its images have no boxes, which --part {self.options.part} needs; "
                "give a folder of PASCAL VOC as --data, and --voc Action/train"
            )
        prepared = threaded_map(
            partial(self._prepare, images), range(len(images)), ahead=_IMAGES_AHEAD
        )
        for number, found in enumerate(prepared, 1):
            if found is not None:
                image, scaled = found
                yield image, self._descriptor(scaled)
            if progress is not None:
                progress(number, len(images))

    def _prepare(
        self, images: LabelledImages, index: int
    ) -> tuple[LabelledImage, list[list[torch.Tensor]]] | None:
        """An image, and its parts at all scales; None for one that is left out."""
        return read_if_usable(partial(self._read, images), index, self.options.skip_corrupt)

    def _read(
        self, images: LabelledImages, index: int
    ) -> tuple[LabelledImage, list[list[torch.Tensor]]]:
        image = images.read(index)
        return image, [
            [
                torch.from_numpy(self._at_scale(image, pixels, scale))
                for scale in self.options.scales
            ]
            for pixels in self._parts(image)
        ]

    def _at_scale(self, image: LabelledImage, pixels: Pixels, scale: int) -> NDArray[np.float32]:
        try:
            return self.preparation.at_scale(pixels, scale)[None]
        except DataError as error:
            part = "" if pixels is image.pixels else "the box of "
            raise DataError(f"{part}image {image.name!r}: {error}") from error

    def _parts(self, image: LabelledImage) -> list[Pixels]:
        parts = []
        if self.options.part != "box":
            parts.append(image.pixels)
        if self.options.part != "image":
            parts.append(image.in_box())
        return parts

    def _descriptor(self, parts: Sequence[Sequence[torch.Tensor]]) -> NDArray[np.float32]:
        return self._normalized(np.concatenate([self._of_part(scaled) for scaled in parts]))

    def _of_part(self, scaled: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """The descriptor of one part of an image, which is given at all scales."""
        found = []
        for batch in scaled:
            both = torch.cat([batch, batch.flip(3)]) if self.options.flip else batch
            found.append(self._normalized(self.net(both).mean(0).cpu().numpy()))
        return self._normalized(combined(found, self.options.pooling))

    def _normalized(self, descriptor: NDArray[np.float32]) -> NDArray[np.float32]:
        return normalized(descriptor) if self.options.normalize else descriptor


def combined(descriptors: Sequence[NDArray[np.float32]], pooling: Pooling) -> NDArray[np.float32]:
    """One descriptor of those of several scales, which have one length."""
    if pooling == "stack":
        return np.concatenate(descriptors)
    rows = np.stack(descriptors)
    whole: NDArray[np.float32] = rows.max(0) if pooling == "max" else rows.mean(0)
    return whole
