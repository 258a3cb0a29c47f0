"""Sum: the sum of its bottoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, at_least, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Sum", fork="SDS, hypercolumns")
class Sum(Layer):
    """The sum of bottoms of one shape.

    Source: the sum_layer of the Caffe of simultaneous detection and segmentation.
    """

    bottoms = at_least(1)
    in_place = False
    pointwise = True

    def forward(self, *bottoms: Tensor) -> Tensor:
        total = bottoms[0]
        for x in bottoms[1:]:
            self.check(
                x.shape == total.shape,
                f"a bottom is {format_shape(x.shape)} and the first one "
                f"{format_shape(total.shape)}; they must have one shape",
            )
            total = total + x
        return total if len(bottoms) > 1 else total.clone()
