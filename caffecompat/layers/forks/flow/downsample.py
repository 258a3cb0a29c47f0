"""Downsample of FlowNet: the weighted mean of pixels, with unknown values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Downsample", fork="FlowNet")
class Downsample(Layer):
    """The first bottom (N, C, H, W) in ``top_height`` x ``top_width`` or the second bottom's size.

    Corners lie on corners. Each value is the mean under a triangle as wide as the distance of two
    pixels of the top. Where a bottom's value is NaN it is left out, and the top is NaN where more
    than half as much weight is left out as stays. An equal size copies. It has no gradient.
    Source: FlowNet's Downsample layer.
    """

    bottoms = between(1, 2)
    in_place = False
    fork_fields = ("downsample_param",)
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.downsample_param
        self.size = (p.top_height, p.top_width)
        self.check(
            len(bottoms) == 2 or min(self.size) > 0,
            "top_height and top_width are missing; give both, or a second bottom with that size",
        )

    def forward(self, x: Tensor, *like: Tensor) -> Tensor:
        import torch

        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        x = x.detach()
        height, width = (like[0].shape[2], like[0].shape[3]) if like else self.size
        if (height, width) == tuple(x.shape[2:]):
            return x.clone()
        self.check(
            height > 1 and width > 1, f"its size is {height}x{width}, it must be at least 2x2"
        )
        down, across = _weights(x, 2, height), _weights(x, 3, width)
        unknown = x.isnan()
        total = down @ x.where(~unknown, 0) @ across.t()
        kept = down @ (~unknown).to(x.dtype) @ across.t()
        lost = down @ unknown.to(x.dtype) @ across.t()
        return torch.where(lost / kept > 0.5, torch.nan, total / kept)


def _weights(x: Tensor, axis: int, count: int) -> Tensor:
    """(count, extent) weights of the triangles along one axis."""
    import torch

    extent = x.shape[axis]
    scale = (extent - 1) / (count - 1)
    source = torch.arange(count, device=x.device, dtype=x.dtype) / (count - 1) * (extent - 1)
    nearest = (source + 0.5).floor()
    places = torch.arange(extent, device=x.device, dtype=x.dtype)
    # A single row or column has no distance.
    distance = (source.unsqueeze(1) - places).abs() / (scale or 1.0)
    radius = -(-(extent - 1) // (count - 1))
    near = (places - nearest.unsqueeze(1)).abs() <= radius
    return (1 - distance).clamp(min=0).where(near, 0)
