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

        if self.alpha < 0 or not x.requires_grad:
            return F.elu(x, self.alpha)
        # In place torch takes the gradient from the result, y + alpha, as Caffe does: 0 where y is
        # rounded to -alpha. That of alpha exp(x) is tiny there, which AdaGrad makes a step of.
        return F.elu(x.clone(), self.alpha, inplace=True)
