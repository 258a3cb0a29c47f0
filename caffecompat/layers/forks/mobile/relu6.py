"""ReLU6: the rectifier, limited to 6."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ReLU6", fork="MobileNetV2, Synopsys")
class ReLU6(Layer):
    """y = min(max(x, 0) + negative_slope * min(x, 0), 6).

    Bottom and top have any shape. ``relu6_param`` has the fields of ``relu_param``; the slope is 0
    by default. The gradient is 0 from 6 on, and ``negative_slope`` at exactly 0.
    Source: the ReLU6 layer of chuanqi305's MobileNetV2.
    """

    fork_fields = ("relu6_param",)
    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.negative_slope = message.relu6_param.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        # Not clamp, whose gradient at the bound depends on the version of torch.
        return F.hardtanh(F.leaky_relu(x, self.negative_slope), -inf, 6)
