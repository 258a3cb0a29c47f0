"""MinQuantizeLoss: values near 0 or 1 (DeepBit)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor

HALF = 0.5


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
        self._loss = _loss()

    def forward(self, x: Tensor, second: Tensor) -> Tensor:
        self.check_items(x, second)
        loss: Tensor = self._loss(x, second)
        return loss


def _loss() -> Callable[[Tensor, Tensor], Tensor]:
    import torch

    class Quantization(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, second: Tensor) -> Tensor:
            error = (x > HALF).to(x.dtype) - x
            ctx.save_for_backward(-(error * x).sum() / x.numel() / x.shape[0])
            ctx.shapes = (x.shape, second.shape)
            return (error * error).sum() / x.shape[0] / 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor]:
            (step,) = ctx.saved_tensors
            step = step * diff
            return step.expand(ctx.shapes[0]), (-step).expand(ctx.shapes[1])

    return Quantization.apply
