"""AbsVal: absolute values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor


@register("AbsVal")
class AbsVal(Layer):
    """y = |x|. Bottom and top have any shape; in place is refused.

    The gradient at 0 is 0. Source: Caffe's AbsVal layer.
    """

    in_place = False
    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()
