"""DetectionAccuracy of MS-CNN: scores of a map of class scores and deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register
from caffecompat.layers.forks.rcnn._box_regression import FieldBounds, read_box_regression
from caffecompat.layers.forks.rcnn._dense_targets import DenseTargets, accuracies, mean_overlap

if TYPE_CHECKING:
    from torch import Tensor

_COORDINATES = 4


@register("DetectionAccuracy", fork="MS-CNN")
class DetectionAccuracy(Layer):
    """The share of positions with the right class, and how well boxes overlap their objects.

    Bottoms: (N, C + 4, H, W) and targets (N, 6, H, W), as of DetectionLoss. Tops: (1, 1, 1, 2), the
    share of all positions and of those with a class; and the mean overlap (1, 1, 1, 1) of boxes,
    whose deltas are limited by ``field_xyr`` and ``field_whr``; each -1 without positions.
    Background with an overlap of ``bg_threshold`` or more does not count. ``objectness`` makes all
    classes one. ``top_k`` must be 1. Source: detection_accuracy_layer of MS-CNN.
    """

    bottoms = exactly(2)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    param_fields = ("loss_param",)
    fork_fields = ("bbox_reg_param", "detection_accuracy_param")
    batch_coupling = "takes its means over the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.detection_accuracy_param
        self.regression = read_box_regression(self, message)
        self.bounds = FieldBounds(p.field_xyr, p.field_whr)
        self.check(
            p.coord_num == _COORDINATES and p.top_k == 1,
            f"coord_num is {p.coord_num} and top_k {p.top_k}; only 4 and 1 are supported",
        )
        loss = message.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        self.with_overlap = len(message.top) > 1

    def forward(self, x: Tensor, maps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        p = self.p
        self.check(
            x.dim() == 4
            and x.shape[1] == p.cls_num + _COORDINATES
            and tuple(maps.shape) == (x.shape[0], 6, *x.shape[2:]),
            f"its bottoms are {format_shape(x.shape)} and {format_shape(maps.shape)}; expected "
            f"{p.cls_num + _COORDINATES} and 6 channels in maps of one size",
        )
        values, targets = x.detach(), DenseTargets.of(maps)
        labels = targets.labels.clamp(max=1) if p.objectness else targets.labels
        counted = (labels != 0) | (targets.overlaps < p.bg_threshold)
        if self.ignored is not None:
            counted = counted & (labels != self.ignored)
        shares = accuracies(values[:, : p.cls_num], labels, counted)
        if not self.with_overlap:
            return shares
        moves = self.bounds.limit(self.regression.original(values[:, p.cls_num :], 1))
        fields = values.new_tensor([[p.field_w, p.field_h]]).expand(len(x), 2)
        return shares, mean_overlap(moves, targets, fields, p.downsample_rate, inclusive=False)
