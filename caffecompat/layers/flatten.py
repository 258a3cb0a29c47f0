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
        self._given = p.axis, p.end_axis
        self.start, self.end = self._range(bottoms[0])

    def _range(self, shape: Sequence[int]) -> tuple[int, int]:
        """The first axis that is merged, and the one after the last.

        They are found for each shape: inputs may be resized to another number of axes.
        """
        axis, end_axis = self._given
        start = self.axis(axis, shape)
        end = self.axis(end_axis, shape, "end_axis") + 1
        self.check(end >= start, f"end_axis {end_axis} lies more than one axis before axis {axis}")
        return start, end

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start, end = self._range(shape)
        return [(*shape[:start], prod(shape[start:end]), *shape[end:])]

    def forward(self, x: Tensor) -> Tensor:
        start, end = self._range(x.shape)
        return x.unsqueeze(start) if end == start else x.flatten(start, end - 1)
