"""DeephiResize: planes resized as OpenCV does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._repeatable_gradients import resized, selected

if TYPE_CHECKING:
    from torch import Tensor


@register("DeephiResize", fork="DeePhi, Xilinx")
class DeephiResize(Layer):
    """(N, C, H, W) resized to ``new_height`` x ``new_width``, or by ``scale_h`` and ``scale_w``.

    Scaled extents are cut to whole numbers. ``resize_type`` NEAREST takes row floor(i H / H'), as
    OpenCV computes it; BILINEAR has pixel centres at half pixels. ``use_dpu`` is refused: it rounds
    values to bytes, as the processor does. Source: deephi_resize_layer.cpp of Xilinx' Caffe, which
    has no backward pass; here the gradient is the derivative.
    """

    in_place = False
    fork_fields = ("deephi_resize_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.deephi_resize_param
        self.check(
            not p.use_dpu,
            "use_dpu rounds values to bytes, as the processor does, which is not supported",
        )
        for pair in (("new_height", "new_width"), ("scale_h", "scale_w")):
            self.check(
                p.HasField(pair[0]) == p.HasField(pair[1]), f"set both {pair[0]} and {pair[1]}"
            )
        self.nearest = p.resize_type == p.NEAREST
        self.size = (int(p.new_height), int(p.new_width)) if p.HasField("new_height") else None
        self.scales = (float(p.scale_h), float(p.scale_w))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x.dim() == 4, f"the bottom is {format_shape(x.shape)}, expected N x C x H x W")
        scaled = [int(extent * by) for extent, by in zip(x.shape[2:], self.scales, strict=True)]
        height, width = self.size or scaled
        self.check(min(height, width) > 0, f"the top would be {height} x {width}")
        if not self.nearest:
            return resized(x, (height, width), align_corners=False)
        rows = selected(x, 2, _nearest(x, 2, height))
        return selected(rows, 3, _nearest(x, 3, width))


def _nearest(x: Tensor, axis: int, count: int) -> Tensor:
    import torch

    extent = x.shape[axis]
    step = 1.0 / (count / extent)
    places = torch.arange(count, device=x.device, dtype=torch.float64) * step
    return places.long().clamp(max=extent - 1)
