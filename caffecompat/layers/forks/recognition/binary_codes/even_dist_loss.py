"""EvenDistLoss: bits that are 1 as often as 0 (DeepBit)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import register
from caffecompat.layers.forks.recognition.binary_codes._code_losses import HALF, CodeLoss

if TYPE_CHECKING:
    from torch import Tensor


@register("EvenDistLoss", fork="DeepBit")
class EvenDistLoss(CodeLoss):
    """sum over bits of (share of ones - 1/2)^2 / (2 N); a value is 1 if it is above 1/2.

    Bottoms: codes (N, C), and a second bottom of that shape that the loss does not read. The
    gradient is one number for all elements, sum over bits of (share - 1/2) / (N^2 C), and its
    negative for the second bottom: where both bottoms are one blob, as in DeepBit's nets, it is 0.
    Source: DeepBit's EvenDistLoss layer.
    """

    batch_coupling = "counts ones in the whole batch"

    @staticmethod
    def measure(x: Tensor) -> tuple[Tensor, Tensor]:
        excess = (x.flatten(1) > HALF).to(x.dtype).mean(0) - HALF
        return (excess * excess).sum() / x.shape[0] / 2, excess.sum() / x.numel() / x.shape[0]
