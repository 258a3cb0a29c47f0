"""Slice: one blob divided into several along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from caffecompat.layers._along_axis import AlongAxis
from caffecompat.layers._base import Message, Shape, at_least, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Slice")
class Slice(AlongAxis):
    """Consecutive pieces of the bottom along ``axis``.

    The pieces begin at the ``slice_point`` indices, which strictly increase; there is one fewer
    than tops. Without any, the pieces are equal. ``slice_dim`` is the old name of ``axis`` and
    takes no negative number. Source: Caffe's Slice layer.
    """

    tops = at_least(1)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.slice_param
        self.read_axis(p, "slice_dim", bottoms[0])
        self.count = len(message.top)
        # In Caffe such a top is the bottom.
        self.ignores_propagate_down = self.count == 1
        self.points = tuple(p.slice_point)
        self.check(
            len(self.points) in (0, self.count - 1),
            f"slice_point is given {len(self.points)} times for {self.count} tops; give "
            f"{self.count - 1}, or none for equal parts",
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.count == 1:
            return x
        along = self.along_in(x.shape)
        return x.split(self._sizes(x.shape, along), along)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        along = self.along_in(bottoms[0])
        before, after = bottoms[0][:along], bottoms[0][along + 1 :]
        return [(*before, size, *after) for size in self._sizes(bottoms[0], along)]

    def _sizes(self, shape: Sequence[int], along: int) -> list[int]:
        extent = shape[along]
        if not self.points:
            self.check(
                extent % self.count == 0,
                f"axis {along} of the bottom {format_shape(shape)} does not divide into "
                f"{self.count} equal parts; give slice_point",
            )
            return [extent // self.count] * self.count
        cuts = (0, *self.points, extent)
        self.check(
            all(a < b for a, b in pairwise(cuts)),
            f"slice_points {', '.join(map(str, self.points))} must increase and lie inside axis "
            f"{along} of the bottom {format_shape(shape)}",
        )
        return [b - a for a, b in pairwise(cuts)]
