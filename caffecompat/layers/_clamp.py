"""Values between two bounds, with Caffe's gradient at the bounds in every version of torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def clamped(x: Tensor, low: float, high: float) -> Tensor:
    """``x.clamp(low, high)`` with the gradient 1 at both bounds.

    torch itself has that gradient there before version 2.15, and 0 from it on.
    """
    return _clamp()(x, low, high) if x.requires_grad else x.clamp(low, high)


@cache
def _clamp() -> Any:
    """The function (x, low, high)."""
    import torch

    class Clamp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
            ctx.save_for_backward(x)
            ctx.low, ctx.high = low, high
            return x.clamp(low, high)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            (x,) = ctx.saved_tensors
            return gradient.where((x >= ctx.low) & (x <= ctx.high), 0), None, None

    return Clamp.apply
