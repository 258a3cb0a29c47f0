"""ORPooling: the maximum over orientations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ORPooling", fork="ORN")
class ORPooling(Layer):
    """(N, C orientations, H, W) becomes (N, C, H, W): the greatest of ``orientations`` channels.

    The gradient goes to the first greatest. Source: the ORPooling layer of the oriented response
    networks.
    """

    in_place = False
    param_fields = ("orn_param",)
    fork_fields = ("orn_param",)
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.count = message.orn_param.orientations
        self.check(self.count > 1, f"orientations is {self.count}, it must be greater than 1")
        self.check(
            len(bottoms[0]) == 4 and bottoms[0][1] % self.count == 0,
            f"the bottom is {format_shape(bottoms[0])}; it must have 4 axes and a multiple of "
            f"{self.count} channels",
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.count)).max(2).values
