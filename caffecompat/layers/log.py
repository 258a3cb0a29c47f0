"""Log: the logarithm to a base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._logarithm import log_of_base

if TYPE_CHECKING:
    from torch import Tensor


@register("Log")
class Log(Layer):
    """y = log(shift + scale x) with base ``base``; -1 means e, and 1 is refused.

    Bottom and top have any shape. Source: Caffe's Log layer.
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.log_param
        base = log_of_base(self, p.base)
        self.check(base != 0, "base is 1, for which there is no logarithm")
        self.outer = 1 / base
        self.scale = p.scale
        self.shift = p.shift

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.scale == 1 else x * self.scale
        y = (inner if self.shift == 0 else inner + self.shift).log()
        return y if self.outer == 1 else y * self.outer
