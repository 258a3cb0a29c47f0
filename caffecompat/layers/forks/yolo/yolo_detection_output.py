"""YoloDetectionOutput of MobileNet-YOLO: the detections of YOLOv2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.yolo._centre_boxes import best_rows

if TYPE_CHECKING:
    from torch import Tensor


@register("YoloDetectionOutput", fork="MobileNet-YOLO")
class YoloDetectionOutput(Layer):
    """Detections from square maps (1, num_box * (5 + num_classes), S, S).

    Top: (1, 1, K, 7) with rows [0, label, score, left, top, right, bottom], relative to the image;
    the label is that of the class, counted from 1. Without detections there is one row for each
    image: its index, then -1. When the net is built the top has one row.

    The channels of an anchor are x, y, width, height, objectness and classes. A box has its centre
    at (column + sigmoid(x)) / S and (row + sigmoid(y)) / S, and the size exp(width) and exp(height)
    times the anchor's ``biases``, in cells. Its score is sigmoid(objectness) times the largest
    probability of a softmax over the classes. Boxes of at least ``confidence_threshold`` stay,
    without those that overlap a better one, of whatever class, by ``nms_threshold`` or more. All
    bottoms have the same anchors, and all their boxes count as one image's. Source:
    yolo_detection_output_layer of MobileNet-YOLO.
    """

    bottoms = between(1, 2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("yolo_detection_output_param",)
    batch_coupling = "takes the boxes of the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.yolo_detection_output_param
        self.check(p.HasField("num_classes"), "yolo_detection_output_param has no num_classes")
        self.classes, self.anchors = int(p.num_classes), int(p.num_box)
        self.check(
            len(p.biases) >= 2 * self.anchors,
            f"there are {len(p.biases)} biases; num_box {self.anchors} needs {2 * self.anchors}",
        )
        self.biases = [float(value) for value in p.biases][: 2 * self.anchors]
        self.least, self.threshold = float(p.confidence_threshold), float(p.nms_threshold)

    def forward(self, *maps: Tensor) -> Tensor:
        found = [self._boxes(values.detach()) for values in maps]
        return best_rows(found, self.threshold, maps[0].shape[0])

    def infer(self, *maps: Tensor) -> Tensor:
        for values in maps:
            self._check_map(values)
        return maps[0].new_empty(1, 1, 1, 7)

    def _check_map(self, values: Tensor) -> None:
        wanted = self.anchors * (5 + self.classes)
        self.check(
            values.dim() == 4 and values.shape[1] == wanted and values.shape[2] == values.shape[3],
            f"a bottom is {format_shape(values.shape)}; expected square maps with {wanted} "
            f"channels, for {self.anchors} anchors and {self.classes} classes",
        )

    def _boxes(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (R, 4), labels (R) and scores (R) at or above the threshold."""
        import torch

        self._check_map(values)
        n, _, side, _ = values.shape
        cells = values.reshape(n, self.anchors, 5 + self.classes, side, side)
        x, y, wide, high, objectness = cells.permute(2, 0, 3, 4, 1)[:5].unbind(0)
        shares = cells[:, :, 5:].permute(0, 3, 4, 1, 2).softmax(-1)
        column = torch.arange(side, device=values.device, dtype=values.dtype)[:, None]
        biases = values.new_tensor(self.biases).reshape(-1, 2)
        boxes = torch.stack(
            [
                (column + x.sigmoid()) / side,
                (column[:, None] + y.sigmoid()) / side,
                wide.exp() * biases[:, 0] / side,
                high.exp() * biases[:, 1] / side,
            ],
            -1,
        )
        best, label = shares.max(-1)
        score = objectness.sigmoid() * best
        kept = score >= self.least
        return boxes[kept], label[kept] + 1, score[kept]
