"""Classes of an image that is stretched to the net's input, as in Caffe's C++ example.

Source: examples/cpp_classification. Images are decoded, turned gray where the net has one channel,
stretched to the net's input bilinearly as 8-bit numbers, and have the mean of each channel of the
mean file subtracted. They are not scaled, and channels are B, G, R.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, opencv, resize_image
from caffecompat.errors import DataError, NetError
from caffecompat.evaluate.classification.posteriors import best_classes
from caffecompat.net import Net
from caffecompat.reporting.units import format_shape
from caffecompat.weights.mean_file import read_mean

GRAY, COLOUR = 1, 3
_IMAGE_AXES = 4


class WholeImageClassifier:
    """A net that takes one image and gives a value for each class.

    Args:
        net: with one input, N x 1 or 3 channels x height x width, and one output.
        mean: a mean file with as many channels.
        place: the net's file, for messages.

    Attributes:
        classes: the channels of the output.

    Raises:
        NetError: the net has other inputs or outputs.
        FileProblem, FormatError: the mean file cannot be read.
        DataError: it has other channels.
    """

    def __init__(self, net: Net, mean: str, place: str) -> None:
        names, outputs = net.inputs, net.outputs
        if len(names) != 1 or len(outputs) != 1:
            raise NetError(
                f"{place}: the net has the inputs {', '.join(map(repr, names)) or 'none'} and the "
                f"outputs {', '.join(map(repr, outputs))}; give a deploy net with one input and "
                "the class scores alone"
            )
        self._net, self._input, self._output = net, names[0], outputs[0]
        shape = tuple(net.blobs[self._input].shape)
        if len(shape) != _IMAGE_AXES or shape[1] not in (GRAY, COLOUR):
            raise NetError(
                f"{place}: input {self._input!r} is {format_shape(shape)}, expected images x 1 or "
                "3 channels x height x width"
            )
        self._channels, self._height, self._width = shape[1:]
        self.classes = _classes(net, place)
        image = read_mean(mean)
        if len(image) != self._channels:
            raise DataError(
                f"{mean}: its mean has {len(image)} channels, and the net's input "
                f"{self._channels}; give the mean of images like the net's"
            )
        self._mean = image.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """The value of each class, as many as ``classes``; of a map of scores the first.

        Args:
            pixels: uint8, height x width x 3, in B, G, R order.

        Raises:
            LayerError: a layer of the net cannot work on one image alone.
        """
        if self._channels == GRAY:
            pixels = opencv().cvtColor(pixels, opencv().COLOR_BGR2GRAY)
        stretched = resize_image(pixels, self._width, self._height).astype(np.float32)
        values = stretched.reshape(self._height, self._width, self._channels) - self._mean
        image = np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])
        found = np.asarray(self._net.forward(**{self._input: image})[self._output])
        return found.reshape(-1)[: self.classes]


def _classes(net: Net, place: str) -> int:
    (output,) = net.outputs
    shape = net.blobs[output].shape
    if len(shape) < 2:
        raise NetError(
            f"{place}: the net's output {output!r} is {format_shape(shape)}, expected images x "
            "classes; give a deploy net that ends in the scores of classes"
        )
    return int(shape[1])


def prediction_lines(name: str, values: NDArray[np.float32], labels: tuple[str, ...]) -> list[str]:
    """What Caffe's example prints for an image: a heading and the five best classes."""
    return [
        f"---------- Prediction for {name} ----------",
        *(f'{value:.4f} - "{labels[label]}"' for label, value in best_classes(values, 5)),
    ]
