"""ConvolutionFixed: a convolution whose parameters are rounded to fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.convolution import Convolution
from caffecompat.layers.forks.quantized._fixed_positions import (
    read_settings,
    rounded_parameter,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("ConvolutionFixed", fork="DeePhi, Xilinx")
class ConvolutionFixed(Convolution):
    """A Convolution whose weight and bias are rounded to ``bit_width`` bits of fixed point.

    Each of the two has its own position of the point, which ``fixed_method`` of ``fixed_param``
    finds: OVER_FLOW or DIFF_S, see ``_fixed_positions.py``. Ties go away from 0. Gradients pass
    through the rounding, to parameters of full precision. With ``enable: false`` nothing is
    rounded. Source: conv_fixed_layer.cpp of Xilinx' Caffe.
    """

    fork_fields = (*Convolution.fork_fields, "fixed_param")
    param_fields = ("convolution_param", "fixed_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.fixed = read_settings(self, message, ("OVER_FLOW", "DIFF_S"))

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.fixed.enabled:
            return super().convolve(x, weight, bias)
        bias = None if bias is None else rounded_parameter(bias, self.fixed)
        return super().convolve(x, rounded_parameter(weight, self.fixed), bias)
