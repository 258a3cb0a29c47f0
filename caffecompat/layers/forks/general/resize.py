"""Resize of NormFace: bilinear resizing to a stated size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers.forks.general._fading_resize import resize_along

if TYPE_CHECKING:
    from torch import Tensor


@register("Resize", fork="NormFace")
class Resize(Layer):
    """(N, C, H, W) as (N, C, height, width).

    Row i of the top is at row i * H / height of the bottom, between its two neighbours; a neighbour
    below the last row counts as 0. Columns alike. With ``is_pyramid_test`` the top has
    floor(H * out_height_scale) rows and floor(W * out_width_scale) columns.
    Source: NormFace's Resize layer.
    """

    in_place = False
    fork_fields = ("resize_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.resize_param
        return bool(p.HasField("height") or p.HasField("width") or p.is_pyramid_test) or None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = message.resize_param

    def forward(self, x: Tensor) -> Tensor:
        p = self.p
        self.check(x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes")
        size: Shape = (int(p.height), int(p.width))
        if p.is_pyramid_test:
            scales = (p.out_height_scale, p.out_width_scale)
            size = tuple(int(n * scale) for n, scale in zip(x.shape[2:], scales, strict=True))
        self.check(
            min(size) > 0,
            f"resize_param makes the top {format_shape(size)} pixels; give height and width, or "
            "with is_pyramid_test out_height_scale and out_width_scale",
        )
        for axis, count in zip((2, 3), size, strict=True):
            x = resize_along(x, axis, count, x.shape[axis] / count)
        return x
