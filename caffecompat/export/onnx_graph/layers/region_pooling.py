"""PSROIPooling and ROIAlign, whose rules are not those of ONNX's RoiAlign, from basic operators.

And ROIPooling for programs that do not have ONNX's MaxRoiPool.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffecompat.export.onnx_graph.coordinates import extent, part
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.layers.forks.rcnn.pooling.psroi_pooling import LEAST_SIZE

FLOAT, INT64, DOUBLE = 1, 7, 11
# Columns of a region: the image, then x and y of both corners.
IMAGE, X1, Y1, X2, Y2 = range(5)
ROWS, COLUMNS = 2, 3
LOWEST = float(np.finfo(np.float32).min)
MOST = 2**31 - 1


@writers.register("PSROIPooling")
def psroi_pooling(at: OnnxLayer) -> None:
    """Means of bins from sums over the map, in 64 bits as in the layer."""
    k = at.layer.bins
    regions = _regions(at)
    top, bottom = _bins(at, regions, (Y1, Y2), ROWS, [-1, k, 1])
    left, right = _bins(at, regions, (X1, X2), COLUMNS, [-1, 1, k])
    image = at.node("Reshape", _image(at, regions), at.integers("per region", [-1, 1, 1]))
    group = at.constant("group", np.arange(k * k).reshape(1, k, k), np.int64)
    # OpenCV 5.0 has no GatherND of 64 bits, so that two values of 32 bits are gathered.
    sums = _sums_from_the_corner(at)
    high = at.node("Cast", sums, to=FLOAT)
    low = at.node("Cast", at.node("Sub", sums, at.node("Cast", high, to=DOUBLE)), to=FLOAT)

    def to(row: str, column: str) -> str:
        """The sum (R, k, k, outputs) of all that lies above and left of a corner of the bins."""
        parts = [_gathered(at, part, [image, group, row, column]) for part in (high, low)]
        return at.node("Add", *(at.node("Cast", part, to=DOUBLE) for part in parts))

    lower = at.node("Sub", to(bottom, right), to(top, right))
    upper = at.node("Sub", to(bottom, left), to(top, left))
    total = at.node("Cast", at.node("Sub", lower, upper), to=FLOAT)
    sizes = [at.node("Sub", bottom, top), at.node("Sub", right, left)]
    area = at.node("Cast", at.node("Mul", *_at_least_0(at, sizes)), to=FLOAT)
    # The sum of an empty bin counts what lies between bounds in the wrong order: it becomes 0.
    mean = at.node("Div", total, _last_axis(at, at.node("Max", area, at.constant("one", 1))))
    full = at.node("Min", area, at.constant("full", 1))
    means = at.node("Mul", mean, _last_axis(at, full))
    at.write("Transpose", means, perm=[0, 3, 1, 2])


def _at_least_0(at: OnnxLayer, sizes: list[str]) -> list[str]:
    zero = at.constant("zero", 0, np.int64)
    return [at.node("Max", size, zero) for size in sizes]


def _last_axis(at: OnnxLayer, x: str) -> str:
    return at.node("Unsqueeze", x, at.integers("last axis", [-1]))


def _bins(
    at: OnnxLayer, regions: str, corners: tuple[int, int], axis: int, shape: list[int]
) -> tuple[str, str]:
    """First and end of each bin along an axis of the map, int64 in ``shape``."""
    layer, k = at.layer, at.layer.bins
    scale, one = at.constant("spatial_scale", layer.spatial_scale), at.constant("one", 1)
    low, high = (_rounded_away(at, part(at, regions, 1, c, c + 1)) for c in corners)
    start = at.node("Mul", low, scale)
    end = at.node("Mul", at.node("Add", high, one), scale)
    size = at.node("Max", at.node("Sub", end, start), at.constant("least", LEAST_SIZE))
    step = at.node("Div", size, at.constant("bins", k))
    number = np.arange(k + 1, dtype=np.float32)
    found = []
    for which, rounding in ((number[:-1], "Floor"), (number[1:], "Ceil")):
        moved = at.node("Mul", step, at.constant("bin", which.reshape(1, k)))
        bound = at.node(rounding, at.node("Add", moved, start))
        inside = at.node("Min", bound, extent(at, at.bottom, axis))
        whole = at.node("Cast", at.node("Max", inside, at.constant("first", 0)), to=INT64)
        found.append(at.node("Reshape", whole, at.integers("bins", shape)))
    return found[0], found[1]


def _rounded_away(at: OnnxLayer, x: str) -> str:
    """C's ``round``, which moves halves away from zero."""
    size = at.node("Abs", x)
    below = at.node("Floor", size)
    # Not Floor(size + 0.5): with the largest number below 0.5 that sum is rounded to 1.
    above = at.node("Mul", at.node("Sub", size, below), at.constant("two", 2))
    nearest = at.node("Add", below, at.node("Floor", above))
    return at.node("Mul", nearest, at.node("Sign", x))


