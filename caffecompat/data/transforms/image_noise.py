"""Changes of an image's quality: SSD's ``noise_param``."""

from __future__ import annotations

import numpy as np

from caffecompat.data.codec import pixel_operations as operations
from caffecompat.data.codec.images import Pixels
from caffecompat.data.sample_choices import MOST_NUMBERS, SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

FIELDS = (
    *("prob", "hist_eq", "inverse", "decolorize", "gauss_blur", "jpeg", "posterize", "erode"),
    *("saltpepper", "saltpepper_param", "clahe", "convert_to_hsv", "convert_to_lab"),
)


class ImageNoise:
    """The changes that a NoiseParameter names, in SSD's order; ``prob`` has no effect there.

    Args:
        p: a NoiseParameter.

    Raises:
        DataError: ``convert_to_lab``, whose values are no bytes and which SSD refuses, too.
    """

    def __init__(self, p: Message) -> None:
        self._p = p
        if p.convert_to_lab:
            raise DataError("noise_param: convert_to_lab is not supported by any Caffe; remove it")
        if not 0 <= p.saltpepper_param.fraction <= 1:
            raise DataError(
                f"saltpepper_param: fraction is {p.saltpepper_param.fraction:g}, expected 0 to 1"
            )

    def apply(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        """A changed image; ``pixels`` are height x width x channels."""
        p = self._p
        if p.decolorize:
            pixels = operations.remove_colour(pixels)
        if p.gauss_blur:
            pixels = operations.blur(pixels)
        if p.hist_eq:
            pixels = operations.equalize(pixels)
        if p.clahe:
            pixels = operations.equalize_locally(pixels)
        if p.jpeg > 0:
            pixels = operations.compress(pixels, int(p.jpeg))
        if p.erode:
            pixels = operations.erode(pixels)
        if p.posterize:
            pixels = operations.posterize(pixels)
        if p.inverse:
            pixels = 255 - pixels
        if p.saltpepper:
            pixels = self._with_dots(pixels, choices)
        return operations.to_hsv(pixels) if p.convert_to_hsv else pixels

    def _with_dots(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        """An image with single pixels of a fixed colour."""
        p = self._p.saltpepper_param
        height, width, channels = pixels.shape
        if len(p.value) not in (1, channels):
            raise DataError(
                f"it has {channels} channels, but saltpepper_param has {len(p.value)} values; give "
                "one, or one for each channel"
            )
        drawn = pixels.copy()
        for start in range(0, int(p.fraction * height * width), MOST_NUMBERS):
            count = min(MOST_NUMBERS, int(p.fraction * height * width) - start)
            rows, columns = (
                (choices.uniforms(f"dot {axis} {start}", 0, 1, count) * extent).astype(np.int64)
                for axis, extent in (("row", height), ("column", width))
            )
            drawn[np.minimum(rows, height - 1), np.minimum(columns, width - 1)] = [
                int(value) % 256 for value in p.value
            ]
        return drawn
