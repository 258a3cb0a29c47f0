"""POOLING3D: pooling over time, height and width, in C3D's Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.video.pooling3d import Pooling3D


@register("POOLING3D", fork="C3D")
class OldPooling3D(Pooling3D):
    """The maximum or the average of windows of kernel_depth x kernel_size x kernel_size.

    The type of old ``layers`` entries. Bottom (N, C, L, H, W); the top has the extents
    ceil((in + 2 pad - kernel) / stride) + 1, with ``temporal_stride`` and no padding along L, and
    ``stride`` and ``pad`` along H and W. AVE divides by the size of the window including padding;
    MAX has no padding. Where values of a window are equal, the first one gets the gradient; in the
    original each of them gets it. Source: C3D's Caffe, version 1.0.
    """

    param_fields = ("pooling_param",)
    fork_fields: ClassVar[tuple[str, ...]] = (
        "pooling_param.kernel_depth",
        "pooling_param.temporal_stride",
    )

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.set_windows(message.pooling_param, bottoms[0])
