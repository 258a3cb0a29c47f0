"""Images brought to a test scale, and to the values that a net takes (VGG paper, Sect. 3.2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Interpolation, Pixels, isotropic_size, rescale_image
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import DataError

# The limit of OpenCV's 16-bit coordinates.
_MAX_SIDE = 32767


@dataclass(frozen=True)
class ImagePreparation:
    """From a decoded image to the values that a net takes.

    The paper states neither the interpolation nor how the longer side is rounded, so both can be
    chosen.

    Attributes:
        preprocessing: channel order, mean and scale of the net.
        interpolation: ``"smooth"`` averages areas where an image shrinks and is bicubic where it
            grows, as ``convert-imageset --min-side``.
        round_down: round the longer side down, and not to the nearest pixel.
    """

    preprocessing: Preprocessing
    interpolation: Interpolation = "smooth"
    round_down: bool = False

    def size(self, pixels: Pixels, side: int) -> tuple[int, int]:
        """Height and width of an image whose smaller side becomes ``side`` pixels.

        Raises:
            DataError: the other side would be too long.
        """
        height, width = pixels.shape[:2]
        size = isotropic_size(height, width, side, self.round_down)
        if max(size) > _MAX_SIDE:
            raise DataError(
                f"it is {height}x{width} (height x width) and would become {size[0]}x{size[1]}; "
                f"no side may be longer than {_MAX_SIDE}"
            )
        return size

    def at_scale(self, pixels: Pixels, side: int) -> NDArray[np.float32]:
        """An image as channels x height x width with its smaller side of ``side`` pixels."""
        height, width = self.size(pixels, side)
        if pixels.shape[:2] != (height, width):
            pixels = rescale_image(pixels, height, width, self.interpolation)
        return self.values(pixels)

    def as_json(self) -> dict[str, Any]:
        """What decides the values, as JSON values."""
        return {
            "interpolation": self.interpolation,
            "round_down": self.round_down,
            "preprocessing": {
                **asdict(replace(self.preprocessing, labels=())),
                "mean": list(self.preprocessing.mean),
            },
        }

    def values(self, pixels: Pixels) -> NDArray[np.float32]:
        """The values that a net takes for an image of its size: mean subtracted, then scaled.

        Args:
            pixels: uint8, height x width x 3 in B, G, R order, or height x width.

        Returns:
            channels x height x width.
        """
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.preprocessing.channel_order == "RGB":
            planes = planes[::-1]
        mean = np.asarray(self.preprocessing.mean, np.float32)[:, None, None]
        # Planes in a row, which convolutions of 3 channels are faster with.
        values = planes.astype(np.float32, order="C")
        values -= mean
        if self.preprocessing.scale != 1:
            values *= np.float32(self.preprocessing.scale)
        return values
