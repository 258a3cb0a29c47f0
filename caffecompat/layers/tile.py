"""Tile: a blob repeated along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Tile")
class Tile(Layer):
    """The bottom repeated ``tiles`` times along ``axis`` (a b c a b c).

    Source: Caffe's Tile layer.
    """

    in_place = False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.tile_param
        self._given = p.axis
        self.along = self.axis(p.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None
        self.tiles = p.tiles
        self.check(self.tiles > 0, "tiles is missing or not positive")
        # torch computes sizes in 64 bits without a check for overflow.
        self.check_size(self.top_shapes(bottoms)[0], "its top")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        extents = list(bottoms[0])
        extents[self.axis(self._given, extents)] *= self.tiles
        return [tuple(extents)]

    def forward(self, x: Tensor) -> Tensor:
        times = [1] * x.dim()
        times[self.axis(self._given, x.shape)] = self.tiles
        return x.repeat(times)
