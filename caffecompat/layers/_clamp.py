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
        # With this and setup_context transforms of torch.func can look into it.
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor, low: float, high: float) -> Tensor:
            return x.clamp(low, high)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
            x, ctx.low, ctx.high = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            (x,) = ctx.saved_tensors
            return gradient.where((x >= ctx.low) & (x <= ctx.high), 0), None, None

    return Clamp.apply
