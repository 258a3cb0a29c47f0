"""DetectionOutput of SSD: boxes from codes, suppression per class, the best ones of each image.

Of each class the boxes with the largest scores are taken by TopK, so that NonMaxSuppression sees
one class of one image at a time; what it keeps is marked among all (image, class, rank), an order
that is the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffecompat.export.onnx_graph.coordinates import part
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

FLOAT = 1
MOST_BOXES = 2**31 - 1
LOWEST = float(np.finfo(np.float32).min)
# Above every index of a box.
NO_INDEX = 2**40
# Where boxes without area go, beyond all others; float32 still tells unit squares apart there.
FAR = 2**20


@writers.register("DetectionOutput")
def detection_output(at: OnnxLayer) -> None:
    layer = at.layer
    options = layer.options
    if layer.stages:
        at.refuse("the first stage of RefineDet is not written")
    if options.eta < 1 and options.nms_threshold > 0.5:
        at.refuse("suppression whose threshold falls (eta below 1) is not written")
    if options.nms_threshold > 1:
        at.refuse("nms_threshold is above 1")
    at.need_fixed(at.bottoms[2], range(3))
    boxes_count = at.bottoms[2].shape[2] // 4
    labels = [label for label in range(layer.classes) if label != options.background]
    most = boxes_count if options.top_k < 0 else min(options.top_k, boxes_count)
    scores, ranks = _best_of_classes(at, boxes_count, labels, most)
    boxes = _boxes_of_classes(at, boxes_count, labels, ranks, most)
    marked = _suppressed(at, boxes, scores, len(labels) * most, most)
    _write_rows(at, boxes, marked, labels, most)


def _shaped(at: OnnxLayer, x: str, shape: Sequence[int]) -> str:
    return at.node("Reshape", x, at.integers("shape", shape))


def _best_of_classes(
    at: OnnxLayer, count: int, labels: Sequence[int], most: int
) -> tuple[str, str]:
    """The largest scores of each class, and the numbers of their boxes, (N, classes, most)."""
    by_box = _shaped(at, at.bottoms[1].name, [-1, count, at.layer.classes])
    by_class = at.node("Transpose", by_box, perm=[0, 2, 1])
    wanted = at.node("Gather", by_class, at.integers("labels", labels), axis=1)
    best, ranks = at.node_with_two("TopK", wanted, at.integers("top_k", [most]), axis=2)
    return best, ranks


def _boxes_of_classes(
    at: OnnxLayer, count: int, labels: Sequence[int], ranks: str, most: int
) -> str:
    """The boxes of these scores, (N, classes * most, 4)."""
    boxes = _decoded(at, count)
    if at.layer.location_classes == 1:
        index = _shaped(at, ranks, [-1, len(labels) * most, 1])
        return at.node("GatherND", _shaped(at, boxes, [-1, count, 4]), index, batch_dims=1)
    by_class = at.node("Transpose", boxes, perm=[0, 2, 1, 3])
    wanted = at.node("Gather", by_class, at.integers("labels", labels), axis=1)
    index = at.node("Unsqueeze", ranks, at.integers("last axis", [-1]))
    found = at.node("GatherND", wanted, index, batch_dims=2)
    return _shaped(at, found, [-1, len(labels) * most, 4])


def _decoded(at: OnnxLayer, count: int) -> str:
    """The boxes that the locations mean, (N, count, classes of locations, 4)."""
    layer = at.layer
    values = _shaped(at, at.x, [-1, count, layer.location_classes, 4])
    both = _shaped(at, at.bottoms[2].name, [2, count, 1, 4])
    priors = at.node("Gather", both, at.integers("boxes", [0]), axis=0)
    if not layer.variance_in_target:
        factors = at.node("Gather", both, at.integers("variances", [1]), axis=0)
        values = at.node("Mul", values, factors)
    if layer.code == "CORNER":
        return at.node("Add", priors, values)
    low, high = (_half(at, priors, start) for start in (0, 2))
    sizes = at.node("Sub", high, low)
    if layer.code == "CORNER_SIZE":
        both_sizes = at.node("Concat", sizes, sizes, axis=3)
        return at.node("Add", priors, at.node("Mul", values, both_sizes))
    half = at.constant("half", 0.5)
    middle = at.node("Mul", at.node("Add", low, high), half)
    centres = at.node("Add", at.node("Mul", _half(at, values, 0), sizes), middle)
    halves = at.node("Mul", at.node("Exp", _half(at, values, 2)), sizes)
    halves = at.node("Mul", halves, half)
    corners = at.node("Sub", centres, halves), at.node("Add", centres, halves)
    return at.node("Concat", *corners, axis=3)


def _half(at: OnnxLayer, x: str, start: int) -> str:
    """Two of the four numbers along the last axis."""
    return part(at, x, -1, start, start + 2)


def _without_area_apart(at: OnnxLayer, boxes: str, most: int) -> str:
    """The boxes (N, classes * most, 4) with unit squares far away in place of those without area.

    In Caffe a box that ends where it begins, or before, overlaps nothing. NonMaxSuppression would
    exchange its corners, and that of OpenCV 5.0 lets two boxes without area overlap wholly.
    """
    sizes = at.node("Sub", _half(at, boxes, 2), _half(at, boxes, 0))
    least = at.node("ReduceMin", sizes, at.integers("last axis", [-1]), keepdims=1)
    squares = np.tile(np.array([FAR, 0, FAR + 1, 1], np.float32), (most, 1))
    squares[:, [0, 2]] += 2 * np.arange(most, dtype=np.float32)[:, None]
    by_rank = _shaped(at, boxes, [0, -1, most, 4])
    has_area = at.node("Greater", _shaped(at, least, [0, -1, most, 1]), at.constant("no area", 0))
    return at.node("Where", has_area, by_rank, at.constant("far away", squares[None, None]))


def _suppressed(at: OnnxLayer, boxes: str, scores: str, entries: int, most: int) -> str:
    """The scores (N, classes * most), the lowest number where a box is not kept."""
    options = at.layer.options
    each = at.node("Shape", scores, start=2)
    one = at.integers("one class", [1])
    # One class of one image is a batch entry of its own.
    apart = at.node("Concat", at.integers("any", [-1]), one, each, axis=0)
    single = at.node("Reshape", scores, apart)
    of_box = at.node("Concat", at.integers("any", [-1]), each, at.integers("four", [4]), axis=0)
    limits = [
        at.integers("all", [MOST_BOXES]),
        at.constant("nms_threshold", [options.nms_threshold]),
    ]
    if np.isfinite(options.threshold):
        limits.append(at.constant("confidence_threshold", [options.threshold]))
    corners = at.node("Reshape", _without_area_apart(at, boxes, most), of_box)
    found = at.node("NonMaxSuppression", corners, single, *limits)
    index = at.node("Gather", found, at.integers("entry and rank", [0, 2]), axis=1)
    # Of a single row OpenCV 5.0 drops the axis.
    index = _shaped(at, index, [-1, 2])
    # One index more, of a column that goes again: OpenCV 5.0 crashes on lists without elements.
    index = at.node("Concat", index, at.constant("one more", [[0, most]], np.int64), axis=0)
    flat = at.node("Reshape", scores, at.node("Concat", at.integers("any", [-1]), each, axis=0))
    lowest = at.constant("lowest", LOWEST)
    flat = at.node("Pad", flat, at.integers("column", [0, 0, 0, 1]), lowest)
    unmarked = at.node("Expand", lowest, at.node("Shape", flat))
    marked = at.node("ScatterND", unmarked, index, at.node("GatherND", flat, index))
    return _shaped(at, part(at, marked, 1, 0, most), [-1, entries])


def _write_rows(at: OnnxLayer, boxes: str, marked: str, labels: Sequence[int], most: int) -> None:
    """Rows of the best ``keep_top_k`` of each image; rows of -1 if there are none at all."""
    entries = len(labels) * most
    keep = at.layer.options.keep_top_k
    count = at.integers("keep_top_k", [entries if keep < 0 else min(keep, entries)])
    best, index = at.node_with_two("TopK", marked, count, axis=1)
    kept = at.node("Greater", best, at.constant("lowest", LOWEST))
    index = at.node("Where", kept, index, at.constant("none", NO_INDEX, np.int64))
    index, _ = at.node_with_two("TopK", index, count, axis=1, largest=0)
    inside = at.node("Less", index, at.constant("none", NO_INDEX, np.int64))
    where = at.node("Transpose", at.node("NonZero", inside), perm=[1, 0])
    where = at.node("Concat", where, at.constant("one more", [[0, 0]], np.int64), axis=0)
    index = at.node("Min", index, at.constant("last", entries - 1, np.int64))
    flat = at.node("Unsqueeze", at.node("GatherND", index, where), at.integers("column", [1]))
    image = at.node("Gather", where, at.integers("image", [0]), axis=1)
    place = at.node("Concat", image, flat, axis=1)
    label = at.node(
        "Gather",
        at.constant("label", labels),
        at.node("Div", flat, at.integers("most", [most])),
        axis=0,
    )
    score = at.node("Unsqueeze", at.node("GatherND", marked, place), at.integers("column", [1]))
    box = at.node("GatherND", boxes, place)
    rows = at.node("Concat", at.node("Cast", image, to=FLOAT), label, score, box, axis=1)
    write_some(at, part(at, rows, 0, 0, -1), marked)


def write_some(at: OnnxLayer, rows: str, per_image: str) -> None:
    """The rows (K, 7), or where there are none [image, -1, ...] for each image.

    Args:
        per_image: a value whose first axis counts the images.
    """
    images = at.node("Shape", per_image, start=0, end=1)
    zero, one = (at.constant(str(number), number, np.int64) for number in (0, 1))
    numbers = at.node("Range", zero, at.node("Squeeze", images), one)
    column = at.node("Unsqueeze", at.node("Cast", numbers, to=FLOAT), at.integers("column", [1]))
    nothing = at.node(
        "Pad", column, at.integers("columns", [0, 0, 0, 6]), at.constant("nothing", -1)
    )
    found = at.node("Shape", rows, start=0, end=1)
    some = at.node("Greater", found, at.integers("none", [0]))
    end = at.node("Where", some, found, images)
    taken = at.node(
        "Slice",
        at.node("Concat", rows, nothing, axis=0),
        at.integers("first", [0]),
        end,
        at.integers("rows", [0]),
    )
    at.write("Unsqueeze", taken, at.integers("first axes", [0, 1]))
