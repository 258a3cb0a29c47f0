"""Images brought to a test scale, and to the values that a net takes (VGG paper, Sect. 3.2)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Interpolation, Pixels, isotropic_size, rescale_image
from caffecompat.data.codec.pixel_operations import resize_by
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
        mean_image: channels (or 1) x height x width, subtracted in place of the means of
            ``preprocessing``. It is stretched to the size of the rescaled image, so that each pixel
            loses the mean of its place, and a crop that of its region. For images of the mean's
            size this is what Caffe's data layers do; other sizes they refuse.
        stretch: height and width that every image gets, whatever its own are; None to keep the
            relation of its sides.
    """

    preprocessing: Preprocessing
    interpolation: Interpolation = "smooth"
    round_down: bool = False
    mean_image: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    stretch: tuple[int, int] | None = None

    def stretched(self, crop: tuple[int, int], chosen: Interpolation | None) -> ImagePreparation:
        """This with the resizing to a height and width that the preprocessing states.

        Args:
            crop: height and width of the net's input; a smaller size is left alone.
            chosen: the interpolation that the user chose; None for that of the preprocessing.
        """
        stated = self.preprocessing.resize
        if not isinstance(stated, tuple) or stated[0] < crop[0] or stated[1] < crop[1]:
            return self
        interpolation: Any = chosen or self.preprocessing.interpolation
        return replace(self, stretch=stated, interpolation=interpolation)

    def size(self, pixels: Pixels, side: int) -> tuple[int, int]:
        """Height and width of an image whose smaller side becomes ``side`` pixels.

        With ``stretch`` these, whatever ``side`` is.

        Raises:
            DataError: the other side would be too long.
        """
        if self.stretch is not None:
            return self.stretch
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
            **({} if self.stretch is None else {"stretch": list(self.stretch)}),
            **({} if self.mean_image is None else {"mean_image": _digest(self.mean_image)}),
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
        # Planes in a row, which convolutions of 3 channels are faster with.
        values = planes.astype(np.float32, order="C")
        self.check_channels(len(planes), "the image")
        values -= self._mean(*pixels.shape[:2])
        if self.preprocessing.scale != 1:
            values *= np.float32(self.preprocessing.scale)
        return values

    def check_channels(self, channels: int, what: str) -> None:
        """Refuses a mean of another number of channels.

        Args:
            channels: of ``what``, a noun for the message.

        Raises:
            DataError: the mean has neither one channel nor ``channels``.
        """
        image = self.mean_image
        count = len(self.preprocessing.mean if image is None else image)
        if count not in (1, channels):
            noun = "numbers" if image is None else "channels"
            raise DataError(
                f"the mean has {count} {noun}, but {what} has {channels} channels; give --mean one "
                "number, or one for each channel"
            )

    def _mean(self, height: int, width: int) -> NDArray[np.float32]:
        """What is subtracted from an image of this size."""
        if self.mean_image is None:
            return np.asarray(self.preprocessing.mean, np.float32)[:, None, None]
        if self.mean_image.shape[1:] == (height, width):
            return self.mean_image
        rows: Any = self.mean_image.transpose(1, 2, 0)
        resized: Any = resize_by(rows, height, width, "LINEAR")
        return np.asarray(resized.transpose(2, 0, 1), np.float32)


def _digest(values: NDArray[np.float32]) -> str:
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
