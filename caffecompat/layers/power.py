"""Power: a power of a linear function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Power")
class Power(Layer):
    """y = (shift + scale x)^power.

    Bottom and top have any shape. If scale or power is 0, the top is the constant shift^power (1
    for power 0, also for 0^0), without a gradient. Source: Caffe's Power layer. Caffe's gradient
    uses y / x, which is NaN at 0 for powers other than 1 and 2; this one is the derivative.
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.power_param
        self.power, self.scale, self.shift = p.power, p.scale, p.shift

    @property
    def is_constant(self) -> bool:
        """Whether the top does not depend on the bottom."""
        return bool(self.power * self.scale == 0)

    def constant(self) -> float:
        """The top's elements where it does not depend on the bottom."""
        import torch

        return float(self.forward(torch.zeros(())))

    def forward(self, x: Tensor) -> Tensor:
        import torch

        if self.is_constant:
            return torch.full_like(x, self.shift, requires_grad=False).pow(self.power)
        if self.scale == 1:
            y = x if self.shift == 0 else x + self.shift
        else:
            # The product is a new tensor, so the shift can be added in place.
            y = x * self.scale if self.shift == 0 else (x * self.scale).add_(self.shift)
        return y if self.power == 1 else y.pow(self.power)
