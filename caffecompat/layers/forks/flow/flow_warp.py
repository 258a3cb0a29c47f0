"""FlowWarp: an image moved by a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, register
from caffecompat.layers.forks.flow._warping import between, check_flow, places

if TYPE_CHECKING:
    from torch import Tensor


@register("FlowWarp", fork="FlowNet")
class FlowWarp(Layer):
    """y(row, column) = image(row + v, column + u), with bilinear weights.

    Bottoms: image (N, C, H, W) and flow (N, 2, H, W) with u along W and v along H. Positions
    outside of [0, H) x [0, W) give 0, or NaN with ``fill_value: NOT_A_NUMBER``; between the last
    row or column and the border the last one is repeated. Source: FlowNet's FlowWarp layer.
    """

    bottoms = exactly(2)
    in_place = False
    fork_fields = ("flow_warp_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.flow_warp_param
        self.fill = 0.0 if p.fill_value == p.ZERO else float("nan")

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        check_flow(self, image, flow)
        height, width = image.shape[2:]
        x, y = places(flow)
        # Comparisons with NaN are false: an unknown flow gives the fill value.
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        warped = between(image, x.where(inside, 0), y.where(inside, 0))
        return warped.where(inside.unsqueeze(1), self.fill)
