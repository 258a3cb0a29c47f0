"""DeconvolutionRistretto: a deconvolution with quantised weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.deconvolution import Deconvolution
from caffecompat.layers.forks.quantized._quantized_layer import Quantizer

if TYPE_CHECKING:
    from torch import Tensor


@register("DeconvolutionRistretto", fork="Ristretto")
class DeconvolutionRistretto(Deconvolution):
    """A Deconvolution whose bottom, weight, bias and top are rounded to few bits.

    ``quantization_param`` is that of ConvolutionRistretto. Source: deconv_ristretto_layer.cu of
    Ristretto.
    """

    fork_fields = (*Deconvolution.fork_fields, "quantization_param")
    param_fields = ("convolution_param", "quantization_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.quantizer = Quantizer(self, message)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        q = self.quantizer
        return q.top(super().convolve(q.bottom(x), q.weight(weight), q.bias(bias)))
