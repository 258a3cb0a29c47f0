"""The arithmetic of a crop: ``(pixels - mean + shift) * scale``, from pixels to a row of a batch.

Step by step in float32. Source of the semantics: data_transformer.cpp.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec import float_pixels
from caffecompat.data.codec.channel_planes import ChannelPlanes, is_interleaved
from caffecompat.data.codec.float_pixels import PerChannel

# Of a strip of an image in float32. The numbers of whole images would drive what the decoder needs
# from the second-level cache.
_STRIP_BYTES = 300_000

Floats = NDArray[np.float32]
Corner = tuple[int, int]


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

    def planes(self, shape: tuple[int, ...], corner: Corner, mirror: bool) -> Floats:
        """One number or plane for each channel, or a single one for all.

        Args:
            shape: channels, height and width of the crop.
            corner: top and left of the crop in its image.
            mirror: whether the crop is flipped.
        """
        if self._values.ndim == 1:
            return self._values
        (top, left), (_, height, width) = self._corner(corner), shape
        part = self._values[:, top : top + height, left : left + width]
        return part[:, :, ::-1] if mirror and self._is_flipped else part

    def pixels(self, shape: tuple[int, ...], corner: Corner, mirror: bool) -> Floats | PerChannel:
        """As :meth:`planes`, with channels side by side; for at most four channels."""
        if self._values.ndim == 1:
            return self._per_channel
        (top, left), (_, height, width) = self._corner(corner), shape
        whole = self._interleaved
        if mirror and self._is_flipped:
            whole, left = self._interleaved_flipped, whole.shape[1] - left - width
        return whole[top : top + height, left : left + width]

    def _corner(self, corner: Corner) -> Corner:
        return corner if self._is_cut else (0, 0)

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

    def apply(
        self,
        pixels: NDArray[Any],
        corner: Corner,
        mirror: bool,
        shift: Floats | None,
        out: Floats,
    ) -> None:
        """Writes the numbers of a crop to ``out``.

        Args:
            pixels: the crop before it is flipped, channels x height x width, uint8 or float32.
            corner: its top and left in its image.
            mirror: whether it is flipped left to right.
            shift: one number per channel; None to skip the step.
            out: of the shape of ``pixels``.
        """
        if is_interleaved(pixels) and out[0].flags.c_contiguous:
            self._apply_to_pixels(pixels, corner, mirror, shift, out)
        else:
            self._apply_to_planes(pixels, corner, mirror, shift, out)

    def _apply_to_pixels(
        self,
        pixels: NDArray[np.uint8],
        corner: Corner,
        mirror: bool,
        shift: Floats | None,
        out: Floats,
    ) -> None:
        image = pixels.transpose(1, 2, 0)
        mean = None if self._mean is None else self._mean.pixels(pixels.shape, corner, mirror)
        added = None if shift is None else float_pixels.per_channel(shift.tolist())
        memory = self._strip(image.shape)
        for first in range(0, len(image), len(memory)):
            rows = slice(first, first + len(memory))
            strip = float_pixels.flip_pixels(image[rows]) if mirror else image[rows]
            numbers = memory[: len(strip)]
            part = mean[rows] if isinstance(mean, np.ndarray) else mean
            float_pixels.subtract(strip, part, numbers)
            if added is not None:
                float_pixels.add(numbers, added)
            if self._scale != 1:
                np.multiply(numbers, self._scale, out=numbers)
            float_pixels.split_floats(numbers, out[:, rows])

    def _apply_to_planes(
        self,
        pixels: NDArray[Any],
        corner: Corner,
        mirror: bool,
        shift: Floats | None,
        out: Floats,
    ) -> None:
        mean = None if self._mean is None else self._mean.planes(pixels.shape, corner, mirror)
        # Plane by plane, which keeps the plane in the cache between the steps.
        for channel, plane in enumerate(self._planes.of(pixels, mirror)):
            target = out[channel]
            np.copyto(target, plane)
            if mean is not None:
                np.subtract(target, mean[channel % len(mean)], out=target)
            if shift is not None:
                np.add(target, shift[channel], out=target)
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
