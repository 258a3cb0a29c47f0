"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.base import register
from caffecompat.layers.loss import Loss

if TYPE_CHECKING:
    from torch import Tensor


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """sum((a - b)²) / 2N, N the first extent.

    The bottoms' shapes may differ if N and the number of elements agree. Both get gradients.
    Source: Caffe's EuclideanLoss layer.
    """

    differentiable = (True,)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.check_items(a, b)
        difference = a.reshape(-1) - b.reshape(-1)
        return difference.dot(difference) / (2 * a.shape[0])
