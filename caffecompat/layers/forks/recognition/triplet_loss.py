"""TripletLoss: a loss on anchors, positives and negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("TripletLoss", fork="NormFace")
class TripletLoss(Loss):
    """sum max(0, margin + |a - p|^2 - |a - n|^2) / (2 N) over N triplets.

    Bottoms: anchors a, positives p and negatives n, each (N, C). Terms below 1e-9 have no gradient.
    Source: the TripletLoss layer in NormFace's Caffe (by Yuan Yang).
    """

    bottoms = exactly(3)
    fork_fields = ("triplet_loss_param",)
    differentiable = (True, True, True)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.margin = message.triplet_loss_param.margin

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        self.check(
            anchor.shape == positive.shape == negative.shape,
            f"its bottoms are {format_shape(anchor.shape)}, {format_shape(positive.shape)} and "
            f"{format_shape(negative.shape)}; they must have one shape",
        )
        a, p, n = anchor.flatten(1), positive.flatten(1), negative.flatten(1)
        terms = self.margin + (a - p).square().sum(1) - (a - n).square().sum(1)
        terms = terms.where(terms >= 1e-9, terms.detach().clamp(min=0))
        return terms.sum() / (2 * a.shape[0])
