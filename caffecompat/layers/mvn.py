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

    The statistics are those of each channel of an item, or with ``across_channels`` those of each
    item. The bottom has up to 4 axes; the top always has 4, where missing axes have extent 1. (The
    top of a 2-axis bottom is therefore 0.) As in Caffe the derivative of the deviation ignores
    eps: the gradient is (dy - mean(dy) - y mean(dy y)) / (deviation + eps).
    Source: Caffe's MVN layer.
    """

    ignores_propagate_down = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mvn_param
        self.eps = p.eps
        self.scaled = p.normalize_variance
        self.over = (1, 2, 3) if p.across_channels else (2, 3)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self._with_four_axes(bottoms[0])]

    def _with_four_axes(self, shape: Shape) -> Shape:
        self.check(
            len(shape) <= 4, f"the bottom is {format_shape(shape)}, it may have at most 4 axes"
        )
        return shape + (1,) * (4 - len(shape))

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(self._with_four_axes(tuple(x.shape)))
        centred = x - x.mean(self.over, keepdim=True)
        if not self.scaled:
            return centred
        variance = (centred * centred).mean(self.over, keepdim=True)
        divisor = variance.detach().sqrt() + self.eps
        return centred / with_gradient_of(divisor, variance / (2 * divisor))
