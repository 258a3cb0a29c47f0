"""MVN: mean and variance normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor


@register("MVN")
class MVN(Layer):
    """y = (x - mean) / (deviation + eps), or x - mean without ``normalize_variance``.

    Statistics are those of each plane, or of each item with ``across_channels``. Bottom with up
    to 4 axes; the top always has 4, missing ones of extent 1, so that a plane of a 2-axis bottom
    is one value and the top is 0. As in Caffe the gradient takes the deviation's derivative as if
    eps were not there: (dy - mean(dy) - y mean(dy y)) / (deviation + eps).
    Source: Caffe's MVN layer.
    """

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mvn_param
        self.eps = p.eps
        self.scaled = p.normalize_variance
        self.over = (1, 2, 3) if p.across_channels else (2, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() <= 4, f"the bottom is {format_shape(x.shape)}, it may have 4 axes at most"
        )
        x = x.reshape(x.shape + (1,) * (4 - x.dim()))
        centred = x - x.mean(self.over, keepdim=True)
        if not self.scaled:
            return centred
        variance = (centred * centred).mean(self.over, keepdim=True)
        divisor = variance.detach().sqrt() + self.eps
        return centred / with_gradient_of(divisor, variance / (2 * divisor))
