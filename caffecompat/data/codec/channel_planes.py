"""The channels of an image as arrays of their own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, split_channels


class ChannelPlanes:
    """Splits images into channels, in memory that each thread uses again."""

    def __init__(self) -> None:
        self._memory = threading.local()

    def of(self, pixels: NDArray[Any], mirror: bool) -> Sequence[NDArray[Any]]:
        """The channels, flipped if ``mirror``; valid until the next call in this thread.

        Args:
            pixels: channels x height x width, in any order in memory.
            mirror: whether to flip left to right.
        """
        if not is_interleaved(pixels):
            return list(pixels[:, :, ::-1] if mirror else pixels)
        shape, planes = getattr(self._memory, "planes", (None, []))
        if shape != pixels.shape:
            planes = _scattered_planes(*pixels.shape)
            self._memory.planes = (pixels.shape, planes)
        return split_channels(pixels.transpose(1, 2, 0), planes, mirror)


def is_interleaved(pixels: NDArray[Any]) -> bool:
    """Whether the bytes of channels x height x width have their channels innermost in memory."""
    return pixels.dtype == np.uint8 and pixels.strides[0] == 1 and 1 < len(pixels) <= 4


def _scattered_planes(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Arrays whose addresses have different remainders modulo powers of two.

    With equal remainders OpenCV's split mixes two kinds of stores in one cache line, which can
    make it twenty times slower.
    """
    size = height * width
    memory = np.empty(count * (size + 64), np.uint8)
    starts = [-memory.ctypes.data % 64 + i * -(-size // 64) * 64 + i for i in range(count)]
    return [memory[start : start + size].reshape(height, width) for start in starts]


def planes(pixels: Pixels) -> Pixels:
    """An image as channels x height x width, a view."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
