"""ImResize of OpenPose: maps of several scales, resized to one size and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("ImResize", fork="OpenPose")
class ImResize(Layer):
    """(S, C, H, W), the maps of one image at S scales, becomes their mean (1, C, H', W').

    The size is ``factor`` times that of the bottom, cut to whole numbers, or without a factor
    ``target_spatial_height`` x ``target_spatial_width``. Of map s a border is left out: on each
    side floor((W // 2) (1 - ``start_scale`` + s ``scale_gap``)) columns, and rows likewise. The
    rest is resized by cubic interpolation with the coefficients of Catmull and Rom, pixel centres
    at half pixels; neighbours beyond the rest are those at its edge.

    Source: imresize_layer.cu of OpenPose's Caffe. Its CPU version resizes otherwise and knows one
    scale only. It has no backward pass; here the gradient is the derivative.
    """

    in_place = False
    fork_fields = ("imresize_param",)
    batch_coupling = "averages the maps of the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.imresize_param
        self.factor, self.start, self.gap = (
            float(p.factor),
            float(p.start_scale),
            float(p.scale_gap),
        )
        self.target = (int(p.target_spatial_height), int(p.target_spatial_width))
        self.check(self.factor >= 0, f"factor is {self.factor:g}, it must not be negative")

    def forward(self, x: Tensor) -> Tensor:
        import torch

        self.check(
            x.dim() == 4 and x.shape[0] > 0,
            f"the bottom is {format_shape(x.shape)}, expected S x C x H x W",
        )
        size = self.target
        if self.factor:
            size = (int(x.shape[2] * self.factor), int(x.shape[3] * self.factor))
        self.check(min(size) > 0, f"the top would be {size[0]} x {size[1]}")
        resized = []
        for scale in range(x.shape[0]):
            down = self._weights(x, 2, scale, size[0])
            across = self._weights(x, 3, scale, size[1])
            resized.append(down @ x[scale] @ across.transpose(0, 1))
        return torch.stack(resized).mean(0, keepdim=True)

    def _weights(self, x: Tensor, axis: int, scale: int, count: int) -> Tensor:
        """The weight (count, extent) of each row or column in each of the top."""
        extent = x.shape[axis]
        border = floor(extent // 2 * (1 - self.start + scale * self.gap))
        self.check(
            0 <= 2 * border < extent,
            f"start_scale and scale_gap leave {extent - 2 * border} of {extent} rows or columns of "
            f"map {scale}",
        )
        return _cubic(x, extent - 2 * border, border, extent, count)


def _cubic(like: Tensor, inner: int, border: int, extent: int, count: int) -> Tensor:
    """Weights (count, extent) of cubic interpolation from the ``inner`` cells after ``border``."""
    import torch

    places = torch.arange(count, device=like.device, dtype=like.dtype)
    at = (places - (count / inner / 2 - 0.5)) * (inner / count)
    second = (at + 1e-5).trunc().clamp(min=0)
    d = at - second
    neighbours = (
        (second - 1).clamp(min=0),
        second,
        (second + 1).clamp(max=inner - 1),
        (second + 2).clamp(max=inner - 1),
    )
    shares = (
        ((-0.5 * d + 1) * d - 0.5) * d,
        ((1.5 * d - 2.5) * d) * d + 1,
        ((-1.5 * d + 2) * d + 0.5) * d,
        ((0.5 * d - 0.5) * d) * d,
    )
    cells = torch.arange(extent, device=like.device, dtype=like.dtype) - border
    total = torch.zeros_like(at[:, None] * cells)
    for neighbour, share in zip(neighbours, shares, strict=True):
        total = total + (cells == neighbour[:, None]) * share[:, None]
    return total
