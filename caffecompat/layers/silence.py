"""Silence: reads blobs that nothing else reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Shape, at_least, exactly, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Silence")
class Silence(Layer):
    """Reads its bottoms and has no tops, so that the bottoms are not outputs of the net.

    Its bottoms get no gradient from it. Source: Caffe's Silence layer.
    """

    bottoms = at_least(1)
    tops = exactly(0)
    pointwise = True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        return ()
