"""Im2col: the elements under a convolution's kernel at each position."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers._convolution_geometry import read_geometry

if TYPE_CHECKING:
    from torch import Tensor


@register("Im2col")
class Im2col(Layer):
    """(batch ..., C, spatial ...) becomes (batch ..., C * kernel, positions ...).

    Along the new axis the channel changes slowest, then the position in the kernel in row-major
    order. The geometry is that of Convolution. Source: Caffe's Im2col layer.
    """

    param_fields = ("convolution_param",)
    in_place = False
    ignores_propagate_down = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.geometry = read_geometry(self, message.convolution_param, bottoms[0])
        self.check(
            self.geometry.axes > 0,
            f"the bottom {format_shape(bottoms[0])} has no axis behind its channels, along axis "
            f"{self.geometry.channel_axis}; at least one spatial axis is needed",
        )

    def forward(self, x: Tensor) -> Tensor:
        g = self.geometry
        axes = g.channel_axis + 1 + g.axes
        self.check(
            x.dim() == axes,
            f"it was made for {axes} axes, but the bottom is {format_shape(x.shape)}",
        )
        joined = g.merge_batch_axes(x)
        if g.axes == 2 and not any(g.extra_padding(self, joined.shape)):
            return g.restore_batch_axes(self._unfolded(joined), x)
        windows = g.windows(self, joined)
        positions, kernel = range(2, 2 + g.axes), range(2 + g.axes, 2 + 2 * g.axes)
        columns = windows.permute(0, 1, *kernel, *positions)
        batch, channels = windows.shape[:2]
        columns = columns.reshape(
            batch, channels * prod(g.kernel), *(windows.shape[i] for i in positions)
        )
        return g.restore_batch_axes(columns, x)

    def _unfolded(self, x: Tensor) -> Tensor:
        """torch's operator for two spatial axes, which merges the position axes into one."""
        import torch.nn.functional as F

        g = self.geometry
        columns = F.unfold(x, g.kernel, g.dilation, g.pad, g.stride)
        sizes = zip(x.shape[2:], g.pad, g.kernel_extent, g.stride, strict=True)
        positions = [
            (size + 2 * pad - kernel_extent) // stride + 1
            for size, pad, kernel_extent, stride in sizes
        ]
        return columns.view(x.shape[0], -1, *positions)
