"""Split and Silence: a blob with several readers, and blobs with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, exactly, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Split")
class Split(Layer):
    """Each top is the bottom; the bottom's gradient is the sum of theirs.

    Nets add such layers by themselves where a blob has several readers. Source: Caffe's Split
    layer.
    """

    tops = at_least(1)
    in_place = False
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.count = len(message.top)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.count == 1:
            return x
        # Views, so that each top is a tensor of its own that can hold its own gradient.
        return tuple(x.view_as(x) for _ in range(self.count))


@register("Silence")
class Silence(Layer):
    """Reads its bottoms and makes nothing, so that they are no outputs of the net.

    Its bottoms get no gradient from it. Source: Caffe's Silence layer.
    """

    bottoms = at_least(1)
    tops = exactly(0)
    pointwise = True

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        return ()
