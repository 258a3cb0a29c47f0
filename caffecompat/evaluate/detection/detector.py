"""Nets that find objects: SSD-style nets and Faster R-CNN-style nets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from caffecompat.data.codec.images import Pixels, resize_image
from caffecompat.data.codec.pixel_operations import resize_by
from caffecompat.data.sources.objects.object_images import Preparation
from caffecompat.errors import NetError
from caffecompat.evaluate.detection.detections import Detections, clipped
from caffecompat.evaluate.detection.region_predictions import Regions, detect_in_regions
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.export.model import CaffeModel
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.solver.setup.compute import ComputeOptions

# The columns of a detection: image, class, score, xmin, ymin, xmax, ymax.
_COLUMNS = 7
# What Faster R-CNN's nets call their boxes, class probabilities and deltas.
_REGIONS = ("rois", "cls_prob", "bbox_pred")
# How many values the size of an image has: height, width, scale; PVANet has four scales.
_WIDE_INFO = 6
_INFO = ((3,), (_WIDE_INFO,))


@dataclass(frozen=True)
class DetectorOptions:
    """How a detector runs.

    Attributes:
        device: where the net runs.
        compute: precision and memory format.
        dialect: see :class:`caffecompat.layers.BuildOptions`.
        min_side, max_side: for Faster R-CNN: an image is scaled so that its shorter side has
            ``min_side`` pixels, but its longer side not more than ``max_side``.
        side_multiple: for PVANet: both sides are cut to multiples of it.
        nms_threshold: for Faster R-CNN: the largest overlap of two detections of a class.
        least_score: for Faster R-CNN: detections with lower scores are dropped.
    """

    device: str | torch.device = "cpu"
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    dialect: str = ""
    min_side: int = 600
    max_side: int = 1000
    side_multiple: int = 32
    nms_threshold: float = 0.3
    least_score: float = 0.05


class Detector(ABC):
    """A net that finds objects in images.

    Args:
        net: the net with its weights.
        preparation: channel order, mean and scale.
        options: how it runs.
    """

    def __init__(self, net: Net, preparation: ImagePreparation, options: DetectorOptions) -> None:
        self.net = net
        self._preparation = preparation
        self._options = options
        options.compute.prepare(net, train=False, blobs=self._read())
        net.requires_grad_(False)

    @abstractmethod
    def __call__(self, pixels: Pixels) -> Detections:
        """The objects in an image.

        Args:
            pixels: uint8, height x width x 3 in B, G, R order, or height x width for a gray one.
        """

    def _run(self, **inputs: Any) -> Mapping[str, Any]:
        """The outputs of the net by name, as arrays on the CPU."""
        compute = self._options.compute
        with torch.no_grad(), compute.whole_pass(), compute.forward(self.net.device):
            self.net.forward(**inputs)
        return {name: self.net.blobs[name].data.float().cpu().numpy() for name in self._read()}

    @abstractmethod
    def _read(self) -> tuple[str, ...]:
        """The blobs that are read after a pass."""


class SingleShotDetector(Detector):
    """A net with one image as input and rows [image, class, score, box] as an output.

    The image is stretched to the net's input. Boxes are relative to the image.
    """

    def __init__(
        self, net: Net, preparation: ImagePreparation, options: DetectorOptions, output: str
    ) -> None:
        self._output = output
        super().__init__(net, preparation, options)
        (self._input,) = net.inputs
        self.size = tuple(net.blobs[self._input].shape[2:])

    def __call__(self, pixels: Pixels) -> Detections:
        height, width = pixels.shape[:2]
        resized = resize_image(pixels, self.size[1], self.size[0])
        values = self._preparation.values(resized)[None]
        rows = self._run(**{self._input: values})[self._output].reshape(-1, _COLUMNS)
        # Without any detection there is a row of -1.
        rows = rows[rows[:, 1] >= 0]
        boxes = rows[:, 3:7] * np.array([width, height, width, height], np.float32)
        labels = rows[:, 1].astype(np.int64)
        return Detections(labels, rows[:, 2], clipped(boxes, height, width)).sorted()

    def _read(self) -> tuple[str, ...]:
        return (self._output,)


class RegionDetector(Detector):
    """Faster R-CNN: an image and its size as inputs, boxes with class probabilities and deltas.

    The image is scaled as py-faster-rcnn does; as PVANet does, where the net's second input has
    six values, which are the size and a scale for each of x, y, x, y. Class 0 is the background.
    """

    def __init__(
        self, net: Net, preparation: ImagePreparation, options: DetectorOptions, image: str
    ) -> None:
        super().__init__(net, preparation, options)
        self._image = image
        (self._info,) = (name for name in net.inputs if name != image)

    def __call__(self, pixels: Pixels) -> Detections:
        height, width = pixels.shape[:2]
        size, scales = self._scaling(height, width)
        # The mean is subtracted before the scaling, so that scaled values are not rounded.
        plain: Any = self._preparation.values(pixels).transpose(1, 2, 0)
        scaled = resize_by(np.ascontiguousarray(plain), *size, "LINEAR").transpose(2, 0, 1)
        info = np.array([[*size, *scales]], np.float32)
        found = self._run(**{self._image: scaled[None], self._info: info})
        rois, scores, deltas = (found[name] for name in _REGIONS)
        regions = Regions(
            rois.reshape(-1, 5)[:, 1:] / np.asarray(scales, np.float32),
            _as_rows(scores),
            _as_rows(deltas),
        )
        options = self._options
        kept = detect_in_regions(regions, (height, width), options.nms_threshold)
        return kept.above(options.least_score)

    def _scaling(self, height: int, width: int) -> tuple[tuple[int, int], tuple[float, ...]]:
        """The size of the scaled image, and its scale: one, or those of x, y, x and y."""
        options = self._options
        preparation = Preparation((), options.min_side, options.max_side, options.side_multiple)
        if self.net.blobs[self._info].shape[-1] == _WIDE_INFO:
            size = preparation.cut(height, width)
            return size, (size[1] / width, size[0] / height) * 2
        scale = preparation.scale(height, width)
        return (max(1, round(height * scale)), max(1, round(width * scale))), (scale,)

    def _read(self) -> tuple[str, ...]:
        return _REGIONS


def _as_rows(values: Any) -> Any:
    """One row for each region, of which there may be none."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def open_detector(
    model: CaffeModel, preparation: ImagePreparation, options: DetectorOptions | None = None
) -> Detector:
    """The detector that a deploy net is.

    Args:
        model: a deploy net with its weights.
        preparation: channel order, mean and scale of images.
        options: how it runs.

    Raises:
        NetError: it is neither kind of net.
        WeightsError: the weights do not fit.
    """
    options = options or DetectorOptions()
    net = Net(model.definition, model.weights, device=options.device, dialect=options.dialect)
    images = [name for name in net.inputs if len(net.blobs[name].shape) == 4]
    rows = [name for name in net.outputs if _holds_rows(tuple(net.blobs[name].shape))]
    if len(net.inputs) == len(images) == len(rows) == 1:
        return SingleShotDetector(net, preparation, options, rows[0])
    info = [name for name in net.inputs if net.blobs[name].shape[-1:] in _INFO]
    if len(images) == 1 and len(net.inputs) == 2 and info and set(_REGIONS) <= set(net.blobs):
        return RegionDetector(net, preparation, options, images[0])
    shapes = [f"{name!r} {format_shape(net.blobs[name].shape)}" for name in net.outputs]
    raise NetError(
        f"{model.path}: the net is no detector that is known here: it has the inputs "
        f"{', '.join(map(repr, net.inputs)) or 'none'} and the outputs {', '.join(shapes)}. "
        "Expected one image and rows of 7 (SSD), or an image and its size, with the blobs "
        f"{', '.join(_REGIONS)} (Faster R-CNN); give the definition for detection with --model: "
        "SSD's deploy.prototxt, which ends in DetectionOutput, or Faster R-CNN's test.prototxt"
    )


def _holds_rows(shape: tuple[int, ...]) -> bool:
    """Whether a blob has the shape of detections, (1, 1, K, 7)."""
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == _COLUMNS
