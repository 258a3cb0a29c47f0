"""Images as values of a net's inputs: ``caffe.io.Transformer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.pycaffe.images.resizing import resize_image


class Transformer:
    """Turns images into the values of a net's inputs, and back.

    :meth:`preprocess` works in this order, each step only where it is set: resize to the input's
    height and width, transpose, channel_swap, times raw_scale, minus mean, times input_scale. So
    the mean is in units of raw_scale and in swapped channels.

    Args:
        inputs: the shape (N, C, H, W) of each input, by name.

    Attributes:
        inputs, transpose, channel_swap, raw_scale, mean, input_scale: a dict by input's name each.
    """

    inputs: Mapping[str, Sequence[int]]
    transpose: dict[str, tuple[int, ...]]
    channel_swap: dict[str, tuple[int, ...]]
    raw_scale: dict[str, float]
    mean: dict[str, NDArray[Any]]
    input_scale: dict[str, float]

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose, self.channel_swap = {}, {}
        self.raw_scale, self.mean, self.input_scale = {}, {}, {}

    def preprocess(self, in_: str, data: NDArray[Any]) -> NDArray[Any]:
        """An image as values of the input ``in_``, without the axis of the batch.

        As in pycaffe, the result is a view of a float32 array that needs neither resizing nor a
        swap of channels, and the steps after that change the array itself; pass a copy to keep it.

        Args:
            in_: the name of an input.
            data: height x width x channels where ``transpose`` is (2, 0, 1).

        Returns:
            a float32 array, channels x height x width.

        Raises:
            DataError: there is no such input, or the image does not fit the settings.
        """
        self._check_input(in_)
        values = np.asarray(data).astype(np.float32, copy=False)
        if not values.flags.writeable:
            values = values.copy()
        size = tuple(self.inputs[in_][2:])
        if values.shape[:2] != size:
            values = resize_image(values, size)
        transpose = self.transpose.get(in_)
        if transpose is not None:
            self._check_axes(in_, values)
            values = values.transpose(transpose)
        channel_swap = self.channel_swap.get(in_)
        if channel_swap is not None:
            self._check_channels(in_, values)
            values = values[list(channel_swap), :, :]
        if in_ in self.raw_scale:
            values *= self.raw_scale[in_]
        if in_ in self.mean:
            self._check_mean(in_, values)
            values -= self.mean[in_]
        if in_ in self.input_scale:
            values *= self.input_scale[in_]
        return values

    def deprocess(self, in_: str, data: NDArray[Any]) -> NDArray[Any]:
        """The image of an input's values: :meth:`preprocess` in reverse, but never resized.

        Args:
            in_: the name of an input.
            data: channels x height x width, with or without an axis of one sample before them.

        Returns:
            the image, without axes of extent 1 where no setting needs them.

        Raises:
            DataError: there is no such input.
        """
        self._check_input(in_)
        values = self._sample(in_, data)
        if in_ in self.input_scale:
            values /= self.input_scale[in_]
        if in_ in self.mean:
            values += self.mean[in_]
        if in_ in self.raw_scale:
            values /= self.raw_scale[in_]
        channel_swap = self.channel_swap.get(in_)
        if channel_swap is not None:
            values = values[np.argsort(channel_swap), :, :]
        transpose = self.transpose.get(in_)
        if transpose is not None:
            values = values.transpose(tuple(int(axis) for axis in np.argsort(transpose)))
        return values

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of axes: (2, 0, 1) makes height x width x channels what Caffe expects.

        Raises:
            DataError: it has not one number for each axis of the input but the first.
        """
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise DataError(
                f"Transpose order needs to have the same number of dimensions as the input: "
                f"{tuple(order)} has {len(order)}, input {in_!r} has "
                f"{len(self.inputs[in_]) - 1} without its batch"
            )
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of channels: (2, 1, 0) makes R, G, B what most Caffe models expect.

        Raises:
            DataError: it has not one number for each channel of the input.
        """
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise DataError(
                f"Channel swap needs to have the same number of dimensions as the input channels: "
                f"{tuple(order)} has {len(order)}, input {in_!r} has {self.inputs[in_][1]} channels"
            )
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float | None) -> None:
        """Sets the factor before the mean is subtracted (255 for 8-bit models), or none."""
        self._check_input(in_)
        _set(self.raw_scale, in_, scale)

    def set_mean(self, in_: str, mean: NDArray[Any]) -> None:
        """Sets the mean to subtract, in units of raw_scale and in swapped channels.

        Args:
            in_: the name of an input.
            mean: one value per channel, height x width for one channel, or
                channels x height x width. Of another height and width than the input it is
                resized, as in pycaffe.

        Raises:
            DataError: the mean has other channels or another number of axes.
        """
        self._check_input(in_)
        shape = mean.shape
        expected = tuple(self.inputs[in_][1:])
        if mean.ndim == 1:
            if shape[0] != expected[0]:
                raise DataError(
                    f"Mean channels incompatible with input: the mean has {shape[0]}, "
                    f"input {in_!r} has {expected[0]} channels"
                )
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        if mean.ndim == 2:
            shape = (1, *shape)
        if len(shape) != 3:
            raise DataError(
                f"Mean shape invalid: {mean.shape}, expected (channels,) or "
                "(channels, height, width)"
            )
        if shape[0] != expected[0] or len(expected) != 3:
            raise DataError(
                f"Mean shape incompatible with input shape: the mean has {shape}, input {in_!r} "
                f"has {expected}"
            )
        self.mean[in_] = mean if shape == expected else _resized(mean.reshape(shape), expected)

    def set_input_scale(self, in_: str, scale: float | None) -> None:
        """Sets the factor after the mean is subtracted, or none."""
        self._check_input(in_)
        _set(self.input_scale, in_, scale)

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise DataError(f"{in_} is not one of the net inputs: {list(self.inputs)}")

    def _sample(self, in_: str, data: NDArray[Any]) -> NDArray[Any]:
        """A copy of values without axes of extent 1, or with them where the settings need them."""
        values = data.astype(data.dtype if data.dtype.kind == "f" else np.float32)
        axes = len(self.inputs[in_]) - 1
        settings: tuple[Mapping[str, Any], ...] = (self.transpose, self.channel_swap, self.mean)
        if any(in_ in setting for setting in settings) and values.squeeze().ndim < axes:
            return values[0] if values.ndim == axes + 1 and len(values) == 1 else values
        return values.squeeze()

    def _check_axes(self, in_: str, values: NDArray[Any]) -> None:
        if values.ndim != len(self.transpose[in_]):
            raise DataError(
                f"input {in_!r}: the image has shape {values.shape}, the transpose order "
                f"{self.transpose[in_]} needs {len(self.transpose[in_])} axes"
            )

    def _check_channels(self, in_: str, values: NDArray[Any]) -> None:
        if max(self.channel_swap[in_]) >= len(values):
            raise DataError(
                f"input {in_!r}: the image has {len(values)} channels, channel_swap is "
                f"{self.channel_swap[in_]}"
            )

    def _check_mean(self, in_: str, values: NDArray[Any]) -> None:
        mean = self.mean[in_]
        pairs = zip(mean.shape[::-1], values.shape[::-1], strict=False)
        if mean.ndim > values.ndim or any(one not in (1, extent) for one, extent in pairs):
            raise DataError(
                f"input {in_!r}: the image has shape {values.shape} before the mean of shape "
                f"{mean.shape} is subtracted; set transpose and the size of the input to match"
            )


def _set(settings: dict[str, float], in_: str, value: float | None) -> None:
    if value is None:
        settings.pop(in_, None)
    else:
        settings[in_] = value


def _resized(mean: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A mean of channels x height x width in another height and width."""
    return resize_image(mean.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
