"""DetectionGroupAccuracy of Cascade R-CNN: scores of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register
from caffecompat.layers.forks.rcnn._box_regression import FieldBounds, read_box_regression
from caffecompat.layers.forks.rcnn._dense_targets import DenseTargets, accuracies, mean_overlap

if TYPE_CHECKING:
    from torch import Tensor


@register("DetectionGroupAccuracy", fork="Cascade R-CNN")
class DetectionGroupAccuracy(Layer):
    """The share of positions with the right class, and how well boxes overlap their objects.

    Bottoms: scores (N * A, C, H, W), deltas (N * A, 4, H, W) and targets (N * A, 6, H, W), as of
    DetectionGroupLoss. Tops: (1, 1, 1, 2), the share of all positions and of those with a class;
    and the mean overlap (1, 1, 1, 1) of boxes, whose deltas are limited by ``field_xyr`` and
    ``field_whr``; each -1 without positions. Background with an overlap of ``bg_threshold`` or more
    does not count. ``objectness`` makes all classes one. Source: detection_group_accuracy_layer of
    Cascade R-CNN.
    """

    bottoms = exactly(3)
    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    param_fields = ("loss_param",)
    fork_fields = ("bbox_reg_param", "detection_group_accuracy_param")
    batch_coupling = "takes its means over the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.detection_group_accuracy_param
        self.regression = read_box_regression(self, message)
        self.bounds = FieldBounds(p.field_xyr, p.field_whr)
        self.check(
            0 < len(p.field_w) == len(p.field_h),
            f"there are {len(p.field_w)} field_w and {len(p.field_h)} field_h; it needs as many of "
            "each, and at least one",
        )
        self.fields = list(zip(p.field_w, p.field_h, strict=True))
        loss = message.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        self.with_overlap = len(message.top) > 1

    def forward(
        self, scores: Tensor, deltas: Tensor, maps: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        count = scores.shape[0]
        self.check(
            scores.dim() == 4
            and count % len(self.fields) == 0
            and tuple(deltas.shape) == (count, 4, *scores.shape[2:])
            and tuple(maps.shape) == (count, 6, *scores.shape[2:]),
            f"its bottoms are {format_shape(scores.shape)}, {format_shape(deltas.shape)} and "
            f"{format_shape(maps.shape)}; expected maps of one size with 4 and 6 channels, a "
            f"multiple of {len(self.fields)}",
        )
        targets = DenseTargets.of(maps)
        labels = targets.labels.clamp(max=1) if self.p.objectness else targets.labels
        counted = (labels != 0) | (targets.overlaps < self.p.bg_threshold)
        if self.ignored is not None:
            counted = counted & (labels != self.ignored)
        shares = accuracies(scores.detach(), labels, counted)
        if not self.with_overlap:
            return shares
        moves = self.bounds.limit(self.regression.original(deltas.detach(), 1))
        fields = deltas.new_tensor(self.fields).repeat(count // len(self.fields), 1)
        return shares, mean_overlap(moves, targets, fields, self.p.stride, inclusive=True)
