"""MinQuantizeLoss: values near 0 or 1 (DeepBit)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.recognition._code_losses import HALF, code_loss

if TYPE_CHECKING:
    from torch import Tensor


@register("MinQuantizeLoss", fork="DeepBit")
class MinQuantizeLoss(Loss):
    """sum((b - x)^2) / (2 N), with b = 1 where x is above 1/2, else 0.

    Bottoms: codes (N, C), and a second bottom of that shape that the loss does not read. The
    gradient is one number for all elements, -sum((b - x) x) / (N^2 C), and its negative for the
    second bottom: where both bottoms are one blob, as in DeepBit's nets, it is 0. The original also
    adds the sums of all earlier passes. Source: DeepBit's MinQuantizeLoss layer.
    """

    differentiable = (True, True)
    batch_coupling = "has one gradient for the whole batch"
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._loss = code_loss(_measure)

    def forward(self, x: Tensor, second: Tensor) -> Tensor:
        self.check_items(x, second)
        loss: Tensor = self._loss(x, second)
        return loss


def _measure(x: Tensor) -> tuple[Tensor, Tensor]:
    error = (x > HALF).to(x.dtype) - x
    return (error * error).sum() / x.shape[0] / 2, -(error * x).sum() / x.numel() / x.shape[0]
