"""DetectionGroupAccuracy of Cascade R-CNN: scores of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers.forks.rcnn.ms_cnn._dense_accuracy import DenseAccuracy, mean_overlap
from caffecompat.layers.forks.rcnn.ms_cnn._dense_targets import DenseTargets

if TYPE_CHECKING:
    from torch import Tensor


@register("DetectionGroupAccuracy", fork="Cascade R-CNN")
class DetectionGroupAccuracy(DenseAccuracy):
    """The share of positions with the right class, and how well boxes overlap their objects.

    Bottoms: scores (N * A, C, H, W), deltas (N * A, 4, H, W) and targets (N * A, 6, H, W), as of
    DetectionGroupLoss. Tops: (1, 1, 1, 2), the share of all positions and of those with a class;
    and the mean overlap (1, 1, 1, 1) of boxes, whose deltas are limited by ``field_xyr`` and
    ``field_whr``; each -1 without positions. Background with an overlap of ``bg_threshold`` or more
    does not count. ``objectness`` makes all classes one. Source: detection_group_accuracy_layer of
    Cascade R-CNN.
    """

    bottoms = exactly(3)
    fork_fields = ("bbox_reg_param", "detection_group_accuracy_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.detection_group_accuracy_param
        self.read_settings(message, p)
        self.check(
            0 < len(p.field_w) == len(p.field_h),
            f"there are {len(p.field_w)} field_w and {len(p.field_h)} field_h; it needs as many of "
            "each, and at least one",
        )
        self.fields = list(zip(p.field_w, p.field_h, strict=True))

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
        shares = self.class_accuracies(scores, targets)
        if not self.with_overlap:
            return shares
        deltas = self.limited_deltas(deltas)
        fields = deltas.new_tensor(self.fields).repeat(count // len(self.fields), 1)
        return shares, mean_overlap(deltas, targets, fields, self.p.stride, inclusive=True)
