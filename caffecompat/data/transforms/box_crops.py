"""Crops and expansions of images with their objects, as SSD's data transformer makes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, areas, coverages
from caffecompat.data.codec.annotated_datum import Objects
from caffecompat.data.codec.images import MAX_PIXELS, Pixels
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# An expansion this near to 1 is none.
_NO_EXPANSION = 1e-2


def unit_box() -> Boxes:
    """The whole image."""
    return np.array([0, 0, 1, 1], np.float32)


class EmitConstraint:
    """Which objects remain in a crop.

    CENTER: those whose centre is in the crop. MIN_OVERLAP: those with more than ``emit_overlap`` of
    their area in it. Without a message all that reach into it.

    Args:
        p: an EmitConstraint message, or None.
    """

    def __init__(self, p: Message | None) -> None:
        self._p = p

    def kept(self, boxes: Boxes, crop: Boxes) -> NDArray[np.bool_]:
        """Which of (G, 4) boxes remain in ``crop``."""
        if self._p is None:
            return np.ones(len(boxes), bool)
        if self._p.emit_type == self._p.MIN_OVERLAP:
            share = coverages(boxes, crop[None])[:, 0]
            return share > np.float32(self._p.emit_overlap)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        return every((centre >= crop[:2]) & (centre <= crop[2:]))


def every(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are true in all columns."""
    found: NDArray[np.bool_] = np.logical_and.reduce(rows, 1)
    return found


def in_crop(objects: Objects, crop: Boxes, constraint: EmitConstraint) -> Objects:
    """The objects that remain in a crop, with their boxes relative to it and clipped to it."""
    boxes = objects.boxes
    kept = constraint.kept(boxes, crop)
    kept = kept & every((boxes[:, :2] < crop[2:]) & (boxes[:, 2:] > crop[:2]))
    origin, size = np.tile(crop[:2], 2), np.tile(crop[2:] - crop[:2], 2)
    projected = np.clip((boxes - origin) / size, 0, 1).astype(np.float32)
    return objects.chosen(kept & (areas(projected) > 0), projected)


def crop_pixels(pixels: Pixels, crop: Boxes) -> Pixels:
    """The part of an image, height x width x channels, that a box relative to it shows."""
    height, width = pixels.shape[:2]
    clipped = np.clip(crop, np.float32(0), np.float32(1))
    scaled = clipped * np.array([width, height, width, height], np.float32)
    left, top = int(scaled[0]), int(scaled[1])
    across = max(1, int(scaled[2] - scaled[0]))
    down = max(1, int(scaled[3] - scaled[1]))
    return pixels[top : top + down, left : left + across]


class Expansion:
    """Puts an image somewhere into a larger one that is filled with the mean.

    Args:
        p: an ExpansionParameter.
        mean: one number for each channel, or one for all; empty for 0.
        constraint: which objects remain.

    Raises:
        DataError: ``max_expand_ratio`` is below 1.
    """

    def __init__(self, p: Message, mean: NDArray[np.float32], constraint: EmitConstraint) -> None:
        self._p, self._mean, self._constraint = p, mean, constraint
        if p.max_expand_ratio < 1:
            raise DataError(
                f"expand_param: max_expand_ratio is {p.max_expand_ratio:g}, expected 1 or more"
            )

    def apply(
        self, pixels: Pixels, objects: Objects, choices: SampleChoices
    ) -> tuple[Pixels, Objects]:
        """The expanded image, height x width x channels, and its objects."""
        ratio = self._ratio(choices)
        if ratio is None:
            return pixels, objects
        height, width, channels = pixels.shape
        new_height = int(np.float32(height) * np.float32(ratio))
        new_width = int(np.float32(width) * np.float32(ratio))
        if new_height * new_width > MAX_PIXELS:
            raise DataError(
                f"expand_param makes it {new_height}x{new_width}, more than {MAX_PIXELS:,} pixels; "
                "use a smaller max_expand_ratio"
            )
        top = int(choices.uniform("expansion row", 0, new_height - height))
        left = int(choices.uniform("expansion column", 0, new_width - width))
        mean = self._mean if len(self._mean) else np.zeros(1, np.float32)
        larger = np.empty((new_height, new_width, channels), np.uint8)
        larger[:] = np.rint(mean).clip(0, 255).astype(np.uint8)
        larger[top : top + height, left : left + width] = pixels
        part = [-left / width, -top / height, (new_width - left) / width]
        part.append((new_height - top) / height)
        return larger, in_crop(objects, np.array(part, np.float32), self._constraint)

    def _ratio(self, choices: SampleChoices) -> float | None:
        largest = self._p.max_expand_ratio
        if choices.uniform("expansion") > self._p.prob or abs(largest - 1) < _NO_EXPANSION:
            return None
        return choices.uniform("expansion ratio", 1, largest)
