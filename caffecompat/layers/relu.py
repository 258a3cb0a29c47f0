"""ReLU: the rectifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ReLU")
class ReLU(Layer):
    """y = max(x, 0) + negative_slope * min(x, 0).

    Bottom and top have any shape. The gradient at exactly 0 is ``negative_slope``.
    Source: Caffe's ReLU layer.
    """

    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.negative_slope = message.relu_param.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        if self.negative_slope == 0:
            return F.relu(x)
        return F.leaky_relu(x, self.negative_slope)
