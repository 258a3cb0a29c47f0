"""The arithmetic of a crop: ``(pixels - mean + shift) * scale``, from pixels to a row of a batch.

Step by step in float32. Source of the semantics: data_transformer.cpp.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec import float_pixels
from caffecompat.data.codec.channel_planes import ChannelPlanes, is_interleaved
from caffecompat.data.codec.float_pixels import Floats, PerChannel

# Of a strip of an image in float32. The numbers of whole images would drive what the decoder needs
# from the second-level cache.
_STRIP_BYTES = 300_000

Corner = tuple[int, int]


class Crop(NamedTuple):
    """A crop before its arithmetic.

    Attributes:
        pixels: channels x height x width, uint8 or float32, not yet flipped.
        corner: its top and left in its image.
        mirror: whether it is flipped left to right.
        shift: one number per channel to add; None to skip the step.
    """

    pixels: NDArray[Any]
    corner: Corner
    mirror: bool
    shift: Floats | None = None


class CropMean:
    """What is subtracted from the pixels of a crop.

    Args:
        values: float32; one for all channels, one per channel, or channels x height x width.
        is_cut: they have the size of whole images, and are cut where the crop is.
        is_flipped: they are flipped where the crop is.
    """

    def __init__(self, values: Floats, is_cut: bool = False, is_flipped: bool = False) -> None:
        self._values = values
        self._is_cut = is_cut
        self._is_flipped = is_flipped

    def planes(self, crop: Crop) -> Floats:
        """One number or plane for each channel of a crop, or a single one for all."""
        if self._values.ndim == 1:
            return self._values
        (top, left), (_, height, width) = self._corner(crop), crop.pixels.shape
        part = self._values[:, top : top + height, left : left + width]
        return part[:, :, ::-1] if crop.mirror and self._is_flipped else part

    def pixels(self, crop: Crop) -> Floats | PerChannel:
        """As :meth:`planes`, with channels side by side; for at most four channels."""
        if self._values.ndim == 1:
            return self._per_channel
        (top, left), (_, height, width) = self._corner(crop), crop.pixels.shape
        whole = self._interleaved
        if crop.mirror and self._is_flipped:
            whole, left = self._interleaved_flipped, whole.shape[1] - left - width
        return whole[top : top + height, left : left + width]

    def _corner(self, crop: Crop) -> Corner:
        return crop.corner if self._is_cut else (0, 0)

    # On demand, since most databases need one of the forms only.
    @functools.cached_property
    def _per_channel(self) -> PerChannel:
        return float_pixels.per_channel(self._values.tolist())

    @functools.cached_property
    def _interleaved(self) -> Floats:
        return np.ascontiguousarray(self._values.transpose(1, 2, 0))

    @functools.cached_property
    def _interleaved_flipped(self) -> Floats:
        return np.ascontiguousarray(self._interleaved[:, ::-1])


class CropArithmetic:
    """Computes crops in float32; several threads may.

    Decoded images have their channels side by side, and are computed so, strip by strip, in memory
    that each thread uses again. A row of a batch is memory that no cache holds, and access to it
    takes most of the time: it is written once, and never read.

    Args:
        mean: None to skip the step.
        scale: 1 to skip the step.
    """

    def __init__(self, mean: CropMean | None, scale: np.float32) -> None:
        self._mean = mean
        self._scale = scale
        self._planes = ChannelPlanes()
        self._memory = threading.local()

    def apply(self, crop: Crop, out: Floats) -> None:
        """Writes the numbers of a crop to ``out``, channels x height x width."""
        if is_interleaved(crop.pixels) and out[0].flags.c_contiguous:
            self._apply_to_pixels(crop, out)
        else:
            self._apply_to_planes(crop, out)

    def _apply_to_pixels(self, crop: Crop, out: Floats) -> None:
        image = crop.pixels.transpose(1, 2, 0)
        mean = None if self._mean is None else self._mean.pixels(crop)
        added = None if crop.shift is None else float_pixels.per_channel(crop.shift.tolist())
        memory = self._strip(image.shape)
        for first in range(0, len(image), len(memory)):
            rows = slice(first, first + len(memory))
            strip = float_pixels.flip_pixels(image[rows]) if crop.mirror else image[rows]
            numbers = memory[: len(strip)]
            part = mean[rows] if isinstance(mean, np.ndarray) else mean
            float_pixels.subtract(strip, part, numbers)
            if added is not None:
                float_pixels.add(numbers, added)
            if self._scale != 1:
                np.multiply(numbers, self._scale, out=numbers)
            float_pixels.split_floats(numbers, out[:, rows])

    def _apply_to_planes(self, crop: Crop, out: Floats) -> None:
        mean = None if self._mean is None else self._mean.planes(crop)
        # Plane by plane, which keeps the plane in the cache between the steps.
        for channel, plane in enumerate(self._planes.of(crop.pixels, crop.mirror)):
            target = out[channel]
            np.copyto(target, plane)
            if mean is not None:
                np.subtract(target, mean[channel % len(mean)], out=target)
            if crop.shift is not None:
                np.add(target, crop.shift[channel], out=target)
            if self._scale != 1:
                np.multiply(target, self._scale, out=target)

    def _strip(self, shape: tuple[int, ...]) -> Floats:
        """Memory of this thread for some rows of an image, valid until the next call.

        Args:
            shape: height, width and channels of the image.
        """
        whole, strip = getattr(self._memory, "strip", (None, np.empty(0, np.float32)))
        if whole != shape:
            height, width, channels = shape
            strips = max(1, round(height * width * channels * strip.itemsize / _STRIP_BYTES))
            strip = np.empty((-(-height // strips), width, channels), np.float32)
            self._memory.strip = (shape, strip)
        return strip
