"""Layers of the R-CNN family: regions pooled from maps, and proposals of regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.layers.forks.rcnn._proposals import ProposalSettings

FLOAT, BOOL = 1, 9
SPATIAL = (2, 3)
# Of a box, x and y of a corner.
FIRST, SECOND = (0, 2), (2, 4)
MOST_BOXES = 2**31 - 1


@writers.register("ROIPooling")
def roi_pooling(at: OnnxLayer) -> None:
    """MaxRoiPool, which rounds as Caffe does."""
    if at.layer.pad_ratio:
        at.refuse("regions enlarged by pad_ratio are not written")
    regions = at.bottoms[1]
    rows = regions.name
    if len(regions.shape) > 2:
        rows = at.node("Reshape", rows, at.integers("rows", [-1, 5]))
    at.write(
        "MaxRoiPool",
        at.x,
        rows,
        pooled_shape=list(at.layer.bins),
        spatial_scale=at.layer.spatial_scale,
    )


@writers.register("Proposal")
@writers.register("ProposalLayer")
def proposal(at: OnnxLayer) -> None:
    """Boxes from anchors and deltas, the best ones by TopK, NonMaxSuppression among them."""
    made: ProposalSettings = at.layer.made
    scores = _by_position(at, _objects(at, len(made.anchors)), [-1])
    boxes = _boxes(at, made, _by_position(at, at.bottoms[1].name, [-1, 4]))
    large = _large(at, made, boxes)
    if made.drops_small:
        boxes = at.node("Compress", boxes, large, axis=0)
        scores = at.node("Compress", scores, large, axis=0)
    else:
        scores = at.node("Mul", scores, at.node("Cast", large, to=FLOAT))
    scores, order = at.node_with_two("TopK", scores, _count(at, scores, made.before), axis=0)
    boxes = at.node("Gather", boxes, order, axis=0)
    kept = _suppressed(at, boxes, scores, made)
    rows = at.node("Gather", boxes, kept, axis=0)
    zero = at.constant("image", 0)
    at.write("Pad", rows, at.integers("column", [0, 1, 0, 0]), zero)
    if len(at.tops) > 1:
        best = at.node("Gather", scores, kept, axis=0)
        shape = [-1, 1] if len(at.tops[1].shape) > 1 else [-1]
        at.write("Reshape", best, at.integers("scores", shape), top=1)


def _objects(at: OnnxLayer, anchors: int) -> str:
    """The second half of the channels of the scores."""
    return _part(at, at.x, 1, anchors, 2 * anchors)


def _part(at: OnnxLayer, x: str, axis: int, start: int, end: int) -> str:
    return at.node(
        "Slice",
        x,
        at.integers("start", [start]),
        at.integers("end", [end]),
        at.integers("axis", [axis]),
    )


def _by_position(at: OnnxLayer, maps: str, shape: Sequence[int]) -> str:
    """(1, A * values, H, W) by rows, columns, then anchors."""
    last = at.node("Transpose", maps, perm=[0, 2, 3, 1])
    return at.node("Reshape", last, at.integers("by position", shape))


def _boxes(at: OnnxLayer, made: ProposalSettings, deltas: str) -> str:
    """Anchors moved by deltas (K, 4), and cut at the edges of the image."""
    size, centre = _anchors(at, made)
    middle = at.node("Add", at.node("Mul", _part(at, deltas, 1, *FIRST), size), centre)
    growth = at.node("Exp", _part(at, deltas, 1, *SECOND))
    half = at.node("Mul", at.node("Mul", growth, at.constant("half", 0.5)), size)
    corners = (at.node("Sub", middle, half), at.node("Add", middle, half))
    most = at.node("Sub", _facts(at, [1, 0]), at.constant("one", 1))
    cut = [
        at.node("Max", at.node("Min", corner, most), at.constant("zero", 0)) for corner in corners
    ]
    return at.node("Concat", *cut, axis=1)


def _facts(at: OnnxLayer, which: Sequence[int]) -> str:
    """Numbers of the third bottom: height, width, scale."""
    flat = at.node("Reshape", at.bottoms[2].name, at.integers("flat", [-1]))
    return at.node("Gather", flat, at.integers("which", which), axis=0)


def _anchors(at: OnnxLayer, made: ProposalSettings) -> tuple[str, str]:
    """Sizes and centres (K, 2) of the anchors of all positions, or (K, 2) that broadcasts."""
    base = np.array(made.anchors, np.float32)
    size = base[:, 2:] - base[:, :2] + 1
    if any(at.bottom.varies(axis) for axis in SPATIAL):
        low = _shifted(at, made, base[:, :2])
        high = _shifted(at, made, base[:, 2:])
        sizes = at.node("Add", at.node("Sub", high, low), at.constant("one", 1))
    else:
        height, width = at.bottom.shape[2:]
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        shifts = np.stack([x, y], 2).astype(np.float32)[:, :, None] * np.float32(made.stride)
        low = at.constant("low", (shifts + base[:, :2]).reshape(-1, 2))
        sizes = at.constant(
            "size", np.broadcast_to(size, (height * width, *size.shape)).reshape(-1, 2)
        )
    centre = at.node("Add", low, at.node("Mul", sizes, at.constant("half", 0.5)))
    return sizes, centre


def _shifted(at: OnnxLayer, made: ProposalSettings, corner: np.ndarray) -> str:
    """A corner of the anchors at each position of a map of any size, (H * W * A, 2)."""
    height = _positions(at, 2, [-1, 1, 1, 1], [0, 1])
    width = _positions(at, 3, [1, -1, 1, 1], [1, 0])
    shifts = at.node("Mul", at.node("Add", width, height), at.constant("stride", made.stride))
    moved = at.node("Add", shifts, at.constant("corner", corner[None, None]))
    return at.node("Reshape", moved, at.integers("by position", [-1, 2]))


def _positions(at: OnnxLayer, axis: int, shape: Sequence[int], where: Sequence[int]) -> str:
    """0, 1 ... along an axis of the map, in the column of the corner that it moves."""
    extent = at.node("Squeeze", at.node("Shape", at.x, start=axis, end=axis + 1))
    zero, one = (at.constant(str(number), number, np.int64) for number in (0, 1))
    line = at.node("Cast", at.node("Range", zero, extent, one), to=FLOAT)
    placed = at.node("Reshape", line, at.integers("along", shape))
    return at.node("Mul", placed, at.constant("column", np.reshape(where, (1, 1, 1, 2))))


def _large(at: OnnxLayer, made: ProposalSettings, boxes: str) -> str:
    """Which boxes are at least as large as the settings want, (K) bool."""
    low, high = _part(at, boxes, 1, *FIRST), _part(at, boxes, 1, *SECOND)
    sizes = at.node("Add", at.node("Sub", high, low), at.constant("one", 1))
    numbers = int(np.prod(at.bottoms[2].shape))
    scales = _facts(at, [3, 2] if made.two_scales and numbers > 3 else [2, 2])
    least = at.node("Mul", scales, at.constant("least", made.least))
    enough = at.node("Cast", at.node("GreaterOrEqual", sizes, least), to=FLOAT)
    both = at.node("ReduceMin", enough, at.integers("axis", [1]), keepdims=0)
    return at.node("Cast", both, to=BOOL)


def _count(at: OnnxLayer, scores: str, most: int) -> str:
    """How many boxes TopK takes: all, or at most ``most``."""
    every = at.node("Shape", scores)
    return at.node("Min", every, at.integers("most", [most])) if most > 0 else every


def _suppressed(at: OnnxLayer, boxes: str, scores: str, made: ProposalSettings) -> str:
    """The indices of the boxes that stay; their corners are pixels in them."""
    ends = at.node("Add", boxes, at.constant("last pixel", [[0, 0, 1, 1]]))
    selected = at.node(
        "NonMaxSuppression",
        at.node("Unsqueeze", ends, at.integers("image axis", [0])),
        at.node("Unsqueeze", scores, at.integers("image and class", [0, 1])),
        at.integers("after", [made.after if made.after > 0 else MOST_BOXES]),
        at.constant("overlap", [made.threshold]),
    )
    return at.node("Squeeze", _part(at, selected, 1, 2, 3), at.integers("index axis", [1]))