def _sums_from_the_corner(at: OnnxLayer) -> str:
    """(N, bins, H + 1, W + 1, outputs): the sum of what lies above and left of each place."""
    k, outputs = at.layer.bins, at.layer.output_dim
    total = at.node("Cast", at.x, to=DOUBLE)
    for axis in (ROWS, COLUMNS):
        total = at.node("CumSum", total, at.constant("axis", axis, np.int64))
    nothing = at.constant("nothing", 0, np.float64)
    total = at.node("Pad", total, at.integers("first", [0, 0, 1, 1, 0, 0, 0, 0]), nothing)
    last = at.node("Transpose", total, perm=[0, 2, 3, 1])
    apart = at.node("Reshape", last, at.integers("apart", [0, 0, 0, outputs, k * k]))
    return at.node("Transpose", apart, perm=[0, 4, 1, 2, 3])


def write_maxima_of_bins(at: OnnxLayer) -> None:
    """ROIPooling without MaxRoiPool: each bin is the union of four windows that overlap.

    The maxima of windows of all sizes 2^i x 2^j at all places are computed first, so that the map
    must have a fixed size.
    """
    at.need_fixed(at.bottom, (ROWS, COLUMNS))
    height, width = at.bottom.shape[ROWS], at.bottom.shape[COLUMNS]
    regions = _regions(at)
    y = _windows(at, _pooled_bounds(at, regions, (Y1, Y2), ROWS), height)
    x = _windows(at, _pooled_bounds(at, regions, (X1, X2), COLUMNS), width)
    across = at.constant("sizes along x", _levels(width), np.int64)
    table = at.node("Add", at.node("Mul", _as_rows(at, y.level), across), _as_columns(at, x.level))
    image = at.node("Reshape", _image(at, regions), at.integers("per region", [-1, 1, 1]))
    windows = _maxima_of_windows(at, height, width)
    found = [
        _gathered(at, windows, [table, image, _as_rows(at, row), _as_columns(at, column)])
        for row in y.starts
        for column in x.starts
    ]
    some = at.node("Mul", _as_rows(at, y.some), _as_columns(at, x.some))
    maxima = at.node("Mul", at.node("Max", *found), _last_axis(at, some))
    at.write("Transpose", maxima, perm=[0, 3, 1, 2])


class _Windows(NamedTuple):
    """Along an axis, two windows whose union is a bin; all of shape (R, bins).

    Attributes:
        level: their size is 2 to this power, int64.
        starts: where they begin, int64.
        some: 1, and 0 where the bin is empty, float32.
    """

    level: str
    starts: tuple[str, str]
    some: str


def _levels(extent: int) -> int:
    """How many powers of 2 are at most ``extent``."""
    return extent.bit_length()


