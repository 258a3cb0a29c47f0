"""The image that a net takes, where MatConvNet's is R, G, B and not scaled."""

from __future__ import annotations

import numpy as np

from caffecompat.data.preprocessing import Preprocessing

COLOURS = 3


class ImageInput:
    """The only image input of a net.

    Args:
        preprocessing: that of the net; without one the net takes B, G, R as it is.

    Attributes:
        variable: its name.
        size: (H, W, C); zeros before it is known.
    """

    def __init__(self, preprocessing: Preprocessing | None) -> None:
        self.variable = "data"
        self.size = (0, 0, 0)
        self._scale = 1.0 if preprocessing is None else preprocessing.scale
        self._is_rgb = preprocessing is not None and preprocessing.channel_order == "RGB"

    @property
    def fits(self) -> bool:
        """Whether layers can read the image as it is."""
        return not self._exchanges and self._scale == 1

    def can_turn(self, channels: int) -> bool:
        """Whether filters over so many channels can be turned, so that they read the image."""
        return self._exchanges and self._scale == 1 and channels == COLOURS

    @property
    def _exchanges(self) -> bool:
        return self.size[2] == COLOURS and not self._is_rgb

    def filters(self) -> np.ndarray:
        """Of a convolution of 1x1 that makes of it what the net takes, (1, 1, C, C)."""
        values = np.eye(self.size[2], dtype=np.float32) * np.float32(self._scale)
        return np.ascontiguousarray((values[::-1] if self._exchanges else values)[None, None])
