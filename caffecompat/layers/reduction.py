"""Reduction: a sum or mean over the trailing axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


@register("Reduction")
class Reduction(Layer):
    """coeff times SUM, ASUM (of |x|), SUMSQ (of x²) or MEAN over all axes from ``axis`` on.

    Top: the axes before ``axis``; none for axis 0. The gradient of |x| at 0 is 0.
    Source: Caffe's Reduction layer.
    """

    in_place = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.reduction_param
        self._given = p.axis
        self.first = self.axis(p.axis, bottoms[0])
        self.operation = p.ReductionOp.Name(p.operation)
        self.coeff = p.coeff
        if self.first == 0:
            mean = self.operation == "MEAN"
            self.loss_reduction = LossReduction.mean() if mean else LossReduction.sum()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: self.axis(self._given, bottoms[0])]]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(self.axis(self._given, x.shape))
        if self.operation == "ASUM":
            x = x.abs()
        elif self.operation == "SUMSQ":
            x = x * x
        y = x.mean(-1) if self.operation == "MEAN" else x.sum(-1)
        return y if self.coeff == 1 else y * self.coeff
