"""InnerProductFixed: an inner product whose parameters are rounded to fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.quantized._fixed_positions import (
    read_settings,
    rounded_parameter,
)
from caffecompat.layers.inner_product import InnerProduct

if TYPE_CHECKING:
    from torch import Tensor


@register("InnerProductFixed", fork="DeePhi, Xilinx")
class InnerProductFixed(InnerProduct):
    """An InnerProduct whose weight and bias are rounded to ``bit_width`` bits of fixed point.

    As in ConvolutionFixed; the rest is in ``inner_product_param``. Source:
    inner_product_fixed_layer.cpp of Xilinx' Caffe.
    """

    param_fields = ("inner_product_param", "fixed_param")
    fork_fields = ("fixed_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.fixed = read_settings(self, message, ("OVER_FLOW", "DIFF_S"))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self.fixed.enabled:
            return super().forward(x, weight, bias)
        bias = None if bias is None else rounded_parameter(bias, self.fixed)
        return super().forward(x, rounded_parameter(weight, self.fixed), bias)
