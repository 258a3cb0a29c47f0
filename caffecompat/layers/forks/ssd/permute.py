"""Permute: another order of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Permute", fork="SSD")
class Permute(Layer):
    """Axis i of the top is axis ``order[i]`` of the bottom.

    Axes that ``order`` does not name follow in their own order. Source: SSD's Permute layer.
    """

    in_place = False
    fork_fields = ("permute_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        shape = bottoms[0]
        named = list(message.permute_param.order)
        for axis in named:
            self.check(
                axis < len(shape),
                f"permute_param: order is {axis}, but the bottom has {len(shape)} axes "
                f"{format_shape(shape)}; give axes from 0 to {len(shape) - 1}",
            )
        self.check(
            len(set(named)) == len(named),
            f"permute_param: order names an axis twice: {named}; name each axis once",
        )
        self.order = [*named, *(axis for axis in range(len(shape)) if axis not in named)]
        self.batch_coupling = ALONG_BATCH if self.order[:1] not in ([], [0]) else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(bottoms[0][axis] for axis in self.order)]

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            x.dim() == len(self.order),
            f"the bottom is {format_shape(x.shape)}, but it had {len(self.order)} axes when the "
            "net was built",
        )
        return x.permute(self.order).contiguous()
