"""Bounding boxes as the VGG paper's localisation nets predict them (Appendix A.1).

A box is a row of four numbers: x and y of its centre, its width and its height. They are fractions
of the width and the height of a window, which is a crop or a whole image; (0, 0) is the upper left
corner of that window. A box may reach beyond the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def to_corners(boxes: NDArray[np.floating]) -> Floats:
    """Left, top, right and bottom of boxes (..., 4), in the same unit.

    A negative width or height, which a net can predict, counts as 0.
    """
    boxes = np.asarray(boxes, np.float64)
    half = np.maximum(boxes[..., 2:], 0) / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def overlap(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Intersection over union of boxes.

    Args:
        first, second: (..., 4) in one unit; leading axes broadcast.

    Returns:
        (...): from 0 to 1; 0 where neither box has an area.
    """
    a, b = to_corners(first), to_corners(second)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def from_window(boxes: NDArray[np.floating], windows: NDArray[np.floating]) -> Floats:
    """Boxes relative to windows, in the unit of the windows.

    Args:
        boxes: (..., 4), fractions of each window.
        windows: (..., 4): left, top, width and height of each window; leading axes broadcast.
    """
    boxes, windows = np.asarray(boxes, np.float64), np.asarray(windows, np.float64)
    centres = windows[..., :2] + boxes[..., :2] * windows[..., 2:]
    return np.concatenate([centres, boxes[..., 2:] * windows[..., 2:]], -1)


def mirrored(boxes: NDArray[np.floating]) -> Floats:
    """Boxes (..., 4) of a window that is flipped left to right."""
    result = np.array(boxes, np.float64)
    result[..., 0] = 1 - result[..., 0]
    return result
