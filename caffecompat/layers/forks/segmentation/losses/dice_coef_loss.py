"""DiceCoefLoss: one minus the Dice coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor

_SMOOTH = 1.0


@register("DiceCoefLoss", fork="V-Net style Dice loss")
class DiceCoefLoss(Loss):
    """1 - mean over n of |(2 sum(x y) + 1) / (sum(x²) + sum(y²) + 1)|.

    Bottoms: predictions x and targets y (N, ...) with equally many elements per item. Both get
    gradients. As in the fork, the gradient is that of the sum over the batch, N times the
    derivative of the loss. Source: the DiceCoefLoss layer of HolmesShuan's repository.
    """

    differentiable = (True,)
    loss_reduction = LossReduction.mean()
    batch_coupling = "multiplies its gradient by the size of the batch"

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.check_items(x, y)
        self.check(x.shape[0] > 0, f"the bottom is {format_shape(x.shape)}, it must not be empty")
        x, y = x.flatten(1), y.flatten(1)
        overlap = 2 * (x * y).sum(1) + _SMOOTH
        coefficients = overlap / ((x * x).sum(1) + (y * y).sum(1) + _SMOOTH)
        return with_gradient_of(1 - coefficients.abs().mean(), -coefficients.sum())
