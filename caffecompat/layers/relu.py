"""ReLU: the rectifier."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._operation import Rectify

if TYPE_CHECKING:
    from torch import Tensor

SIX = 6.0


@register("ReLU")
class ReLU(Layer):
    """y = max(x, 0) + negative_slope * min(x, 0).

    Bottom and top have any shape. The gradient at exactly 0 is ``negative_slope``. With the field
    ``relu6`` of Synopsys' Caffe y is at most 6, and the gradient is 0 from 6 on. Source: Caffe's
    ReLU layer.
    """

    keeps_shape = True
    pointwise = True
    fork_fields = ("relu_param.relu6",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.negative_slope = message.relu_param.negative_slope
        self.limit = SIX if message.relu_param.relu6 else None

    def fusible_operation(self) -> Rectify | None:
        plain = type(self) is ReLU and not self.negative_slope and self.limit is None
        return Rectify() if plain else None

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        y = F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)
        # Not clamp, whose gradient at the bound depends on the version of torch.
        return y if self.limit is None else F.hardtanh(y, -inf, self.limit)
