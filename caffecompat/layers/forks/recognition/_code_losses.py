"""DeepBit's losses over codes, whose gradient is one number for all elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

# Values above it are bits that are 1.
HALF = 0.5

Measure: TypeAlias = "Callable[[Tensor], tuple[Tensor, Tensor]]"


def code_loss(measure: Measure) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of codes (N, C) and of a second bottom of that shape, which it does not read.

    Args:
        measure: the loss of the codes, and the gradient of each of their elements; the second
            bottom gets its negative.
    """
    import torch

    class CodeLoss(torch.autograd.Function):
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

    return CodeLoss.apply
