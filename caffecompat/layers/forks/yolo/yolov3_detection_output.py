"""Yolov3DetectionOutput of MobileNet-YOLO: the detections of YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, at_least, register
from caffecompat.layers.forks.yolo._detections_of_maps import DetectionsOfMaps, centred_boxes

if TYPE_CHECKING:
    from torch import Tensor


@register("Yolov3DetectionOutput", fork="MobileNet-YOLO")
class Yolov3DetectionOutput(DetectionsOfMaps):
    """Detections from maps of several sizes (1, num_box * (5 + num_classes), H, W).

    See :class:`DetectionsOfMaps`. A box has its centre at (column + sigmoid(x)) / W and
    (row + sigmoid(y)) / H; its size is exp(width) and exp(height) times the anchor's ``biases``, in
    pixels of an image of W and H times the map's ``anchors_scale``. ``mask`` lists the anchors of
    each map in turn. A box counts once for each class whose sigmoid times sigmoid(objectness) is
    above ``confidence_threshold``. Source: yolov3_detection_output_layer of MobileNet-YOLO.
    """

    bottoms = at_least(1)
    fork_fields = ("yolov3_detection_output_param",)

    def read(self, p: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            not p.gaussian_box,
            "gaussian_box is not supported: the original computes another confidence on a CPU "
            "than on a GPU",
        )
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

    def boxes(self, cells: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        boxes = centred_boxes(cells, cells.new_tensor(self.sizes[at]), self.scales[at])
        scores = cells[..., 5:].sigmoid() * cells[..., 4:5].sigmoid()
        kept = scores > self.least
        labels = torch.arange(1, self.classes + 1, device=cells.device).expand(scores.shape)
        each = boxes.unsqueeze(-2).expand(*scores.shape, 4)
        return each[kept], labels[kept], scores[kept]
