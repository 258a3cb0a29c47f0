"""Image descriptors of a net's penultimate activations (VGG paper, Appendix B)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.evaluate.images.inference import InferenceNet, input_size
from caffecompat.evaluate.images.labelled_images import LabelledImage, LabelledImages
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.net import Net
from caffecompat.reporting.progress import Progress
from caffecompat.solver.setup.compute import ComputeOptions

Pooling = Literal["average", "stack"]
_IMAGES_AHEAD = 4


@dataclass(frozen=True)
class FeatureOptions:
    """How the descriptor of an image is computed.

    Attributes:
        blob: whose activations are taken; empty for the bottom of the last layer with weights.
        scales: smallest sides of the images, in pixels.
        pooling: descriptors of several scales are averaged, or stacked into a longer one. The
            paper stacks if the classes depend on the size of objects, else it averages.
        flip: average with the descriptor of the mirrored image.
        normalize: divide by the Euclidean norm: each scale's descriptor before stacking, and the
            result.
    """

    blob: str = ""
    scales: tuple[int, ...] = (256,)
    pooling: Pooling = "average"
    flip: bool = True
    normalize: bool = True


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
        NetError, ExportError: as for :class:`PosteriorNet`.
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
        return self.net.length * stacked

    def run(
        self, images: LabelledImages, progress: Progress | None = None
    ) -> Iterator[tuple[LabelledImage, NDArray[np.float32]]]:
        """Each image with its descriptor.

        Raises:
            DataError: an image cannot be read.
        """
        prepared = threaded_map(
            partial(self._prepare, images), range(len(images)), ahead=_IMAGES_AHEAD
        )
        for number, (image, scaled) in enumerate(prepared, 1):
            yield image, self._descriptor(scaled)
            if progress is not None:
                progress(number, len(images))

    def _prepare(
        self, images: LabelledImages, index: int
    ) -> tuple[LabelledImage, list[torch.Tensor]]:
        image = images.read(index)
        scales = self.options.scales
        arrays = [self.preparation.at_scale(image.pixels, scale) for scale in scales]
        return image, [torch.from_numpy(array)[None] for array in arrays]

    def _descriptor(self, scaled: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        parts = []
        for batch in scaled:
            both = torch.cat([batch, batch.flip(3)]) if self.options.flip else batch
            parts.append(self.net(both).mean(0).cpu().numpy())
        if self.options.normalize:
            parts = [normalized(part) for part in parts]
        stack = self.options.pooling == "stack"
        whole = np.concatenate(parts) if stack else np.stack(parts).mean(0)
        return normalized(whole) if self.options.normalize else whole


def normalized(descriptor: NDArray[np.float32]) -> NDArray[np.float32]:
    """A descriptor divided by its Euclidean norm; zeros stay zeros."""
    norm = np.linalg.norm(descriptor)
    return descriptor / norm if norm > 0 else descriptor
