"""Reorg of YOLOv2: blocks of pixels become channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULT_STRIDE = 2


@register("Reorg", fork="YOLOv2, MobileNet-YOLO, Intel")
class Reorg(Layer):
    """(N, C, H, W) as (N, C * s^2, H / s, W / s), in the order of Darknet; s is ``stride`` (2).

    It is not the usual rearrangement: the input is read as C / s^2 planes of s * H rows and s * W
    columns, from each block of s x s pixels of which the values go to channels C / s^2 apart, and
    the result is read in the shape of the top. With ``reverse`` the other way, (N, C / s^2, s * H,
    s * W). Source: reorg_layer of MobileNet-YOLO.
    """

    in_place = False
    fork_fields = ("reorg_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.reorg_param
        self.stride = int(p.stride) if p.HasField("stride") else _DEFAULT_STRIDE
        self.check(self.stride > 0, "stride is 0, it must be positive")
        self.reverse = bool(p.reverse)

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        top = self._rearranged(x.shape)
        n, c, h, w = x.shape
        planes = c // (s * s)
        if self.reverse:
            blocks = x.reshape(n, s, s, planes, h, w).permute(0, 3, 4, 1, 5, 2)
            return blocks.reshape(top)
        blocks = x.reshape(n, planes, h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(top)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self._rearranged(bottoms[0])]

    def _rearranged(self, bottom: Sequence[int]) -> Shape:
        """The shape of the top of a bottom of this shape."""
        s = self.stride
        self.check(
            len(bottom) == 4, f"its bottom is {format_shape(bottom)}, expected N x C x H x W"
        )
        n, c, h, w = bottom
        self.check(
            c % (s * s) == 0 and (self.reverse or (h % s == 0 and w % s == 0)),
            f"its bottom is {format_shape(bottom)}; stride {s} needs a multiple of {s * s} "
            f"channels{'' if self.reverse else f', and of {s} rows and columns'}",
        )
        if self.reverse:
            return (n, c // (s * s), h * s, w * s)
        return (n, c * s * s, h // s, w // s)
