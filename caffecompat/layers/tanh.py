"""TanH: the hyperbolic tangent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor


@register("TanH")
class TanH(Layer):
    """y = tanh(x). Bottom and top have any shape. Source: Caffe's TanH layer."""

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()
