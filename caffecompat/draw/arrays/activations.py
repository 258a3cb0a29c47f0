"""One image through a net, for its activations."""

from __future__ import annotations

import os

import numpy as np

from caffecompat.data.codec.images import read_pixels
from caffecompat.errors import DataError, NetError
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.export.model import CaffeModel
from caffecompat.layers import BuildOptions
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape

_IMAGE_AXES = 4


def net_after_image(
    model: CaffeModel,
    phase: str,
    options: BuildOptions,
    image: str,
    preparation: ImagePreparation,
) -> Net:
    """The net after a pass of one image, every blob kept.

    The image's smaller side is scaled to the net's input, and its middle is taken.

    Raises:
        NetError, UnknownName: the net cannot be built, or has no input for one image.
        WeightsError: the weights do not fit.
        DataError: the image cannot be read.
    """
    net = Net(model.without_fillers(), model.weights, phase=phase, options=options)
    net.requires_grad_(False)
    name = _input(net)
    _, channels, height, width = net.blobs[name].shape
    values = _values(image, preparation, channels, height, width)
    net.forward(**{name: values[None]})
    return net


def _input(net: Net) -> str:
    """The net's input for images.

    Raises:
        NetError: there is none, or one of another shape.
    """
    if len(net.inputs) != 1:
        raise NetError(
            f"--input needs a net with one input, this one has {len(net.inputs)}; caffecompat "
            "deploy makes a deploy net of a train_val net"
        )
    shape = net.blobs[net.inputs[0]].shape
    if len(shape) != _IMAGE_AXES or shape[1] not in (1, 3):
        raise NetError(
            f"--input: input {net.inputs[0]!r} has the shape {format_shape(shape)}, expected "
            "images x 1 or 3 channels x height x width"
        )
    return net.inputs[0]


def _values(
    image: str, preparation: ImagePreparation, channels: int, height: int, width: int
) -> np.ndarray:
    """The image as channels x height x width."""
    try:
        pixels = read_pixels(os.fsencode(image), "gray" if channels == 1 else "color")
    except DataError as error:
        raise DataError(f"{image}: {error}") from error
    scaled = preparation.at_scale(pixels, _side(pixels.shape[:2], height, width))
    top = (scaled.shape[1] - height) // 2
    left = (scaled.shape[2] - width) // 2
    return np.ascontiguousarray(scaled[:, top : top + height, left : left + width])


def _side(size: tuple[int, ...], height: int, width: int) -> int:
    """The length of an image's smaller side with which it covers height x width."""
    rows, columns = size
    factor = max(height / rows, width / columns)
    side = round(min(rows, columns) * factor)
    while (
        round(rows * side / min(rows, columns)) < height
        or round(columns * side / min(rows, columns)) < width
    ):
        side += 1
    return side
