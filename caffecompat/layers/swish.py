"""Swish: the bottom times a sigmoid of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Swish")
class Swish(Layer):
    """y = x / (1 + exp(-beta x)).

    Bottom and top have any shape. Source: Caffe's Swish layer; Ramachandran, Zoph and Le (2017).
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.beta = message.swish_param.beta

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.silu(x) if self.beta == 1 else x * (x * self.beta).sigmoid()
