"""MinQuantizeLoss: values near 0 or 1 (DeepBit)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import register
from caffecompat.layers.forks.recognition.binary_codes._code_losses import HALF, CodeLoss

if TYPE_CHECKING:
    from torch import Tensor


@register("MinQuantizeLoss", fork="DeepBit")
class MinQuantizeLoss(CodeLoss):
    """sum((b - x)^2) / (2 N), with b = 1 where x is above 1/2, else 0.

    Bottoms: codes (N, C), and a second bottom of that shape that the loss does not read. The
    gradient is one number for all elements, -sum((b - x) x) / (N^2 C), and its negative for the
    second bottom: where both bottoms are one blob, as in DeepBit's nets, it is 0. The original also
    adds the sums of all earlier passes. Source: DeepBit's MinQuantizeLoss layer.
    """

    batch_coupling = "has one gradient for the whole batch"

    @staticmethod
    def measure(x: Tensor) -> tuple[Tensor, Tensor]:
        error = (x > HALF).to(x.dtype) - x
        return (error * error).sum() / x.shape[0] / 2, -(error * x).sum() / x.numel() / x.shape[0]
