"""Classification of images by a net: what ``caffe.Classifier`` is in pycaffe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.pycaffe import io
from caffecompat.pycaffe.nets.net import Net
from caffecompat.pycaffe.proto import caffe_pb2

Array = NDArray[Any]


def input_transformer(
    net: Net,
    mean: Array | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """The transformer of the first input of a net of images, with each setting that is not None."""
    name = net.inputs[0]
    made = io.Transformer({name: net.blobs[name].data.shape})
    made.set_transpose(name, (2, 0, 1))
    if mean is not None:
        made.set_mean(name, mean)
    if input_scale is not None:
        made.set_input_scale(name, input_scale)
    if raw_scale is not None:
        made.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        made.set_channel_swap(name, channel_swap)
    return made


class Classifier(Net):
    """A net that classifies images, each once or by ten crops.

    Args:
        model_file: a prototxt with one image input (N, C, H, W).
        pretrained_file: its weights.
        image_dims: (height, width) to which images are resized before crops are taken; None for
            those of the input.
        mean, input_scale, raw_scale, channel_swap: see :class:`caffecompat.pycaffe.io.Transformer`.

    Attributes:
        transformer, crop_dims, image_dims: as in pycaffe.
    """

    transformer: io.Transformer
    crop_dims: Array
    image_dims: Array

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: Array | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        given = image_dims is not None and len(image_dims) > 0
        self.image_dims = np.array(image_dims if given else self.crop_dims)

    def predict(self, inputs: Sequence[Array], oversample: bool = True) -> Array:
        """The first output of the net for each image, the mean over the crops of an image.

        Args:
            inputs: images, height x width x channels, of any sizes, as from ``io.load_image``.
            oversample: ten crops of each image, see :func:`caffecompat.pycaffe.io.oversample`;
                False for the centre alone.

        Returns:
            images x classes.

        Raises:
            DataError: there are no images, or ``image_dims`` is smaller than the crops.
        """
        if len(inputs) == 0:
            raise DataError("Classifier.predict: inputs is empty; pass a list of images")
        if (self.image_dims < self.crop_dims).any():
            smaller, size = tuple(self.image_dims.tolist()), tuple(self.crop_dims.tolist())
            raise DataError(
                f"Classifier: image_dims is {smaller}, smaller than the net's input of {size}; set "
                "it to that size or more"
            )
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        crops = io.oversample(images, self.crop_dims) if oversample else self._centers(images)
        name = self.inputs[0]
        values: dict[str, Any] = {
            name: np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        }
        predictions: Array = np.asarray(self.forward_all(**values)[self.outputs[0]])
        if oversample:
            predictions = predictions.reshape((len(predictions) // 10, 10, -1)).mean(1)
        return predictions

    def _centers(self, images: Array) -> Array:
        top, left = (self.image_dims - self.crop_dims) // 2
        height, width = self.crop_dims
        return images[:, top : top + height, left : left + width]
