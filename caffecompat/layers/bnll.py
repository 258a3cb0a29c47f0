"""BNLL: binomial normal log likelihood, now known as softplus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, register

if TYPE_CHECKING:
    from torch import Tensor

# Above this value Caffe's gradient replaces exp(x) by exp(50), so that the gradient is 1.
_LINEAR_FROM = 50


@register("BNLL")
class BNLL(Layer):
    """y = log(1 + exp(x)), computed as x + log(1 + exp(-x)) for positive x.

    Bottom and top have any shape. Source: Caffe's BNLL layer.
    """

    keeps_shape = True
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.softplus(x, threshold=_LINEAR_FROM)
