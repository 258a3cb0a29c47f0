"""YoloDetectionOutput of MobileNet-YOLO: the detections of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers.forks.yolo._detections_of_maps import DetectionsOfMaps, centred_boxes

if TYPE_CHECKING:
    from torch import Tensor


@register("YoloDetectionOutput", fork="MobileNet-YOLO")
class YoloDetectionOutput(DetectionsOfMaps):
    """Detections from square maps (1, num_box * (5 + num_classes), S, S).

    See :class:`DetectionsOfMaps`. A box has its centre at (column + sigmoid(x)) / S and
    (row + sigmoid(y)) / S, and the size exp(width) and exp(height) times the anchor's ``biases``,
    in cells. Its score is sigmoid(objectness) times the largest probability of a softmax over the
    classes; boxes of at least ``confidence_threshold`` stay. All bottoms have the same anchors, and
    all their boxes count as one image's. Source: yolo_detection_output_layer of MobileNet-YOLO.
    """

    bottoms = between(1, 2)
    fork_fields = ("yolo_detection_output_param",)
    squares = True

    def read(self, p: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            len(p.biases) >= 2 * self.anchors,
            f"there are {len(p.biases)} biases; num_box {self.anchors} needs {2 * self.anchors}",
        )
        self.biases = [float(value) for value in p.biases][: 2 * self.anchors]

    def boxes(self, cells: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
        boxes = centred_boxes(cells, cells.new_tensor(self.biases).reshape(-1, 2), 1)
        best, label = cells[..., 5:].softmax(-1).max(-1)
        score = cells[..., 4].sigmoid() * best
        kept = score >= self.least
        return boxes[kept], label[kept] + 1, score[kept]
