"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """sum((a - b)²) / 2N, where N is the first extent.

    The bottoms' shapes may differ if N and the number of elements agree. Both get gradients.
    Source: Caffe's EuclideanLoss layer.
    """

    differentiable = (True,)
    loss_reduction = LossReduction.mean()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check_item_shapes(*bottoms)
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch.nn.functional as F

        self.check_items(a, b)
        return F.mse_loss(a, b.reshape(a.shape), reduction="sum") / (2 * a.shape[0])
