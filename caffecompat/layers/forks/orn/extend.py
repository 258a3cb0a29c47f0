"""Extend: each channel once for each orientation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Extend", fork="ORN")
class Extend(Layer):
    """(N, C, H, W) becomes (N, C orientations, H, W): channel c is channels c * orientations + k.

    It has no gradient. Source: the Extend layer of the oriented response networks.
    """

    in_place = False
    param_fields = ("orn_param",)
    fork_fields = ("orn_param",)
    differentiable = (False,)
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.count = message.orn_param.orientations
        self.check(self.count > 1, f"orientations is {self.count}, it must be greater than 1")
        self.check(
            len(bottoms[0]) == 4,
            f"the bottom is {format_shape(bottoms[0])}, it must have 4 axes (N, C, H, W)",
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().repeat_interleave(self.count, 1)
