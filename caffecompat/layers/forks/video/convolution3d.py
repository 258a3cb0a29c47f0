"""Convolution3D: convolution over time, height and width, in C3D's Caffe."""

from __future__ import annotations

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._convolution_geometry import Geometry
from caffecompat.layers.convolution import Convolution
from caffecompat.layers.forks.video._temporal import temporal_geometry


@register("Convolution3D", fork="C3D")
class Convolution3D(Convolution):
    """Convolution of clips (N, C, L, H, W) with kernels over time, height and width.

    Settings are in ``convolution3d_param``. Kernels are kernel_depth x kernel_size x kernel_size.
    The top's extents are floor((in + 2 pad - kernel) / stride) + 1, with ``temporal_pad`` and
    ``temporal_stride`` along L and ``pad`` and ``stride`` along H and W. The weight is
    (num_output, C, kernel_depth, kernel_size, kernel_size).
    Source: C3D's Caffe, version 1.1.
    """

    param_fields = ("convolution3d_param", "convolution_param")
    fork_fields = ("convolution3d_param",)

    def read(self, message: Message) -> Message:
        return message.convolution3d_param

    def read_geometry(self, p: Message, bottom: Shape) -> Geometry:
        return temporal_geometry(self, p, bottom)
