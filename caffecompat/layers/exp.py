"""Exp: a power of a base."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._logarithm import log_of_base

if TYPE_CHECKING:
    from torch import Tensor


@register("Exp")
class Exp(Layer):
    """y = base^(shift + scale x); ``base`` -1 means e.

    Bottom and top have any shape. Source: Caffe's Exp layer.
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.exp_param
        base = log_of_base(self, p.base)
        self.inner = base * p.scale
        try:
            self.outer = exp(base * p.shift)
        except OverflowError:  # Caffe's pow gives infinity
            self.outer = inf

    def forward(self, x: Tensor) -> Tensor:
        y = (x if self.inner == 1 else x * self.inner).exp()
        return y if self.outer == 1 else y * self.outer
