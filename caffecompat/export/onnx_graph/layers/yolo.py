"""Outputs of YOLO nets: boxes from maps, and suppression among them.

The boxes of all maps come in one order, image, row, column, anchor, and in YOLOv3 class: it decides
which of two boxes with equal scores is the better one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffecompat.export.onnx_graph.coordinates import extent, part, positions
from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.export.onnx_graph.layers.detection_output import write_some

FLOAT = 1
MOST_BOXES = 2**31 - 1
HEIGHT_AXIS, WIDTH_AXIS = 2, 3
# Values of an anchor: x, y, width, height, objectness, then the classes.
OBJECTNESS, CLASSES = 4, 5


@writers.register("YoloDetectionOutput")
def yolo_detection_output(at: OnnxLayer) -> None:
    """YOLOv2's: a box has the best class of a softmax."""
    sizes = np.reshape(at.layer.biases, (-1, 2))
    boxes, labels, scores = [], [], []
    for values in at.bottoms:
        cells = _cells(at, values)
        shares = at.node("Softmax", _classes(at, cells), axis=-1)
        best = at.node("ReduceMax", shares, at.integers("classes", [-1]), keepdims=1)
        scores.append(_flat(at, at.node("Mul", _objects(at, cells), best)))
        labels.append(_flat(at, at.node("ArgMax", shares, axis=-1, keepdims=0)))
        boxes.append(at.node("Reshape", _boxes(at, values, cells, sizes), _rows(at)))
    every = _joined(at, labels)
    least = np.nextafter(np.float32(at.layer.least), np.float32(-np.inf))
    _write_detections(
        at, boxes, scores, float(least), lambda index: at.node("Gather", every, index, axis=0)
    )


@writers.register("Yolov3DetectionOutput")
def yolov3_detection_output(at: OnnxLayer) -> None:
    """YOLOv3's: a box counts once for each class."""
    classes = at.layer.classes
    boxes, scores = [], []
    for index, values in enumerate(at.bottoms):
        cells = _cells(at, values)
        shares = at.node("Sigmoid", _classes(at, cells))
        scores.append(_flat(at, at.node("Mul", shares, _objects(at, cells))))
        sizes = np.array(at.layer.sizes[index]) / at.layer.scales[index]
        single = at.node(
            "Reshape", _boxes(at, values, cells, sizes), at.integers("single", [-1, 1, 4])
        )
        each = at.node("Tile", single, at.integers("classes", [1, classes, 1]))
        boxes.append(at.node("Reshape", each, _rows(at)))
    count = at.integers("classes", [classes])
    _write_detections(at, boxes, scores, at.layer.least, lambda index: at.node("Mod", index, count))


def _cells(at: OnnxLayer, values: Value) -> str:
    """(N, H, W, A, 5 + classes)."""
    last = at.node("Transpose", values.name, perm=[0, 2, 3, 1])
    shape = [0, 0, 0, at.layer.anchors, CLASSES + at.layer.classes]
    return at.node("Reshape", last, at.integers("anchors", shape))


def _objects(at: OnnxLayer, cells: str) -> str:
    return at.node("Sigmoid", part(at, cells, -1, OBJECTNESS, CLASSES))


def _classes(at: OnnxLayer, cells: str) -> str:
    return part(at, cells, -1, CLASSES, CLASSES + at.layer.classes)


def _boxes(at: OnnxLayer, values: Value, cells: str, sizes: np.ndarray) -> str:
    """Centres and sizes relative to the image (N, H, W, A, 4).

    Args:
        sizes: (A, 2), width and height of the anchors in cells.
    """
    extents = at.node(
        "Concat", *(extent(at, values, axis) for axis in (WIDTH_AXIS, HEIGHT_AXIS)), axis=0
    )
    column = positions(at, values, WIDTH_AXIS, [1, -1, 1, 1])
    row = positions(at, values, HEIGHT_AXIS, [-1, 1, 1, 1])
    x, y = (part(at, cells, -1, axis, axis + 1) for axis in (0, 1))
    centre = at.node(
        "Concat",
        at.node("Add", at.node("Sigmoid", x), column),
        at.node("Add", at.node("Sigmoid", y), row),
        axis=-1,
    )
    size = at.node("Mul", at.node("Exp", part(at, cells, -1, 2, 4)), at.constant("anchors", sizes))
    both = [at.node("Div", corner, extents) for corner in (centre, size)]
    return at.node("Concat", *both, axis=-1)


def _flat(at: OnnxLayer, x: str) -> str:
    return at.node("Reshape", x, at.integers("flat", [-1]))


def _rows(at: OnnxLayer) -> str:
    return at.integers("rows", [-1, 4])


def _joined(at: OnnxLayer, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else at.node("Concat", *parts, axis=0)


def _write_detections(
    at: OnnxLayer,
    boxes: list[str],
    scores: list[str],
    least: float,
    labels_of: Callable[[str], str],
) -> None:
    """Rows of the boxes that stay, the best first.

    Args:
        boxes, scores: of each map, (R, 4) and (R,).
        least: boxes whose score is greater count.
        labels_of: the labels (K,) int64, counted from 0, of the boxes with the indices (K,).
    """
    every_box, every_score = _joined(at, boxes), _joined(at, scores)
    index = _kept(at, every_box, every_score, least)
    box = at.node("Gather", every_box, index, axis=0)
    column = at.integers("column", [1])
    score = at.node("Unsqueeze", at.node("Gather", every_score, index, axis=0), column)
    label = at.node("Add", labels_of(index), at.integers("first label", [1]))
    facts = [at.node("Unsqueeze", at.node("Cast", label, to=FLOAT), column), score]
    centre, size = part(at, box, 1, 0, 2), part(at, box, 1, 2, 4)
    half = at.node("Mul", size, at.constant("half", 0.5))
    corners = [at.node(operator, centre, half) for operator in ("Sub", "Add")]
    found = at.node("Concat", *facts, *corners, axis=1)
    image = at.integers("image", [0, 1, 0, 0])
    write_some(at, at.node("Pad", found, image, at.constant("image 0", 0)), at.x)


def _kept(at: OnnxLayer, boxes: str, scores: str, least: float) -> str:
    """The indices (K,) of the boxes that no better one overlaps, the best first."""
    threshold = at.layer.threshold
    if not threshold > 0:
        at.refuse(f"nms_threshold is {threshold:g}; suppression is written for positive ones")
    # NonMaxSuppression drops what overlaps by more than the threshold; the layer also at it.
    overlap = np.nextafter(np.float32(min(threshold, 1)), np.float32(0))
    if threshold > 1:
        overlap = np.float32(1)
    selected = at.node(
        "NonMaxSuppression",
        at.node("Unsqueeze", boxes, at.integers("image axis", [0])),
        at.node("Unsqueeze", scores, at.integers("image and class", [0, 1])),
        at.integers("all", [MOST_BOXES]),
        at.constant("nms_threshold", [overlap]),
        at.constant("confidence_threshold", [least]),
        center_point_box=1,
    )
    return at.node("Squeeze", part(at, selected, 1, 2, 3), at.integers("index axis", [1]))
