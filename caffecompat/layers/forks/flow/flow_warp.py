"""FlowWarp: an image moved by a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

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
        import torch

        self.check(
            image.dim() == 4 and flow.shape == (image.shape[0], 2, *image.shape[2:]),
            f"the image is {format_shape(image.shape)} and the flow {format_shape(flow.shape)}; "
            "the flow must have two channels and the image's other extents",
        )
        height, width = image.shape[2:]
        x = flow[:, 0] + torch.arange(width, device=flow.device, dtype=flow.dtype)
        y = flow[:, 1] + torch.arange(height, device=flow.device, dtype=flow.dtype).unsqueeze(1)
        # Comparisons with NaN are false: an unknown flow gives the fill value.
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        x, y = x.where(inside, 0), y.where(inside, 0)
        left, top = x.detach().floor(), y.detach().floor()
        across, down = (x - left).unsqueeze(1), (y - top).unsqueeze(1)
        rows = [top.long(), (top.long() + 1).clamp(max=height - 1)]
        columns = [left.long(), (left.long() + 1).clamp(max=width - 1)]
        corners = [_pixels(image, r * width + c) for r in rows for c in columns]
        upper = corners[0] * (1 - across) + corners[1] * across
        lower = corners[2] * (1 - across) + corners[3] * across
        warped = upper * (1 - down) + lower * down
        return warped.where(inside.unsqueeze(1), self.fill)


def _pixels(image: Tensor, places: Tensor) -> Tensor:
    """The pixels of (N, C, H, W) at ``places`` (N, H, W) of each plane."""
    flat = image.flatten(2)
    index = places.flatten(1).unsqueeze(1).expand(flat.shape)
    return flat.gather(2, index).view_as(image)
