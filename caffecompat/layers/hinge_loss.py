"""HingeLoss: the margin loss of one-versus-all classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("HingeLoss")
class HingeLoss(Loss):
    """sum(m) / N (L1) or sum(m²) / N (L2), with m = max(0, 1 + x), or max(0, 1 - x) for the label.

    Bottoms: scores (N, ...), where each value of an item is the score of a class, and N labels. The
    gradient is 0 where the margin is exactly 0. Source: Caffe's HingeLoss layer.
    """

    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.hinge_loss_param
        self.squared = p.norm == p.L2
        self.class_labels = ClassLabels(prod(bottoms[0][1:]), can_ignore=False)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        self.check_label_per_item(scores, labels)
        count = scores.shape[0]
        x = scores.reshape(count, -1)
        label = labels.detach().reshape(count, 1).long()
        with explaining_bad_index(
            self, f"a label lies outside 0 to {x.shape[1] - 1}, the scores of an item"
        ):
            signs = x.new_ones(()).expand_as(x).scatter(1, label, -1.0)
        margin = (1 + x * signs).relu()
        return ((margin * margin) if self.squared else margin).sum() / count
