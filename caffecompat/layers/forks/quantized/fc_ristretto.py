"""FcRistretto: an inner product with quantised weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.quantized._quantized_layer import Quantizer
from caffecompat.layers.inner_product import InnerProduct

if TYPE_CHECKING:
    from torch import Tensor


@register("FcRistretto", fork="Ristretto")
class FcRistretto(InnerProduct):
    """An InnerProduct whose bottom, weight, bias and top are rounded to few bits.

    ``quantization_param`` is that of ConvolutionRistretto, the rest is in ``inner_product_param``.
    Source: fc_ristretto_layer.cu of Ristretto.
    """

    param_fields = ("inner_product_param", "quantization_param")
    fork_fields = ("quantization_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.quantizer = Quantizer(self, message)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        q = self.quantizer
        return q.top(super().forward(q.bottom(x), q.weight(weight), q.bias(bias)))
