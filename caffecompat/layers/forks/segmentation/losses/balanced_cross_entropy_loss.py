"""SigmoidCrossEntropyLoss of HED: edges and other pixels have equal weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("SigmoidCrossEntropyLoss", fork="HED, RCF")
class BalancedCrossEntropyLoss(Loss):
    """The sum of the weighted cross entropies of an image, averaged over the batch.

    Bottoms: scores and labels (N, ...) with equally many elements. In each image a label of 1 has
    the weight n0 / (n0 + n1) and one of 0 the weight n1 / (n0 + n1), for n1 labels of 1 and n0 of
    0; other labels do not count. The type has the name of BVLC's layer. A net that reads its labels
    by ImageLabelmapData, as HED's and RCF's do, means this one; for others state it with
    ``dialect="hed"``.
    Source: HED's SigmoidCrossEntropyLoss layer; Xie and Tu (2015).
    """

    implied_by = ("ImageLabelmapData",)
    loss_reduction = LossReduction.mean()

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check_items(scores, labels)
        x, y = scores.flatten(1), labels.detach().flatten(1)
        edges, others = (y == 1).to(x.dtype), (y == 0).to(x.dtype)
        count = (edges + others).sum(1, keepdim=True).clamp(min=1)
        weight = edges * (others.sum(1, keepdim=True) / count)
        weight = weight + others * (edges.sum(1, keepdim=True) / count)
        target = torch.where(y == 1, 1.0, 0.0).to(x.dtype)
        losses = F.binary_cross_entropy_with_logits(x, target, weight, reduction="sum")
        return losses / x.shape[0]
