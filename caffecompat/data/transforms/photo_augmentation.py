"""Random rotation, colours and smoothing of photos: the fields of caffe-augmentation.

Source of the semantics: the data transformer of caffe-augmentation. That a label map is turned with
its image, to the nearest pixel and with ignored labels around it, is concluded: the fork with these
fields in its ImageSegData layer is not public.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from caffecompat.data.codec.images import Pixels
from caffecompat.data.codec.pixel_operations import blur_by, map_levels, turn
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# The median filter of OpenCV refuses some that are larger.
_LARGEST_FILTER = 255


@dataclass(frozen=True)
class PhotoAugmentation:
    """What may happen to an image; each step but the rotation with its own draw.

    Attributes:
        angle: the image is turned by a whole number of degrees from -angle to angle, and grows so
            that nothing is lost.
        colour_shift: the most that is added to each channel, or subtracted from all of them.
        contrast, brightness: levels are multiplied by a number between the two contrasts, and a
            whole number from -brightness to brightness is added; contrast None for neither.
        smooth: one of four filters, of up to this size, smooths the image; 0 for none.
        probability: of each of the three steps about colours and smoothness.
    """

    angle: int = 0
    colour_shift: int = 0
    contrast: tuple[float, float] | None = None
    brightness: int = 0
    smooth: int = 0
    probability: float = 0.5

    def apply(
        self, pixels: Pixels, labels: Pixels, ignored: int, choices: SampleChoices
    ) -> tuple[Pixels, Pixels]:
        """The changed image, height x width x channels or height x width, and its labels."""
        angle = choices.pick("rotation", 2 * self.angle + 1) - self.angle if self.angle else 0
        if angle:
            pixels = turn(pixels, angle, "LINEAR", 0)
            labels = turn(labels, angle, "NEAREST", ignored)
        if self.colour_shift and choices.happens("colour shift", self.probability):
            pixels = self._shifted(pixels, choices)
        if self.contrast is not None and choices.happens("contrast", self.probability):
            factor = choices.uniform("contrast factor", *self.contrast)
            shift = choices.pick("brightness", 2 * self.brightness + 1) - self.brightness
            pixels = map_levels(pixels, factor, shift)
        if self.smooth and choices.happens("smoothing", self.probability):
            size = 1 + 2 * choices.pick("smoothing size", self.smooth // 2)
            pixels = blur_by(pixels, size, choices.pick("smoothing filter", 4))
        return pixels, labels

    def _shifted(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        shares = choices.uniforms("colour shifts", 0, 1, channels)
        shifts = np.minimum(shares * (self.colour_shift + 1), self.colour_shift).astype(np.int16)
        sign = -1 if choices.pick("colour shift sign", 2) else 1
        moved = pixels.astype(np.int16) + sign * (shifts if pixels.ndim == 3 else shifts[0])
        found: Pixels = moved.clip(0, 255).astype(np.uint8)
        return found


def photo_augmentation(p: Message) -> PhotoAugmentation | None:
    """The augmentation of a TransformationParameter; None if it asks for none.

    Raises:
        DataError: a range is in the wrong order, or a size too small.
    """
    if not (p.max_rotation_angle or p.max_color_shift) and not (
        p.contrast_brightness_adjustment or p.smooth_filtering
    ):
        return None
    if p.contrast_brightness_adjustment and not 0 <= p.min_contrast <= p.max_contrast < inf:
        raise DataError(
            f"transform_param: min_contrast is {p.min_contrast:g} and max_contrast "
            f"{p.max_contrast:g}; the second must be finite and at least as large as the first, "
            "and neither may be negative"
        )
    if p.smooth_filtering and not 2 <= p.max_smooth <= _LARGEST_FILTER:
        raise DataError(
            f"transform_param: max_smooth is {p.max_smooth:g}, expected 2 or more, and at most "
            f"{_LARGEST_FILTER}"
        )
    if not 0 <= p.apply_probability <= 1:
        raise DataError(
            f"transform_param: apply_probability is {p.apply_probability:g}, expected 0 to 1"
        )
    return PhotoAugmentation(
        angle=p.max_rotation_angle,
        colour_shift=p.max_color_shift,
        contrast=(p.min_contrast, p.max_contrast) if p.contrast_brightness_adjustment else None,
        brightness=p.max_brightness_shift,
        smooth=int(p.max_smooth) if p.smooth_filtering else 0,
        probability=p.apply_probability,
    )
