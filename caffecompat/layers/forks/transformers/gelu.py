"""Gelu: the bottom times the normal distribution function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Gelu", fork="MyCaffe")
class Gelu(Layer):
    """y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Bottom and top have any shape.

    With ``enable_bert_version: false`` y = x / 2 (1 + erf(x / sqrt(2))), which differs by less
    than 5e-4. Source: MyCaffe's Gelu layer; the second formula is concluded from its interface,
    since the code that computes it is not public.
    """

    keeps_shape = True
    pointwise = True
    fork_fields = ("gelu_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.by_tanh = bool(message.gelu_param.enable_bert_version)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, self.by_tanh)


def gelu(x: Tensor, by_tanh: bool) -> Tensor:
    import torch.nn.functional as F

    return F.gelu(x, approximate="tanh" if by_tanh else "none")
