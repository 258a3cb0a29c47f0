"""DeepBit's losses over codes, whose gradient is one number for all elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor

# Values above it are bits that are 1.
HALF = 0.5

Measure: TypeAlias = "Callable[[Tensor], tuple[Tensor, Tensor]]"


class CodeLoss(Loss):
    """A loss of codes (N, C) and of a second bottom of that shape, which it does not read."""

    differentiable = (True, True)
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._loss = _with_gradient(self.measure)

    @staticmethod
    def measure(x: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the codes, and the gradient of each of their elements."""
        raise NotImplementedError

    def forward(self, x: Tensor, second: Tensor) -> Tensor:
        self.check_items(x, second)
        loss: Tensor = self._loss(x, second)
        return loss


def _with_gradient(measure: Measure) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss with the gradient that ``measure`` gives, and its negative for the second bottom."""
    import torch

    class WithGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, second: Tensor) -> Tensor:
            loss, step = measure(x)
            ctx.save_for_backward(step)
            ctx.shapes = (x.shape, second.shape)
            return loss

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor]:
            (step,) = ctx.saved_tensors
            step = step * diff
            return step.expand(ctx.shapes[0]), (-step).expand(ctx.shapes[1])

    return WithGradient.apply
