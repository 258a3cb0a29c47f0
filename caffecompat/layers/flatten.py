"""Flatten: several axes merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Flatten")
class Flatten(Layer):
    """Merges the axes from ``axis`` to ``end_axis``, inclusive, into one.

    If ``end_axis`` is ``axis`` - 1, an axis of extent 1 is inserted. Source: Caffe's Flatten layer.
    """

    in_place = False
    ignores_propagate_down = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.flatten_param
        self.start = self.axis(p.axis, bottoms[0])
        self.end = self.axis(p.end_axis, bottoms[0], "end_axis") + 1
        self.check(
            self.end >= self.start,
            f"end_axis {p.end_axis} lies more than one axis before axis {p.axis}",
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        return [(*shape[: self.start], prod(shape[self.start : self.end]), *shape[self.end :])]

    def forward(self, x: Tensor) -> Tensor:
        if self.end == self.start:
            return x.unsqueeze(self.start)
        return x.flatten(self.start, self.end - 1)
