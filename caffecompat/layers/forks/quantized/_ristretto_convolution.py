"""The common part of Ristretto's convolution and deconvolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Message, Shape
from caffecompat.layers.convolution import BaseConvolution
from caffecompat.layers.forks.quantized._quantized_layer import Quantizer

if TYPE_CHECKING:
    from torch import Tensor


class RistrettoConvolution(BaseConvolution):
    """Rounds what the class after it among the base classes computes with, and its result."""

    fork_fields = (*BaseConvolution.fork_fields, "quantization_param")
    param_fields: ClassVar[tuple[str, ...]] = ("convolution_param", "quantization_param")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.quantizer = Quantizer(self, message)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        q = self.quantizer
        return q.top(super().convolve(q.bottom(x), q.weight(weight), q.bias(bias)))
