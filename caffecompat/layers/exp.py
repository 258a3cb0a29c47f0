"""Exp and Log."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


def log_of_base(layer: Layer, base: float) -> float:
    """The natural logarithm of the field ``base``; -1, its default, means e."""
    if base == -1:
        return 1.0
    layer.check(0 < base < inf, f"base is {base:g}, it must be positive, or -1 for e")
    return log(base)


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
