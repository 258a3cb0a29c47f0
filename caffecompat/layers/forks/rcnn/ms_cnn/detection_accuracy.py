"""DetectionAccuracy of MS-CNN: scores of a map of class scores and deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers.forks.rcnn.ms_cnn._dense_accuracy import DenseAccuracy, mean_overlap
from caffecompat.layers.forks.rcnn.ms_cnn._dense_targets import DenseTargets

if TYPE_CHECKING:
    from torch import Tensor

_COORDINATES = 4


@register("DetectionAccuracy", fork="MS-CNN")
class DetectionAccuracy(DenseAccuracy):
    """The share of positions with the right class, and how well boxes overlap their objects.

    Bottoms: (N, C + 4, H, W) and targets (N, 6, H, W), as of DetectionLoss. Tops: (1, 1, 1, 2), the
    share of all positions and of those with a class; and the mean overlap (1, 1, 1, 1) of boxes,
    whose deltas are limited by ``field_xyr`` and ``field_whr``; each -1 without positions.
    Background with an overlap of ``bg_threshold`` or more does not count. ``objectness`` makes all
    classes one. ``top_k`` must be 1. Source: detection_accuracy_layer of MS-CNN.
    """

    bottoms = exactly(2)
    fork_fields = ("bbox_reg_param", "detection_accuracy_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.detection_accuracy_param
        self.read_settings(message, p)
        self.check(
            p.coord_num == _COORDINATES and p.top_k == 1,
            f"coord_num is {p.coord_num} and top_k {p.top_k}; only 4 and 1 are supported",
        )

    def forward(self, x: Tensor, maps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        p = self.p
        targets = DenseTargets.beside(self, x, maps, p.cls_num + _COORDINATES)
        shares = self.class_accuracies(x[:, : p.cls_num], targets)
        if not self.with_overlap:
            return shares
        deltas = self.limited_deltas(x[:, p.cls_num :])
        fields = x.new_tensor([[p.field_w, p.field_h]]).expand(len(x), 2)
        return shares, mean_overlap(deltas, targets, fields, p.downsample_rate, inclusive=False)
