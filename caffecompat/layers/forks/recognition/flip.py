"""Flip: images mirrored along width or height."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Flip", fork="NormFace")
class Flip(Layer):
    """The bottom (N, C, H, W), mirrored along W (``flip_width``) and H (``flip_height``).

    Source: NormFace's Flip layer.
    """

    in_place = False
    fork_fields = ("flip_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.flip_param
        self.along = [axis for axis, on in ((2, p.flip_height), (3, p.flip_width)) if on]
        self.check(
            len(bottoms[0]) == 4,
            f"the bottom is {format_shape(bottoms[0])}, it must have 4 axes (N, C, H, W)",
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.along) if self.along else x.view_as(x)
