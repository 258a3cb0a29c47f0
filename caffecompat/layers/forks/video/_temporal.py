"""Kernels and windows over time, height and width, as C3D's Caffe states them."""

from __future__ import annotations

from caffecompat.layers._base import Layer, Message, Shape, format_shape
from caffecompat.layers._convolution_geometry import Geometry


def check_clips(layer: Layer, bottom: Shape) -> None:
    """Refuses bottoms that are no (N, C, L, H, W)."""
    layer.check(
        len(bottom) == 5,
        f"the bottom is {format_shape(bottom)}, it must have 5 axes (N, C, L, H, W)",
    )


def _single(value: object, default: int) -> int:
    """A setting that is a number, or a list of one number, or an empty list."""
    if isinstance(value, int):
        return value
    values = list(value)  # type: ignore[call-overload]
    return int(values[0]) if values else default


def temporal_geometry(layer: Layer, p: Message, bottom: Shape) -> Geometry:
    """The geometry of a kernel of kernel_depth x kernel_size x kernel_size.

    Raises:
        LayerError: an extent is missing or 0, or the bottom has not 5 axes.
    """
    check_clips(layer, bottom)
    size, depth = _single(p.kernel_size, 0), p.kernel_depth
    layer.check(
        size > 0 and depth > 0,
        f"kernel_size is {size} and kernel_depth {depth}; both must be given and positive",
    )
    stride, pad = _single(p.stride, 1), _single(p.pad, 0)
    layer.check(stride > 0 and p.temporal_stride > 0, "stride and temporal_stride must be positive")
    return Geometry(
        1,
        (depth, size, size),
        (p.temporal_stride, stride, stride),
        (p.temporal_pad, pad, pad),
        (1, 1, 1),
    )
