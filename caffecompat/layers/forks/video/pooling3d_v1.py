"""POOLING3D: pooling over time, height and width, in C3D's Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers.forks.video._temporal import check_clips
from caffecompat.layers.pooling import Windows, average, maximum

if TYPE_CHECKING:
    from torch import Tensor


@register("POOLING3D", fork="C3D")
class OldPooling3D(Layer):
    """The maximum or the average of windows of kernel_depth x kernel_size x kernel_size.

    The type of old ``layers`` entries. Bottom (N, C, L, H, W); the top has the extents
    ceil((in + 2 pad - kernel) / stride) + 1, with ``temporal_stride`` and no padding along L, and
    ``stride`` and ``pad`` along H and W. AVE divides by the size of the window including padding;
    MAX has no padding. Where values of a window are equal, the first one gets the gradient; in the
    original each of them gets it. Source: C3D's Caffe, version 1.0.
    """

    in_place = False
    param_fields = ("pooling_param",)
    fork_fields = (
        "pooling_param.kernel_depth",
        "pooling_param.temporal_stride",
    )

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.pooling_param
        check_clips(self, bottoms[0])
        self.method = p.PoolMethod.Name(p.pool)
        self.check(
            self.method == "AVE" or (self.method == "MAX" and p.pad == 0),
            f"pool is {self.method} with pad {p.pad}; MAX without pad and AVE are supported",
        )
        self.kernel = (p.kernel_depth, p.kernel_size, p.kernel_size)
        self.stride = (p.temporal_stride, p.stride, p.stride)
        self.pad = (0, p.pad, p.pad)
        self.check(
            min(self.kernel) > 0 and min(self.stride) > 0,
            f"the kernel is {format_shape(self.kernel)} and the stride {format_shape(self.stride)};"
            " all must be given and positive",
        )

    def forward(self, x: Tensor) -> Tensor:
        windows = Windows(tuple(x.shape[2:]), self.kernel, self.stride, self.pad)
        self.check(
            min(windows.count) > 0,
            f"a kernel of {format_shape(self.kernel)} does not fit into the bottom "
            f"{format_shape(x.shape)}; the input is too small",
        )
        return maximum(x, windows) if self.method == "MAX" else average(x, windows)
