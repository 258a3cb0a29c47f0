"""EvenDistLoss: bits that are 1 as often as 0 (DeepBit)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.recognition._code_losses import HALF, code_loss

if TYPE_CHECKING:
    from torch import Tensor


@register("EvenDistLoss", fork="DeepBit")
class EvenDistLoss(Loss):
    """sum over bits of (share of ones - 1/2)^2 / (2 N); a value is 1 if it is above 1/2.

    Bottoms: codes (N, C), and a second bottom of that shape that the loss does not read. The
    gradient is one number for all elements, sum over bits of (share - 1/2) / (N^2 C), and its
    negative for the second bottom: where both bottoms are one blob, as in DeepBit's nets, it is 0.
    Source: DeepBit's EvenDistLoss layer.
    """

    differentiable = (True, True)
    batch_coupling = "counts ones in the whole batch"
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._loss = code_loss(_measure)

    def forward(self, x: Tensor, second: Tensor) -> Tensor:
        self.check_items(x, second)
        loss: Tensor = self._loss(x, second)
        return loss


def _measure(x: Tensor) -> tuple[Tensor, Tensor]:
    excess = (x.flatten(1) > HALF).to(x.dtype).mean(0) - HALF
    return (excess * excess).sum() / x.shape[0] / 2, excess.sum() / x.numel() / x.shape[0]
