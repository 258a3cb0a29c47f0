"""SoftTruncation: a smooth bound for distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("SoftTruncation", fork="NormFace")
class SoftTruncation(Layer):
    """y = 1 - exp(-x / c), any shape. Source: NormFace's SoftTruncation layer."""

    pointwise = True
    fork_fields = ("soft_truncation_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.c = message.soft_truncation_param.c
        self.check(self.c != 0, "c is 0, it divides the bottom")

    def forward(self, x: Tensor) -> Tensor:
        return 1 - (x / -self.c).exp()
