"""Nets that predict boxes, or class posteriors, at each place of a map, and the places' windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.errors import DataError, NetError
from caffecompat.evaluate.classification.posterior_net import without_softmax
from caffecompat.evaluate.images.inference_net import InferenceNet, input_size
from caffecompat.evaluate.localisation.box_predictions import from_window
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.net import Net
from caffecompat.net.analysis.receptive_field import receptive_fields
from caffecompat.solver.setup.compute import ComputeOptions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """The outputs of a net at the places of a map.

    Attributes:
        values: (N, places, channels).
        windows: (places, 4): left, top, width and height of the part of the image that an output
            belongs to, in pixels of the net's input.
    """

    values: Floats
    windows: Floats


class MapNet:
    """A net whose output is computed wherever its input window fits into an image.

    The output at row i and column j of the map belongs to the window of the net's input size whose
    upper left corner is i times and j times the stride away from that of the image. (In a net with
    padding the outputs also see what lies around the window, where a crop would have zeros.)

    Args:
        model: a deploy net with one input and one output; a softmax at its end is removed.
        device: where the net runs.
        compute: precision and memory format.

    Attributes:
        model: as it was given.
        compute: as it was given, or single precision.
        size: of the net's input.
        channels: of its output.

    Raises:
        NetError: it has several inputs or outputs, or no stride can be told.
        ExportError: it cannot be made fully convolutional.
    """

    def __init__(
        self,
        model: CaffeModel,
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self.path = model.path
        self.model = model
        self.compute = compute or ComputeOptions()
        self.size = input_size(model)
        model = fully_convolutional(model)
        self._net = InferenceNet(without_softmax(model), model.weights, device, compute)
        net = self._net.net
        shape = net.blobs[net.outputs[0]].shape
        self.channels = shape[1]
        if len(shape) != 4 or tuple(shape[2:]) != (1, 1):
            raise NetError(
                f"{model.path}: at its own input size the net's output has the shape "
                f"{tuple(shape)}, expected one row of numbers for each image"
            )
        self.stride = _stride(net, model.path)

    def __call__(self, batch: torch.Tensor) -> Map:
        """The outputs for a batch: N x channels x height x width, float32, on any device."""
        (values,) = self._net(batch).values()
        rows, columns = values.shape[2:]
        flat = values.float().reshape(len(values), self.channels, -1).transpose(1, 2)
        return Map(flat.cpu().double().numpy(), self._windows(rows, columns))

    def _windows(self, rows: int, columns: int) -> Floats:
        top, left = np.meshgrid(
            np.arange(rows) * self.stride[0], np.arange(columns) * self.stride[1], indexing="ij"
        )
        sides = np.broadcast_to([self.size.width, self.size.height], (rows * columns, 2))
        return np.concatenate([left.reshape(-1, 1), top.reshape(-1, 1), sides], 1)


def _stride(net: Net, path: str) -> tuple[float, float]:
    """The distance between the windows of neighbouring places: down, across, in pixels."""
    reason = "its output does not come from images"
    for built, row in zip(net.layers, receptive_fields(net.layers), strict=True):
        reason = f"layer {built.name!r}: {row.reason}" if row.reason else reason
        if net.outputs[0] in {top.blob for top in built.tops} and row.field is not None:
            return float(row.field.stride[0]), float(row.field.stride[1])
    raise NetError(
        f"{path}: the places of the output in the image are unknown: {reason}; remove that layer, "
        "or give a global pooling the size of its map as kernel_h and kernel_w instead"
    )


class BoxNet:
    """Boxes predicted by a regression net, at each place of an image (VGG paper, Appendix A.1).

    Args:
        model: a deploy net with 4 outputs for each image (one box for all classes), or 4 for each
            class, those of class c from 4 * c on: centre x and y, width and height of a box, as
            fractions of the width and height of the net's input.
        device, compute: see :class:`MapNet`.

    Attributes:
        size: of the net's input.
        classes: the number of boxes at each place; 1 for a net whose boxes are for all classes.

    Raises:
        NetError: the number of outputs is not a multiple of 4; as :class:`MapNet`.
    """

    def __init__(
        self,
        model: CaffeModel,
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self.map_net = MapNet(model, device, compute)
        self.size = self.map_net.size
        if self.map_net.channels % 4:
            raise NetError(
                f"{model.path}: the net has {self.map_net.channels} outputs for each image, which "
                "is no multiple of 4; a localisation net predicts 4 numbers, or 4 for each class"
            )
        self.classes = self.map_net.channels // 4

    def __call__(self, batch: torch.Tensor) -> Floats:
        """The boxes in each image of a batch (N x channels x height x width).

        Returns:
            (N, places, classes, 4): boxes as fractions of the width and height of the images. An
            image of the net's input size has one place.
        """
        found = self.map_net(batch)
        boxes = found.values.reshape(*found.values.shape[:2], self.classes, 4)
        height, width = batch.shape[2:]
        inside = from_window(boxes, found.windows[:, None])
        return inside / np.array([width, height, width, height])


class WindowScores:
    """Class posteriors of the windows that boxes are predicted from.

    Args:
        model: a classification net (deploy) with the places of the box net's map.
        box_net: the box net.
        device, compute: see :class:`MapNet`.

    Raises:
        NetError: the net has other places; as :class:`MapNet`.
    """

    def __init__(
        self,
        model: CaffeModel,
        box_net: BoxNet,
        device: str | torch.device = "cpu",
        compute: ComputeOptions | None = None,
    ) -> None:
        self.map_net = MapNet(model, device, compute)
        own, other = self.map_net, box_net.map_net
        if own.size != other.size or own.stride != other.stride:
            raise NetError(
                f"{model.path}: its input is {own.size.height}x{own.size.width} and its stride "
                f"{own.stride[0]:g}x{own.stride[1]:g}, those of {other.path} are "
                f"{other.size.height}x{other.size.width} and {other.stride[0]:g}x"
                f"{other.stride[1]:g}; the net that scores the boxes must have the same windows"
            )
        self.classes = own.channels

    def __call__(self, batch: torch.Tensor) -> Floats:
        """The posteriors for a batch: (N, places, classes)."""
        scores = self.map_net(batch).values
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        posteriors: Floats = exponentials / exponentials.sum(-1, keepdims=True)
        return posteriors


def check_classes(path: str, boxes: int, classes: int) -> None:
    """Refuses a net with boxes for another number of classes; one box is for all.

    Raises:
        DataError: they differ.
    """
    if boxes not in (1, classes):
        raise DataError(
            f"{path}: the net predicts boxes for {boxes} classes, the posteriors are for "
            f"{classes}; give nets for the same classes"
        )
