"""Resizing of images with boxes: SSD's ``resize_param``."""

from __future__ import annotations

import numpy as np

from caffecompat.data.boxes import Boxes
from caffecompat.data.codec.images import MAX_PIXELS, Pixels
from caffecompat.data.codec.pixel_operations import pad_border, resize_by
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

FIELDS = (
    *("prob", "resize_mode", "height", "width", "pad_mode", "pad_value", "interp_mode"),
    *("height_scale", "width_scale"),
)


class BoxResize:
    """Resizes an image to ``height`` x ``width``.

    WARP stretches it. FIT_LARGE_SIZE_AND_PAD keeps its proportions and adds a border.
    FIT_SMALL_SIZE keeps its proportions; one side is longer than stated. One of ``interp_mode`` is
    drawn for each image; without any it is LINEAR. ``prob`` has no effect, as in SSD.

    Args:
        p: a ResizeParameter.

    Raises:
        DataError: a side is missing.
    """

    def __init__(self, p: Message) -> None:
        self._p = p
        if p.height < 1 or p.width < 1 or p.height * p.width > MAX_PIXELS:
            raise DataError(
                f"resize_param: height is {p.height} and width is {p.width}; give the size of an "
                "image in pixels"
            )
        self.mode = p.Resize_mode.Name(p.resize_mode)
        self._pad_mode = p.Pad_mode.Name(p.pad_mode)
        self._interpolations = [p.Interp_mode.Name(mode) for mode in p.interp_mode] or ["LINEAR"]

    @property
    def size(self) -> tuple[int, int]:
        """The stated height and width."""
        return int(self._p.height), int(self._p.width)

    def apply(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        """The resized image; ``pixels`` are height x width x channels."""
        height, width = self.size
        number = choices.pick("interpolation", len(self._interpolations))
        interpolation = self._interpolations[number]
        aspect = np.float32(pixels.shape[1]) / np.float32(pixels.shape[0])
        wide = aspect > np.float32(width) / np.float32(height)
        if self.mode == "WARP":
            return resize_by(pixels, height, width, interpolation)
        if self.mode == "FIT_SMALL_SIZE":
            wide = aspect >= np.float32(width) / np.float32(height)
            inner = (height, int(aspect * height)) if wide else (int(width / aspect), width)
            return resize_by(pixels, *inner, interpolation)
        inner = (int(width / aspect), width) if wide else (height, int(aspect * height))
        inner = (max(1, inner[0]), max(1, inner[1]))
        above, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        rows = (above, height - inner[0] - above)
        columns = (left, width - inner[1] - left)
        smaller = resize_by(pixels, *inner, interpolation)
        return pad_border(smaller, rows, columns, self._pad_mode, self._border(pixels.shape[2]))

    def _border(self, channels: int) -> list[float]:
        values = list(self._p.pad_value) or [0.0]
        if len(values) not in (1, channels):
            raise DataError(
                f"it has {channels} channels, but resize_param has {len(values)} pad_value; give "
                "one, or one for each channel"
            )
        return values * channels if len(values) == 1 else values

    def boxes(self, boxes: Boxes, height: int, width: int) -> Boxes:
        """The boxes of an image of ``height`` x ``width``, relative to the resized one."""
        new = np.array([self._p.width, self._p.height], np.float32)
        aspect = np.float32(width) / np.float32(height)
        margin = np.zeros(2, np.float32)
        if self.mode == "FIT_LARGE_SIZE_AND_PAD":
            if aspect > new[0] / new[1]:
                margin[1] = (new[1] - new[0] / aspect) / 2
            else:
                margin[0] = (new[0] - aspect * new[1]) / 2
        elif self.mode == "FIT_SMALL_SIZE":
            narrow = aspect < new[0] / new[1]
            new = np.array(
                [new[0] if narrow else aspect * new[1], new[0] / aspect if narrow else new[1]],
                np.float32,
            )
        inner = new - 2 * margin
        low = margin + np.maximum(boxes[:, :2] * inner, 0)
        high = margin + np.minimum(boxes[:, 2:] * inner, new)
        return np.concatenate([low / new, high / new], 1).astype(np.float32)

    def extrapolated(self, boxes: Boxes, height: int, width: int, crop: Boxes) -> Boxes:
        """Boxes relative to a crop, multiplied for nets with ``height_scale`` and ``width_scale``.

        Args:
            boxes: relative to the crop.
            height, width: of the image before it was resized.
            crop: the crop, relative to the resized image.
        """
        p = self._p
        if self.mode != "FIT_SMALL_SIZE" or not (p.height_scale and p.width_scale):
            return boxes
        aspect = np.float32(width) / np.float32(height)
        new_height, new_width = np.float32(p.height), np.float32(p.width)
        if aspect < new_width / new_height:
            new_height = new_width / aspect
        else:
            new_width = new_height * aspect
        across = new_width * (crop[2] - crop[0]) / p.width_scale
        down = new_height * (crop[3] - crop[1]) / p.height_scale
        return boxes * np.array([across, down, across, down], np.float32)
