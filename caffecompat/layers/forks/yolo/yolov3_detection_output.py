"""Yolov3DetectionOutput of MobileNet-YOLO: the detections of YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register
from caffecompat.layers.forks.yolo._centre_boxes import best_rows

if TYPE_CHECKING:
    from torch import Tensor


@register("Yolov3DetectionOutput", fork="MobileNet-YOLO")
class Yolov3DetectionOutput(Layer):
    """Detections from maps of several sizes (1, num_box * (5 + num_classes), H, W).

    Top: (1, 1, K, 7) with rows [0, label, score, left, top, right, bottom], relative to the image;
    the label is that of the class, counted from 1. Without detections there is one row for each
    image: its index, then -1. When the net is built the top has one row.

    The channels of an anchor are x, y, width, height, objectness and classes. A box has its centre
    at (column + sigmoid(x)) / W and (row + sigmoid(y)) / H; its size is exp(width) and exp(height)
    times the anchor's ``biases``, in pixels of an image of W and H times the map's
    ``anchors_scale``. ``mask`` lists the anchors of each map in turn. A box counts once for each
    class whose sigmoid times sigmoid(objectness) is above ``confidence_threshold``. Of all these
    boxes those are dropped that overlap a better one, of whatever class, by ``nms_threshold`` or
    more. Source: yolov3_detection_output_layer of MobileNet-YOLO.
    """

    bottoms = at_least(1)
    in_place = False
    differentiable = (False,)
    fork_fields = ("yolov3_detection_output_param",)
    batch_coupling = "takes the boxes of the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.yolov3_detection_output_param
        self.check(p.HasField("num_classes"), "yolov3_detection_output_param has no num_classes")
        self.check(
            not p.gaussian_box,
            "gaussian_box is not supported: the original computes another confidence on a CPU "
            "than on a GPU",
        )
        self.classes, self.anchors = int(p.num_classes), int(p.num_box)
        self.least, self.threshold = float(p.confidence_threshold), float(p.nms_threshold)
        groups = int(p.mask_group_num)
        self.check(
            groups == len(bottoms) == len(p.anchors_scale),
            f"it has {len(bottoms)} bottoms, mask_group_num {groups} and "
            f"{len(p.anchors_scale)} anchors_scale values; all three must be equal",
        )
        share = len(p.mask) // groups
        self.check(
            share >= self.anchors and all(2 * at + 1 < len(p.biases) for at in p.mask),
            f"mask has {len(p.mask)} anchors for {groups} maps and there are {len(p.biases)} "
            f"biases; it needs {self.anchors} anchors for each map, and two biases for each anchor",
        )
        self.scales = [int(scale) for scale in p.anchors_scale]
        self.sizes = [
            [(p.biases[2 * at], p.biases[2 * at + 1]) for at in p.mask[start:][: self.anchors]]
            for start in range(0, share * groups, share)
        ]

    def forward(self, *maps: Tensor) -> Tensor:
        found = [self._boxes(values.detach(), at) for at, values in enumerate(maps)]
        return best_rows(found, self.threshold, maps[0].shape[0])

    def infer(self, *maps: Tensor) -> Tensor:
        for values in maps:
            self._check_map(values)
        return maps[0].new_empty(1, 1, 1, 7)

    def _check_map(self, values: Tensor) -> None:
        wanted = self.anchors * (5 + self.classes)
        self.check(
            values.dim() == 4 and values.shape[1] == wanted,
            f"a bottom is {format_shape(values.shape)}; expected {wanted} channels, for "
            f"{self.anchors} anchors and {self.classes} classes",
        )

    def _boxes(self, values: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (R, 4), labels (R) and scores (R) of map ``at`` above the threshold."""
        import torch

        self._check_map(values)
        n, _, height, width = values.shape
        cells = values.reshape(n, self.anchors, 5 + self.classes, height, width)
        cells = cells.permute(0, 3, 4, 1, 2)
        x, y, wide, high, objectness = cells[..., :5].unbind(-1)
        sizes = values.new_tensor(self.sizes[at])
        row = torch.arange(height, device=values.device, dtype=values.dtype)[:, None, None]
        column = torch.arange(width, device=values.device, dtype=values.dtype)[:, None]
        boxes = torch.stack(
            [
                (column + x.sigmoid()) / width,
                (row + y.sigmoid()) / height,
                wide.exp() * sizes[:, 0] / (width * self.scales[at]),
                high.exp() * sizes[:, 1] / (height * self.scales[at]),
            ],
            -1,
        )
        scores = cells[..., 5:].sigmoid() * objectness.sigmoid().unsqueeze(-1)
        kept = scores > self.least
        labels = torch.arange(1, self.classes + 1, device=values.device).expand(scores.shape)
        each = boxes.unsqueeze(-2).expand(*scores.shape, 4)
        return each[kept], labels[kept], scores[kept]
