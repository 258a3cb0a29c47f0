"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Dropout")
class Dropout(Layer):
    """y = x / (1 - ratio) with probability 1 - ratio, else 0; in TEST y = x.

    Bottom and top have any shape. The mask depends on the run's seed, the layer's name, the pass
    and the element only. Source: Caffe's Dropout layer.
    """

    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.ratio = message.dropout_param.dropout_ratio
        self.check(0 <= self.ratio < 1, f"dropout_ratio is {self.ratio:g}, it must be in [0, 1)")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.ratio == 0:
            return x
        keep = self.noise.keep(x, 1 - self.ratio)
        return x * keep.to(x.dtype).mul_(1 / (1 - self.ratio))
