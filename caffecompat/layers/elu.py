"""ELU: the exponential linear unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ELU")
class ELU(Layer):
    """y = x for positive x, else alpha (exp(x) - 1).

    Bottom and top have any shape. The gradient at 0 is alpha, of either sign.
    Source: Caffe's ELU layer; Clevert, Unterthiner and Hochreiter (2016).
    """

    keeps_shape = True
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.alpha = message.elu_param.alpha

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.elu(x, self.alpha)