def _pooled_bounds(
    at: OnnxLayer, regions: str, corners: tuple[int, int], axis: int
) -> tuple[str, str]:
    """First and end of each bin of ROIPooling along an axis, (R, bins) float32 in the map."""
    count = at.layer.bins[axis - ROWS]
    scale, one = at.constant("spatial_scale", at.layer.spatial_scale), at.constant("one", 1)
    start, last = (
        _rounded_away(at, at.node("Mul", part(at, regions, 1, c, c + 1), scale)) for c in corners
    )
    size = at.node("Max", at.node("Add", at.node("Sub", last, start), one), one)
    step = at.node("Div", size, at.constant("bins", count))
    zero, most = at.constant("zero", 0), extent(at, at.bottom, axis)
    found = []
    for first, rounding in ((0, "Floor"), (1, "Ceil")):
        number = at.constant("bin", np.arange(first, first + count).reshape(1, -1))
        bound = at.node("Add", at.node(rounding, at.node("Mul", step, number)), start)
        found.append(at.node("Max", at.node("Min", bound, most), zero))
    return found[0], found[1]


def _windows(at: OnnxLayer, bounds: tuple[str, str], extent: int) -> _Windows:
    first, end = bounds
    size = at.node("Sub", end, first)
    level, window = at.constant("level 0", 0), at.constant("window of 1", 1)
    for power in range(1, _levels(extent)):
        reached = at.node("GreaterOrEqual", size, at.constant("window", 2**power))
        more = at.node("Cast", reached, to=FLOAT)
        level = at.node("Add", level, more)
        growth = at.node("Mul", more, at.constant("growth", 2 ** (power - 1)))
        window = at.node("Add", window, growth)
    if _levels(extent) == 1:
        level = at.node("Mul", size, level)
    zero, last = at.constant("zero", 0), at.constant("last", extent - 1)
    starts = [
        at.node("Cast", at.node("Max", at.node("Min", start, last), zero), to=INT64)
        for start in (first, at.node("Sub", end, window))
    ]
    some = at.node("Cast", at.node("Greater", size, zero), to=FLOAT)
    return _Windows(at.node("Cast", level, to=INT64), (starts[0], starts[1]), some)


def _maxima_of_windows(at: OnnxLayer, height: int, width: int) -> str:
    """(sizes along y * sizes along x, N, H, W, C)."""
    rows = [at.node("Transpose", at.x, perm=[0, 2, 3, 1])]
    for power in range(_levels(height) - 1):
        rows.append(_doubled(at, rows[-1], 1, 2**power))
    tables = []
    for table in rows:
        tables.append(table)
        for power in range(_levels(width) - 1):
            tables.append(_doubled(at, tables[-1], 2, 2**power))
    first = at.integers("table", [0])
    return at.node("Concat", *(at.node("Unsqueeze", table, first) for table in tables), axis=0)


def _doubled(at: OnnxLayer, maxima: str, axis: int, size: int) -> str:
    """Maxima (N, H, W, C) of windows twice as large along an axis, from those of ``size``."""
    ends = [0] * 8
    ends[4 + axis] = size
    more = at.node("Pad", maxima, at.integers("end", ends), at.constant("lowest", LOWEST))
    return at.node("Max", maxima, part(at, more, axis, size, MOST))


@writers.register("ROIAlign")
def roi_align(at: OnnxLayer) -> None:
    """Bilinear samples at the corners of the bins, 0 beyond the map.

    RoiAlign samples inside of the bins, and has another rule for what lies beyond the map.
    """
    regions = _regions(at)
    y, rows_inside = _points(at, regions, (Y1, Y2), ROWS, at.layer.bins[0])
    x, columns_inside = _points(at, regions, (X1, X2), COLUMNS, at.layer.bins[1])
    inside = at.node("Mul", _as_rows(at, rows_inside), _as_columns(at, columns_inside))
    image = at.node("Reshape", _image(at, regions), at.integers("per region", [-1, 1, 1]))
    pixels = at.node("Transpose", at.x, perm=[0, 2, 3, 1])
    parts = []
    for row, row_share in _neighbours(at, y, ROWS):
        for column, column_share in _neighbours(at, x, COLUMNS):
            index = [image, _as_rows(at, row), _as_columns(at, column)]
            share = at.node("Mul", _as_rows(at, row_share), _as_columns(at, column_share))
            share = _last_axis(at, at.node("Mul", share, inside))
            parts.append(at.node("Mul", _gathered(at, pixels, index), share))
    total = parts[0]
    for other in parts[1:]:
        total = at.node("Add", total, other)
    at.write("Transpose", total, perm=[0, 3, 1, 2])


