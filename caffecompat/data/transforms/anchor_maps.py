"""Maps of labels and boxes for anchors on a grid (MS-CNN, Cascade R-CNN).

A map (6, h, w) has for each cell the label, x and y of the centre, width and height of the object
that the cell's anchor matches, and the overlap; where the label is 0 and the overlap 1, the cell is
to be ignored. Source of the semantics: image_gt_data_layer.cpp and detection_data_layer.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.rounding import round_away
from caffecompat.data.transforms.region_crops import Placed

Floats = NDArray[np.float32]

_OVERLAP = 5


@dataclass(frozen=True)
class AnchorSettings:
    """Which anchors match which objects.

    Attributes:
        strides: pixels between cells, for each map.
        heights, widths: of the anchor, for each map.
        threshold: an anchor matches the object that it overlaps most, if by more than this.
        ignore_threshold: an anchor that regions to ignore cover by this or more is ignored.
        pickup: an object without a match gets the cell of its centre on the map of its best anchor,
            if it overlaps that by this or more.
        inclusive: boxes have their last pixel (Cascade R-CNN).
        margin: anchors that reach beyond the image by more than this share of half their size are
            ignored; None for no limit.
        inside: anchors of which less than this share lies in the image are ignored; None.
    """

    strides: tuple[int, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    threshold: float = 0.5
    ignore_threshold: float = 0.4
    pickup: float = 0.2
    inclusive: bool = False
    margin: float | None = None
    inside: float | None = None


@dataclass(frozen=True)
class Targets:
    """Objects as they are in the canvas: boxes (G, 4), labels (G) and ignored (G)."""

    boxes: Floats
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    def checked(self, canvas: tuple[int, int], least: tuple[float, float]) -> Targets:
        """Objects whose centre is outside, or that are smaller than ``least``, are ignored.

        Both are (height, width).
        """
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        sizes = self.boxes[:, 2:] - self.boxes[:, :2] + 1
        limits = np.array(canvas[::-1], np.float32)
        outside = ((centres < 0) | (centres >= limits)).any(1)
        small = (sizes < np.array(least[::-1], np.float32)).any(1)
        return Targets(self.boxes, self.labels, self.ignored | outside | small)


def map_size(canvas: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns of a map for a canvas."""
    return round_away(canvas[0] / stride), round_away(canvas[1] / stride)


def anchor_maps(image: Placed, targets: Targets, settings: AnchorSettings) -> list[Floats]:
    """The map of each stride."""
    canvas = image.regions.size
    count = len(targets.boxes)
    matches = np.zeros(count, np.int64)
    best, best_map = np.zeros(count, np.float32), np.zeros(count, np.int64)
    maps = []
    for number, stride in enumerate(settings.strides):
        rows, columns = map_size(canvas, stride)
        found = np.zeros((6, rows, columns), np.float32)
        anchors = _anchors(rows, columns, number, settings)
        open_cells, covered = _open_cells(image, anchors, number, settings)
        found[_OVERLAP][~open_cells] = 1
        overlaps = _overlaps(targets.boxes, anchors, settings.inclusive) * open_cells
        largest = overlaps.max((1, 2), initial=0.0)
        better = largest > best
        best[better], best_map[better] = largest[better], number
        matches += _match(found, overlaps, targets, open_cells, covered, settings)
        maps.append(found)
    missed = ~targets.ignored & (matches == 0) & (best >= settings.pickup)
    for index in np.flatnonzero(missed).tolist() if maps else ():
        number = int(best_map[index])
        _pick_up(maps[number], targets, index, best, settings, number)
    return maps


def _anchors(rows: int, columns: int, number: int, settings: AnchorSettings) -> Floats:
    """The anchors (rows, columns, 4) of a map."""
    stride = settings.strides[number]
    half = np.array([settings.widths[number] / 2, settings.heights[number] / 2], np.float32)
    x, y = ((np.arange(n, dtype=np.float32) + 0.5) * stride for n in (columns, rows))
    centres = np.stack(np.meshgrid(x, y), 2)
    return np.concatenate([centres - half, centres + half], 2)


