"""Split: copies of a blob for several layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Split")
class Split(Layer):
    """Each top equals the bottom; the bottom's gradient is the sum of the tops' gradients.

    A net inserts such layers where several layers read a blob. Source: Caffe's Split layer.
    """

    tops = at_least(1)
    in_place = False
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.count = len(message.top)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * self.count

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.count == 1:
            return x
        # Each top is a view, that is a separate tensor with its own gradient.
        return tuple(x.view_as(x) for _ in range(self.count))
