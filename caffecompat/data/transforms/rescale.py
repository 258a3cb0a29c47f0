"""Resizing of images before they are cropped.

:class:`Rescale` is isotropic rescaling to the training scale S of the VGG paper (Sect. 3.1);
``fork_resizing.py`` has those of forks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import isotropic_size, scale_channels
from caffecompat.data.counter_rng import draw, pick
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# The limit of OpenCV's 16-bit coordinates.
_MAX_LENGTH_OF_SIDE = 32767


class Resizing(ABC):
    """How the size of an image follows from its own size and from what is drawn for a sample."""

    @abstractmethod
    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> list[tuple[float, ...]]:
        """What is drawn for the samples ``ordinals``; a pure function of its arguments."""

    @abstractmethod
    def size(self, height: int, width: int, drawn: tuple[float, ...]) -> tuple[int, int]:
        """Height and width of the resized image, in pixels.

        Raises:
            DataError: a side would be too long.
        """

    def scale(self, pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        """Channels x height x width, uint8 or float32, resized."""
        return scale_channels(pixels, height, width)


def check_length(before: tuple[int, int], after: tuple[int, int], cause: str) -> tuple[int, int]:
    """``after``, the height and width of an image that was ``before``.

    Args:
        cause: why it is resized, as in "with its smallest side of 17".

    Raises:
        DataError: a side is longer than OpenCV can resize to.
    """
    if max(after) > _MAX_LENGTH_OF_SIDE:
        raise DataError(
            f"it is {before[0]}x{before[1]} (height x width) and would become "
            f"{after[0]}x{after[1]} {cause}; no side may be longer than {_MAX_LENGTH_OF_SIDE}, so "
            "leave such images out"
        )
    return after


class Rescale(Resizing):
    """Scales an image isotropically so that its smallest side becomes S pixels.

    In TRAIN S is drawn for each sample, uniformly from ``img_rand_resize_lower`` to
    ``img_rand_resize_upper`` inclusive. In TEST it is the mean of the two, rounded down, as the
    paper tests at Q = 0.5 (S_min + S_max). The other side is rounded to the nearest pixel.

    Args:
        message: a TransformationParameter with one of these fields.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        DataError: a bound of the range is missing, the bounds are in the wrong order, or S may be
            smaller than the crop.
    """

    def __init__(self, message: Message, phase: str) -> None:
        self._lower = int(message.img_rand_resize_lower)
        self._upper = int(message.img_rand_resize_upper)
        found = (
            f"transform_param: img_rand_resize_lower is {self._lower} and img_rand_resize_upper is "
            f"{self._upper}"
        )
        if not 0 < self._lower <= self._upper:
            raise DataError(
                f"{found}; give both, the upper one at least as large (equal ones fix the size)"
            )
        if phase != "TRAIN":
            self._lower = self._upper = (self._lower + self._upper) // 2
        if self._lower < message.crop_size:
            raise DataError(
                f"{found}, so the smallest side of an image may be {self._lower} pixels in "
                f"{phase}, less than crop_size {message.crop_size}; raise them or make crop_size "
                "smaller"
            )

    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> list[tuple[float, ...]]:
        """S in pixels for each sample."""
        spread = pick(draw(seed, ordinals, "smallest side"), self._upper - self._lower + 1)
        return [(self._lower + side,) for side in spread.tolist()]

    def size(self, height: int, width: int, drawn: tuple[float, ...]) -> tuple[int, int]:
        side = int(drawn[0])
        scaled = isotropic_size(height, width, side)
        return check_length((height, width), scaled, f"with its smallest side of {side}")
