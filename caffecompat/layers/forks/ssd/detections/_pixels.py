"""Boxes of a net's input as boxes of the image file, in pixels."""

from __future__ import annotations

import numpy as np

from caffecompat.data.boxes import Boxes
from caffecompat.layers._base import Message


def to_pixels(boxes: Boxes, height: int, width: int, resize: Message | None) -> Boxes:
    """Boxes in pixels of an image of ``height`` x ``width``, clipped to the image.

    Args:
        boxes: (N, 4), relative to the net's input.
        resize: the ResizeParameter by which the image has become the input; None if it was warped.
            FIT_LARGE_SIZE_AND_PAD: the padding is left out.
    """
    scale = np.array([width, height, width, height], np.float32)
    mode = "WARP" if resize is None else resize.Resize_mode.Name(resize.resize_mode)
    if mode == "FIT_LARGE_SIZE_AND_PAD":
        assert resize is not None
        boxes = _without_padding(boxes, height, width, resize)
    elif mode == "FIT_SMALL_SIZE":
        assert resize is not None
        if resize.height_scale and resize.width_scale:
            own = np.array([resize.width_scale, resize.height_scale] * 2, np.float32)
            return np.clip(boxes * own, 0, scale)
    return np.clip(boxes, np.float32(0), np.float32(1)) * scale


def _without_padding(boxes: Boxes, height: int, width: int, resize: Message) -> Boxes:
    """Boxes relative to the part of the input that shows the image."""
    full = np.array([resize.width, resize.height], np.float32)
    aspect = np.float32(width) / np.float32(height)
    margin = np.zeros(2, np.float32)
    if aspect > full[0] / full[1]:
        margin[1] = (full[1] - full[0] / aspect) / 2 / full[1]
    else:
        margin[0] = (full[0] - full[1] * aspect) / 2 / full[0]
    low = np.concatenate([margin, margin])
    extent = np.float32(1) - 2 * low
    inside = np.logical_and(boxes[:, :2] < 1 - margin, boxes[:, 2:] > margin).all(1, keepdims=True)
    # SSD leaves a box as it is that lies in the padding alone.
    return np.where(inside, (boxes - low) / extent, boxes)
