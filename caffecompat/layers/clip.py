"""Clip: values limited to a range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._clamp import clamped

if TYPE_CHECKING:
    from torch import Tensor


@register("Clip")
class Clip(Layer):
    """y = max(min, min(x, max)); if ``min`` is greater than ``max``, y is ``min``.

    Bottom and top have any shape. The gradient is 1 at x = min and x = max, and 0 outside of that
    range. Both fields are required. Source: Caffe's Clip layer.
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.clip_param
        self.check(p.HasField("min") and p.HasField("max"), "clip_param needs both min and max")
        self.min = p.min
        self.max = p.max

    def forward(self, x: Tensor) -> Tensor:
        if self.min <= self.max:
            return clamped(x, self.min, self.max)
        return x.clamp(max=self.max).clamp(min=self.min)
