"""Pooling3D: pooling over time, height and width, in C3D's Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._pooling_windows import Windows
from caffecompat.layers.forks.video._temporal import check_clips
from caffecompat.layers.pooling import average, maximum

if TYPE_CHECKING:
    from torch import Tensor


@register("Pooling3D", fork="C3D")
class Pooling3D(Layer):
    """The maximum or the average of windows of kernel_depth x kernel_size x kernel_size.

    Settings are in ``pooling3d_param``. Bottom (N, C, L, H, W); the top has the extents
    ceil((in + 2 pad - kernel) / stride) + 1, with ``temporal_stride`` and no padding along L, and
    ``stride`` and ``pad`` along H and W. AVE divides by the size of the window including padding;
    MAX has no padding. Where values of a window are equal, the first one gets the gradient; in the
    original each of them gets it. Source: C3D's Caffe, version 1.1.
    """

    in_place = False
    param_fields = ("pooling3d_param",)
    fork_fields: ClassVar[tuple[str, ...]] = ("pooling3d_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.pooling3d_param
        others = {"pool", "kernel_size", "stride", "pad", "kernel_depth", "temporal_stride"}
        named = [entry.name for entry, _ in p.ListFields() if entry.name not in others]
        self.check(
            not named, f"{', '.join(named)} is of Synopsys' Pooling3D, which is not supported"
        )
        self.set_windows(p, bottoms[0])

    def set_windows(self, p: Message, bottom: Shape) -> None:
        """Takes method, kernel, stride and pad from settings with the fields of Pooling3D."""
        check_clips(self, bottom)
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
