"""Power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Power")
class Power(Layer):
    """y = (shift + scale x)^power.

    Bottom and top have any shape. Where scale or power is 0 the top is the constant shift^power,
    1 for power 0 (0^0 too), without a gradient. Source: Caffe's Power layer, whose gradient is
    y / x and so NaN at 0 for powers other than 1 and 2; here it is the derivative.
    """

    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.power_param
        self.power, self.scale, self.shift = p.power, p.scale, p.shift

    def forward(self, x: Tensor) -> Tensor:
        import torch

        if self.power * self.scale == 0:
            return torch.full_like(x, self.shift, requires_grad=False).pow(self.power)
        if self.scale == 1:
            y = x if self.shift == 0 else x + self.shift
        else:
            # The product is this layer's own, so the shift may be added in place.
            y = x * self.scale if self.shift == 0 else (x * self.scale).add_(self.shift)
        return y if self.power == 1 else y.pow(self.power)
