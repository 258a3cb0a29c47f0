"""TransformLoss: one code for an image and for its rotation (DeepBit)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("TransformLoss", fork="DeepBit")
class TransformLoss(Loss):
    """sum(v w |a - b|^2) / (2 N) over N pairs of codes a and b with two weights.

    Bottoms: codes a and b, each (N, C), and weights v and w, each (N,). The gradient of a is
    (a - b) / N, without the weights, as in the original; that of b is its negative. Source:
    DeepBit's TransformLoss layer.
    """

    bottoms = exactly(4)
    differentiable = (True, True, False, False)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._loss = _loss()

    def forward(self, a: Tensor, b: Tensor, v: Tensor, w: Tensor) -> Tensor:
        self.check_items(a, b)
        count = a.shape[0]
        self.check(
            v.numel() == w.numel() == count,
            f"its weights are {format_shape(v.shape)} and {format_shape(w.shape)}; there must be "
            f"{count} of each",
        )
        loss: Tensor = self._loss(a.flatten(1), b.reshape(count, -1), v.flatten() * w.flatten())
        return loss


def _loss() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    import torch

    class Distance(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
            difference = a - b
            ctx.save_for_backward(difference)
            return ((difference * difference).sum(1) * weights).sum() / (2 * a.shape[0])

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor, None]:
            (difference,) = ctx.saved_tensors
            step = difference * (diff / difference.shape[0])
            return step, -step, None

    return Distance.apply
