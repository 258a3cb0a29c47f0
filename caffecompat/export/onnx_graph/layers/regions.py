"""Layers of the R-CNN family: regions pooled from maps, and proposals of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from caffecompat.export.onnx_graph.coordinates import part, positions
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.export.onnx_graph.layers.region_pooling import write_maxima_of_bins
from caffecompat.layers.forks.rcnn.proposals._proposals import ProposalSettings

FLOAT, BOOL = 1, 9
SPATIAL = (2, 3)
# Of a box, x and y of a corner.
FIRST, SECOND = (0, 2), (2, 4)
MOST_BOXES = 2**31 - 1
LOWEST = float(np.finfo(np.float32).min)
LEAST_SCORE = 1e-30


@writers.register("ROIPooling")
def roi_pooling(at: OnnxLayer) -> None:
    """MaxRoiPool, which rounds as Caffe does; for OpenCV, which does not have it, other nodes."""
    if at.layer.pad_ratio:
        at.refuse("regions enlarged by pad_ratio are not written")
    if at.program == "opencv5":
        write_maxima_of_bins(at)
        return
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
        scores = at.node("Where", large, scores, at.constant("dropped", LOWEST))
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


@writers.register("TextProposalLayer")
def text_proposal(at: OnnxLayer) -> None:
    """CTPN's boxes, whose anchors move and grow up and down only; none is dropped."""
    base = np.array(at.layer.anchors, np.float32)
    anchors = _AnchorSettings(base.tolist(), at.layer.given["feat_stride"])
    low, high = _corners(at, anchors)
    deltas = _by_position(at, at.bottoms[1].name, [-1, 2])
    move, factor = part(at, deltas, 1, 0, 1), part(at, deltas, 1, 1, 2)
    half, one = at.constant("half", 0.5), at.constant("one", 1)
    (x1, y1), (x2, y2) = (
        (part(at, corner, 1, 0, 1), part(at, corner, 1, 1, 2)) for corner in (low, high)
    )
    old = at.node("Add", at.node("Sub", y2, y1), one)
    centre = at.node("Add", at.node("Mul", move, old), at.node("Mul", at.node("Add", y1, y2), half))
    tall = at.node("Mul", at.node("Exp", factor), old)
    top = at.node("Sub", centre, at.node("Mul", tall, half))
    boxes = at.node("Concat", x1, top, x2, at.node("Add", top, tall), axis=1)
    most = at.node("Sub", _facts(at, [1, 0, 1, 0]), one)
    at.write("Max", at.node("Min", boxes, most), at.constant("zero", 0))
    scores = _objects(at, len(base))
    last = at.node("Transpose", scores, perm=[0, 2, 3, 1])
    at.write("Reshape", last, at.integers("by position", [-1, 1]), top=1)


class _AnchorSettings(NamedTuple):
    """What of :class:`ProposalSettings` the anchors of a map need."""

    anchors: Sequence[Sequence[float]]
    stride: float


def _objects(at: OnnxLayer, anchors: int) -> str:
    """The second half of the channels of the scores."""
    return part(at, at.x, 1, anchors, 2 * anchors)


def _by_position(at: OnnxLayer, maps: str, shape: Sequence[int]) -> str:
    """(1, A * values, H, W) by rows, columns, then anchors."""
    last = at.node("Transpose", maps, perm=[0, 2, 3, 1])
    return at.node("Reshape", last, at.integers("by position", shape))


def _boxes(at: OnnxLayer, made: ProposalSettings, deltas: str) -> str:
    """Anchors moved by deltas (K, 4), and cut at the edges of the image."""
    size, centre = _anchors(at, made)
    middle = at.node("Add", at.node("Mul", part(at, deltas, 1, *FIRST), size), centre)
    growth = at.node("Exp", part(at, deltas, 1, *SECOND))
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


def _anchors(at: OnnxLayer, made: ProposalSettings | _AnchorSettings) -> tuple[str, str]:
    """Sizes and centres (K, 2) of the anchors of all positions."""
    low, high = _corners(at, made)
    size = at.node("Add", at.node("Sub", high, low), at.constant("one", 1))
    return size, at.node("Add", low, at.node("Mul", size, at.constant("half", 0.5)))


def _corners(at: OnnxLayer, made: ProposalSettings | _AnchorSettings) -> tuple[str, str]:
    """The corners (K, 2) of the anchors of all positions: rows, columns, then anchors."""
    base = np.array(made.anchors, np.float32)
    if any(at.bottom.varies(axis) for axis in SPATIAL):
        return _shifted(at, made, base[:, :2]), _shifted(at, made, base[:, 2:])
    height, width = at.bottom.shape[2:]
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    shifts = np.stack([x, y], 2).astype(np.float32)[:, :, None] * np.float32(made.stride)
    low, high = ((shifts + base[:, at_ : at_ + 2]).reshape(-1, 2) for at_ in (0, 2))
    return at.constant("low", low), at.constant("high", high)


def _shifted(at: OnnxLayer, made: ProposalSettings | _AnchorSettings, corner: np.ndarray) -> str:
    """A corner of the anchors at each position of a map of any size, (H * W * A, 2)."""
    row = positions(at, at.bottom, 2, [-1, 1, 1, 1])
    column = positions(at, at.bottom, 3, [1, -1, 1, 1])
    height = at.node("Mul", row, at.constant("of y", np.reshape([0, 1], (1, 1, 1, 2))))
    width = at.node("Mul", column, at.constant("of x", np.reshape([1, 0], (1, 1, 1, 2))))
    shifts = at.node("Mul", at.node("Add", width, height), at.constant("stride", made.stride))
    moved = at.node("Add", shifts, at.constant("corner", corner[None, None]))
    return at.node("Reshape", moved, at.integers("by position", [-1, 2]))


def _large(at: OnnxLayer, made: ProposalSettings, boxes: str) -> str:
    """Which boxes are at least as large as the settings want, (K) bool."""
    low, high = part(at, boxes, 1, *FIRST), part(at, boxes, 1, *SECOND)
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
    limits = [
        at.integers("after", [made.after if made.after > 0 else MOST_BOXES]),
        at.constant("overlap", [made.threshold]),
    ]
    # The boxes are in order already. OpenCV 5.0 leaves out those whose score is not above 0.
    positive = at.node("Max", scores, at.constant("positive", LEAST_SCORE))
    if made.drops_small:
        dropped = at.node("LessOrEqual", scores, at.constant("dropped", LOWEST))
        positive = at.node("Where", dropped, at.constant("no score", 0), positive)
        limits.append(at.constant("least score", [0]))
    selected = at.node(
        "NonMaxSuppression",
        at.node("Unsqueeze", ends, at.integers("image axis", [0])),
        at.node("Unsqueeze", positive, at.integers("image and class", [0, 1])),
        *limits,
    )
    return at.node("Squeeze", part(at, selected, 1, 2, 3), at.integers("index axis", [1]))
