"""The base class of test protocols: which parts of an image a net classifies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffecompat.registry import Registry


class Protocol:
    """One way to classify an image at one scale; each is registered in a file of ``protocols/``.

    Attributes:
        dense: the net is applied as a fully convolutional net, and its class score map is averaged.
    """

    dense: ClassVar[bool] = False

    def corners(self, height: int, width: int, crop: tuple[int, int]) -> Sequence[tuple[int, int]]:
        """The upper left corners (top, left) of the crops of an image.

        Args:
            height, width: of the image, at least those of the crop.
            crop: height and width of the net's input.
        """
        raise NotImplementedError

    def views(self, image: NDArray[np.float32], crop: tuple[int, int]) -> list[NDArray[np.float32]]:
        """The parts of an image (channels x height x width) that the net classifies."""
        if self.dense:
            return [image]
        height, width = crop
        return [
            image[:, top : top + height, left : left + width]
            for top, left in self.corners(image.shape[1], image.shape[2], crop)
        ]


protocols: Registry[type[Protocol]] = Registry("protocol", "caffecompat.evaluate.protocols")
"""Test protocols, one file each; a new file needs no other change."""
