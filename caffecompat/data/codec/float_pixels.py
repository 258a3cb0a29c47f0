"""The pixels of an image in float32, channels side by side, as decoders give the bytes.

Channels are side by side in OpenCV's arrays. These operations read and write their memory once; on
planes of their own each would take an operation per channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, opencv

Floats = NDArray[np.float32]
# One number per channel, as OpenCV takes them: always four.
PerChannel: TypeAlias = tuple[float, float, float, float]


def per_channel(values: Sequence[float]) -> PerChannel:
    """One number for each of at most four channels; a single number is that of all."""
    first, *others = [float(value) for value in values]
    filled = [first, *(others or [first] * 3)]
    a, b, c, d = (filled + [0.0] * 3)[:4]
    return a, b, c, d


def flip_pixels(pixels: Pixels) -> Pixels:
    """An image flipped left to right."""
    flipped: Pixels = opencv().flip(pixels, 1)
    return flipped


def subtract(pixels: Pixels, mean: Floats | PerChannel | None, out: Floats) -> None:
    """Writes ``pixels - mean`` to ``out``, each converted to float32 before.

    Args:
        pixels: height x width x channels (2 to 4); rows may have gaps between them.
        mean: of the same shape, or one number per channel; None to convert only.
        out: of the same shape, without gaps.
    """
    if mean is None:
        np.copyto(out, pixels)
        return
    cv2 = opencv()
    cv2.subtract(pixels, mean, out, None, cv2.CV_32F)


def add(pixels: Floats, shift: PerChannel) -> None:
    """Adds one number per channel to ``pixels``, height x width x channels without gaps."""
    opencv().add(pixels, shift, pixels)


def split_floats(pixels: Floats, planes: Floats) -> None:
    """Copies each channel to a plane.

    OpenCV writes the planes past the caches, so that memory that is not in them is not read before
    it is overwritten.

    Args:
        pixels: height x width x channels (2 to 4), without gaps.
        planes: channels x height x width; each plane without gaps.
    """
    opencv().split(pixels, list(planes))
