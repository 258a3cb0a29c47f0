"""ChannelNorm: the Euclidean norm over channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ChannelNorm", fork="FlowNet")
class ChannelNorm(Layer):
    """sqrt(sum over C of x^2): (N, C, H, W) becomes (N, 1, H, W).

    The gradient is x / (norm + 1e-9). Source: FlowNet's ChannelNorm layer.
    """

    in_place = False
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.check(
            len(bottoms[0]) == 4,
            f"the bottom is {format_shape(bottoms[0])}, it must have 4 axes (N, C, H, W)",
        )
        self._norm = _norm()

    def forward(self, x: Tensor) -> Tensor:
        return self._norm(x)


def _norm() -> Callable[[Tensor], Tensor]:
    import torch

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            norm = (x * x).sum(1, keepdim=True).sqrt()
            ctx.save_for_backward(x, norm)
            return norm.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> Tensor:
            x, norm = ctx.saved_tensors
            return diff * x / (norm + 1e-9)

    return Norm.apply