def _as_rows(at: OnnxLayer, x: str) -> str:
    return at.node("Unsqueeze", x, at.integers("column axis", [2]))


def _as_columns(at: OnnxLayer, x: str) -> str:
    return at.node("Unsqueeze", x, at.integers("row axis", [1]))


def _points(
    at: OnnxLayer, regions: str, corners: tuple[int, int], axis: int, count: int
) -> tuple[str, str]:
    """Coordinates (R, count + 1) along an axis of the map, and 1 for those that count, else 0."""
    low, high = (part(at, regions, 1, corner, corner + 1) for corner in corners)
    if at.layer.pad_ratio:
        size = at.node("Add", at.node("Sub", high, low), at.constant("one", 1))
        more = at.node("Mul", size, at.constant("pad_ratio", at.layer.pad_ratio))
        low, high = at.node("Sub", low, more), at.node("Add", high, more)
    scale, half = at.constant("spatial_scale", at.layer.spatial_scale), at.constant("half", 0.5)
    start, end = (at.node("Sub", at.node("Mul", x, scale), half) for x in (low, high))
    size = at.node("Sub", end, start)
    step = at.node("Div", size, at.constant("bins", count))
    number = at.constant("corner", np.arange(count + 1).reshape(1, -1))
    place = at.node("Add", at.node("Mul", step, number), start)
    most = at.node("Sub", extent(at, at.bottom, axis), half)
    conditions = [
        at.node("GreaterOrEqual", place, at.constant("first", -0.5)),
        at.node("LessOrEqual", place, most),
        at.node("Greater", size, at.constant("no size", 0)),
    ]
    ones = [at.node("Cast", condition, to=FLOAT) for condition in conditions]
    return place, at.node("Mul", at.node("Mul", ones[0], ones[1]), ones[2])


def _neighbours(at: OnnxLayer, place: str, axis: int) -> list[tuple[str, str]]:
    """The pixels (int64) before and after each coordinate, each with its share."""
    one, zero = at.constant("one", 1), at.constant("zero", 0)
    last = at.node("Sub", extent(at, at.bottom, axis), one)

    def within(x: str) -> str:
        return at.node("Max", at.node("Min", x, last), zero)

    floor = at.node("Floor", place)
    before, after = within(floor), within(at.node("Add", floor, one))
    share = at.node("Sub", within(place), before)
    pixels = [at.node("Cast", x, to=INT64) for x in (before, after)]
    return list(zip(pixels, (at.node("Sub", one, share), share), strict=True))


def _regions(at: OnnxLayer) -> str:
    """(R, 5), also where the bottom is (R, 5, 1, 1)."""
    regions = at.bottoms[1]
    if len(regions.shape) == 2:
        return regions.name
    return at.node("Reshape", regions.name, at.integers("rows", [-1, 5]))


def _image(at: OnnxLayer, regions: str) -> str:
    return at.node("Cast", part(at, regions, 1, IMAGE, IMAGE + 1), to=INT64)


def _gathered(at: OnnxLayer, x: str, index: list[str]) -> str:
    """Elements of ``x`` along its first axes, for indices that are broadcast to one shape."""
    total = index[0]
    for other in index[1:]:
        total = at.node("Add", total, other)
    shape = at.node("Shape", total)
    each = [at.node("Expand", one, shape) for one in index]
    return at.node("GatherND", x, at.node("Concat", *[_last_axis(at, e) for e in each], axis=-1))
