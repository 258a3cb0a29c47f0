"""HardSwish: the bottom times a piecewise linear sigmoid of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor


@register("HardSwish", fork="MobileNetV3, Synopsys")
class HardSwish(Layer):
    """y = x min(max(x / 6 + 1/2, 0), 1). Bottom and top have any shape.

    Source: Synopsys' HardSwish layer; Howard et al. (2019).
    """

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x * (x / 6 + 0.5).clamp(0, 1)
