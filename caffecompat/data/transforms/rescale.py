"""Isotropic rescaling of images to the training scale S of the VGG paper (Sect. 3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import isotropic_size
from caffecompat.data.counter_rng import draw, pick
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# The limit of OpenCV's 16-bit coordinates.
_MAX_LENGTH_OF_SIDE = 32767


class Rescale:
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

    def draw_sides(self, seed: int, ordinals: NDArray[np.int64]) -> list[int]:
        """S in pixels for the samples ``ordinals``; a pure function of its arguments."""
        spread = pick(draw(seed, ordinals, "smallest side"), self._upper - self._lower + 1)
        return [self._lower + side for side in spread.tolist()]

    def size(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Height and width of an image rescaled to smallest side ``side``, in pixels.

        Raises:
            DataError: the other side would be too long.
        """
        scaled = isotropic_size(height, width, side)
        if max(scaled) > _MAX_LENGTH_OF_SIDE:
            raise DataError(
                f"it is {height}x{width} (height x width) and would become "
                f"{scaled[0]}x{scaled[1]} with its smallest side of {side}; no side may be longer "
                f"than {_MAX_LENGTH_OF_SIDE}, so leave such images out"
            )
        return scaled
