"""DetectNet's ground truth: the objects of an image as a grid of cells that they cover.

Source of the semantics: detectnet_coverage_rectangular.cpp of NVIDIA's Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.proto.schema import Message

Floats = NDArray[np.float32]

# Channels before the coverage of the classes: foreground, box (4), inverse size (2), object norm.
FACTS = 8
_KITTI_CAR = 1
_EPSILON = np.finfo(np.float32).eps


@dataclass(frozen=True)
class Boxes:
    """The objects of an image.

    Attributes:
        places: (G, 4) x, y, width and height in pixels.
        classes: (G,) the classes of the data.
    """

    places: Floats
    classes: NDArray[np.int64]


class CoverageGrid:
    """The grid that a DetectNetGroundTruthParameter describes.

    Attributes:
        shape: channels, rows and columns of the grid.
    """

    def __init__(self, p: Message) -> None:
        self._p = p
        self._image = np.array([p.image_size_x, p.image_size_y], np.float32)
        columns, rows = (round(extent / p.stride) for extent in self._image.tolist())
        mapping = {one.src: one.dst for one in p.object_class} or {_KITTI_CAR: 0}
        self._channels = {source: FACTS + int(target) for source, target in mapping.items()}
        self.shape = (max(self._channels.values()) + 1, rows, columns)

    def table(self, boxes: Boxes) -> Floats:
        """The values of the grid; a later object replaces an earlier one."""
        grid = np.zeros(self.shape, np.float32)
        for (x, y, width, height), kind in zip(boxes.places, boxes.classes.tolist(), strict=True):
            low, high = np.array([x, y]), np.array([x + width, y + height])
            if self._p.crop_bboxes:
                low, high = np.maximum(low, 0), np.minimum(high, self._image)
            size = high - low
            if kind in self._channels and size.min() > 0 and size.prod() >= _EPSILON:
                self._mark(grid, low, size, self._channels[kind])
        return grid

    def _mark(self, grid: Floats, low: Floats, size: Floats, channel: int) -> None:
        """Writes an object into the cells that its region covers."""
        stride = np.float32(self._p.stride)
        region = self._region(size)
        corner = low + size / 2 - region / 2
        limit = np.array(self.shape[:0:-1])
        first = np.clip(np.floor(corner / stride).astype(np.int64), 0, limit)
        last = np.clip(np.ceil((corner + region) / stride).astype(np.int64), 0, limit)
        norm = stride * stride / max(float(region.prod()), float(np.finfo(np.float32).tiny))
        norm = norm if self._p.obj_norm else max(norm, 1.0)
        cells = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        starts = [numbers.astype(np.float32) * stride for numbers in cells]
        shared = [
            np.minimum(corner[i] + region[i], start + stride) - np.maximum(corner[i], start)
            for i, start in enumerate(starts)
        ]
        covered = np.clip(shared[1], 0, None)[:, None] * np.clip(shared[0], 0, None)
        rows, columns = np.nonzero(covered / (stride * stride) > _EPSILON)
        line, place = cells[1][rows], cells[0][columns]
        cell = np.stack([starts[0][columns], starts[1][rows]])
        grid[FACTS:, line, place] = 0
        grid[channel, line, place] = 1
        grid[0, line, place] = 1
        grid[1:3, line, place] = low[:, None] - cell
        grid[3:5, line, place] = (low + size)[:, None] - cell
        grid[5:7, line, place] = (1 / size)[:, None]
        grid[7, line, place] = norm

    def _region(self, size: Floats) -> Floats:
        """Width and height of the covered region around the middle of a box."""
        p = self._p
        shrunk = size * np.float32(p.scale_cvg)
        if p.gridbox_type == p.GRIDBOX_MIN:
            return np.minimum(size, np.maximum(np.float32(p.min_cvg_len), shrunk))
        return np.minimum(np.float32(p.max_cvg_len), shrunk)