def _open_cells(
    image: Placed, anchors: Floats, number: int, settings: AnchorSettings
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The cells that take part, and which anchors are covered by regions to ignore."""
    stride = settings.strides[number]
    rows, columns = anchors.shape[:2]
    cells = np.zeros((rows, columns), bool)
    first = [round_away(s / stride) for s in image.start]
    last = [f + round_away(e / stride) for f, e in zip(first, image.extent, strict=True)]
    cells[first[0] : last[0], first[1] : last[1]] = True
    start = np.array(image.start[::-1], np.float32)
    end = start + np.array(image.extent[::-1], np.float32)
    if settings.margin is not None:
        half = np.array([settings.widths[number] / 2, settings.heights[number] / 2], np.float32)
        room = np.float32(settings.margin) * half
        cells &= (anchors[:, :, :2] >= start - room).all(2)
        cells &= (anchors[:, :, 2:] < end + room).all(2)
    elif settings.inside is not None:
        whole_image = np.concatenate([start, end])[None]
        share = _covers(whole_image, anchors, settings.inclusive)[0]
        cells &= share >= settings.inside
    shares = _covers(image.regions.ignored, anchors, settings.inclusive).sum(0)
    covered = shares >= np.float32(settings.ignore_threshold)
    if not settings.inclusive:
        cells &= ~covered
    return cells, covered


def _match(
    found: Floats,
    overlaps: Floats,
    targets: Targets,
    open_cells: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    settings: AnchorSettings,
) -> NDArray[np.int64]:
    """Fills a map; how many cells each object has."""
    count = len(targets.boxes)
    if not count:
        found[_OVERLAP][open_cells & covered] = 1
        return np.zeros(0, np.int64)
    chosen, largest = overlaps.argmax(0), overlaps.max(0)
    matched = open_cells & (largest > np.float32(settings.threshold))
    found[_OVERLAP][open_cells] = largest[open_cells]
    found[_OVERLAP][open_cells & covered & ~matched] = 1
    own = chosen[matched]
    found[0][matched] = np.where(targets.ignored[own], 0, targets.labels[own])
    found[1:5, matched] = _centre_and_size(targets.boxes[own], settings.inclusive).T
    return np.bincount(own, minlength=count)


def _pick_up(
    found: Floats,
    targets: Targets,
    index: int,
    best: Floats,
    settings: AnchorSettings,
    number: int,
) -> None:
    """Gives an object the cell of its centre, unless another has it."""
    values = _centre_and_size(targets.boxes[index : index + 1], settings.inclusive)[0]
    stride = settings.strides[number]
    column, row = (int(np.floor(v / stride)) for v in values[:2])
    row, column = min(max(row, 0), found.shape[1] - 1), min(max(column, 0), found.shape[2] - 1)
    if found[0, row, column] > 0:
        return
    found[0, row, column] = targets.labels[index]
    found[1:5, row, column] = values
    if settings.inclusive:
        found[_OVERLAP, row, column] = best[index]


def _centre_and_size(boxes: Floats, inclusive: bool) -> Floats:
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sizes = boxes[:, 2:] - boxes[:, :2] + np.float32(inclusive)
    return np.concatenate([centres, sizes], 1).astype(np.float32)


def _shared(boxes: Floats, anchors: Floats, inclusive: bool) -> Floats:
    """The areas (G, rows, columns) that boxes and anchors share."""
    own = boxes[:, None, None]
    low = np.maximum(own[..., :2], anchors[..., :2])
    high = np.minimum(own[..., 2:], anchors[..., 2:])
    more = np.float32(inclusive)
    sides = high - low + more
    # With the last pixel, a shared line counts if it is vertical, and not if it is horizontal.
    none = (low >= high).any(3)
    if inclusive:
        none = (low[..., 0] > high[..., 0]) | (low[..., 1] >= high[..., 1])
    shared: Floats = np.where(none, np.float32(0), sides[..., 0] * sides[..., 1])
    return shared


def _areas(boxes: Floats, inclusive: bool) -> Floats:
    sides = boxes[..., 2:] - boxes[..., :2] + np.float32(inclusive)
    areas: Floats = np.maximum(sides, 0).prod(-1)
    return areas


def _overlaps(boxes: Floats, anchors: Floats, inclusive: bool) -> Floats:
    """Intersection over union (G, rows, columns)."""
    shared = _shared(boxes, anchors, inclusive)
    union = _areas(boxes, inclusive)[:, None, None] + _areas(anchors, inclusive) - shared
    overlaps: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps


def _covers(boxes: Floats, anchors: Floats, inclusive: bool) -> Floats:
    """The share (G, rows, columns) of each anchor that each box covers."""
    shares: Floats = _shared(boxes, anchors, inclusive) / _areas(anchors, inclusive)
    return shares
