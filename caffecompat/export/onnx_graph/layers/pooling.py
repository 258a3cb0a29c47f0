"""Pooling and SPP.

Programs disagree about average pooling whose last window is cut off by the border, and older ones
about ``ceil_mode``. Every window here therefore lies inside explicit padding. Where Caffe's divisor
is not the size of the window, it is a constant, or computed from the size of the plane if that is
free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.layers._pooling_windows import Windows

SPATIAL = (2, 3)

# Caffe's maximum of a window without elements.
LOWEST = float(np.finfo(np.float32).min)


@writers.register("Pooling")
def pooling(at: OnnxLayer) -> None:
    layer = at.layer
    if layer.kernel is None:
        _global(at)
        return
    windows = layer.windows(at.bottom.shape[2:])
    if layer.method == "MAX":
        _maximum(at, windows, layer.mask)
    elif layer.method == "AVE":
        _average(at, windows, at.write)
    else:
        _stochastic(at, windows)


@writers.register("Pooling3D")
def pooling_of_clips(at: OnnxLayer) -> None:
    layer = at.layer
    windows = Windows(at.bottom.shape[2:], layer.kernel, layer.stride, layer.pad)
    if layer.method == "MAX":
        _maximum(at, windows, mask=False)
    else:
        _average(at, windows, at.write)


def _global(at: OnnxLayer) -> None:
    if at.layer.method == "STOCHASTIC" or at.layer.mask:
        at.refuse("global pooling is written for MAX and AVE with one top only")
    at.write("GlobalMaxPool" if at.layer.method == "MAX" else "GlobalAveragePool", at.x)


def _maximum(at: OnnxLayer, windows: Windows, mask: bool) -> None:
    x, attributes = _padded(at, windows, LOWEST)
    if windows.dilation is not None:
        attributes["dilations"] = list(windows.dilation)
    if not mask:
        at.write("MaxPool", x, **attributes)
        return
    if x != at.x:
        at.refuse("the index of a window outside of the plane cannot be written")
    # ONNX counts through the whole tensor, Caffe through one plane.
    at.need_fixed(at.bottom, SPATIAL)
    outputs = at.graph.new_value(f"{at.name}/index")
    index = Value(outputs, at.tops[1].shapes)
    at.write_all("MaxPool", at.x, tops=(at.top, index), **attributes)
    plane = at.constant("plane", prod(at.bottom.shape[2:]), np.int64)
    at.write("Cast", at.node("Mod", outputs, plane), top=1, to=1)


def _stochastic(at: OnnxLayer, windows: Windows) -> None:
    """The mean in phase TEST, weighted with the values: the sum of squares by the sum."""
    x, attributes = _padded(at, windows, 0)
    squares = at.node("AveragePool", at.node("Mul", x, x), count_include_pad=1, **attributes)
    values = at.node("AveragePool", x, count_include_pad=1, **attributes)
    smallest = np.finfo(np.float32).tiny
    at.write("Div", squares, at.node("Add", values, at.constant("smallest", smallest)))


def _average(at: OnnxLayer, windows: Windows, last: Callable[..., Any]) -> Any:
    """The means over ``windows``; ``last`` adds the last node."""
    x, attributes = _padded(at, windows, 0)
    if _divisors_vary(at, windows):
        means = at.node("AveragePool", x, count_include_pad=1, **attributes)
        return last("Div", means, _counted_share(at, windows))
    factors = prod(windows.kernel) / _divisors(windows)
    if np.all(factors == 1):
        return last("AveragePool", x, count_include_pad=1, **attributes)
    means = at.node("AveragePool", x, count_include_pad=1, **attributes)
    return last("Mul", means, at.constant("divisor", factors[None, None]))


def _divisors_vary(at: OnnxLayer, windows: Windows) -> bool:
    """Whether the divisors depend on where the border of a plane of free size cuts windows off."""
    cut_off = (windows.ceil and max(windows.stride) > 1) or not windows.counts_padding
    return cut_off and _plane_varies(at)


def _counted_share(at: OnnxLayer, windows: Windows) -> str:
    """The share of each window's elements that Caffe's divisor counts, (H', W').

    It is the average of ones in the place of what is counted, and zeros around. OpenCV 5.0 fails
    to divide by one channel what comes from a pooling too, so that the axis of channels goes.
    """
    extents = at.node("Shape", at.x, start=2)
    shape = at.node("Concat", at.integers("one channel", [1, 1]), extents, axis=0)
    plane = at.node("Expand", at.constant("one", 1), shape)
    before, after = windows.pad, tuple(_padding_for_any_size(windows))
    if windows.counts_padding:
        plane = _pad_plane(at, plane, (*windows.pad, *windows.after), 1)
        before, after = (0,) * len(after), tuple(np.subtract(after, windows.after).tolist())
    plane = _pad_plane(at, plane, (*before, *after), 0)
    share = at.node(
        "AveragePool", plane, kernel_shape=list(windows.kernel), strides=list(windows.stride)
    )
    share = at.node("Squeeze", share, at.integers("channel axes", [0, 1]))
    if all(s <= k for s, k in zip(windows.stride, windows.kernel, strict=True)):
        return share
    # A window between elements has none, and Caffe's divisor is not 0.
    return at.node("Max", share, at.constant("least", 1 / prod(windows.kernel)))


def _pad_plane(at: OnnxLayer, plane: str, pads: Sequence[int], fill: float) -> str:
    """``plane`` with ``pads`` (those before all its axes, then those after) of ``fill``."""
    if not any(pads):
        return plane
    axes = len(pads) // 2
    every = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
    return at.node("Pad", plane, at.integers("pads", every), at.constant("fill", fill))


def _plane_varies(at: OnnxLayer) -> bool:
    return any(at.bottom.varies(axis) for axis in range(2, len(at.bottom.shape)))


def _divisors(windows: Windows) -> np.ndarray:
    """The number of elements of each window inside of plane and padding, (H', W') or (T', ...)."""

    def along(axis: int) -> np.ndarray:
        start = np.arange(windows.count[axis]) * windows.stride[axis] - windows.pad[axis]
        end = start + windows.kernel[axis]
        if windows.counts_padding:
            end = np.minimum(end, windows.size[axis] + windows.after[axis])
        else:
            start, end = np.maximum(start, 0), np.minimum(end, windows.size[axis])
        return np.maximum(end - start, 1)

    counts = (along(axis) for axis in range(len(windows.size)))
    return reduce(np.multiply.outer, counts).astype(np.float64)


def _padded(at: OnnxLayer, windows: Windows, fill: float) -> tuple[str, dict[str, Any]]:
    """The bottom, and kernel, strides and pads with which all windows lie in the padded plane.

    A window may have no element of the plane if the stride is greater than the kernel. Pads as
    large as the kernel are refused, so the bottom is padded with ``fill`` by a node of its own.
    """
    if _plane_varies(at):
        after = _padding_for_any_size(windows)
    else:
        # Of each axis before and after, the last axis first.
        after = [max(0, margin) for margin in reversed(windows.margins[1::2])]
    pads = [*windows.pad, *after]
    x = at.x
    if any(pad >= kernel for pad, kernel in zip(pads, windows.kernel * 2, strict=True)):
        x = _pad_plane(at, x, pads, fill)
        pads = [0] * len(pads)
    return x, {
        "kernel_shape": list(windows.kernel),
        "strides": list(windows.stride),
        "pads": pads,
    }


def _padding_for_any_size(windows: Windows) -> list[int]:
    """Padding after the plane with which rounding down gives Caffe's number of windows.

    Rounding up is rounding down after adding stride - 1. With padding Caffe drops a last window
    that begins after size + pad: there are as many starts as rounding (size + pad) / stride up
    gives, which kernel - 1 elements after the plane allow.
    """
    if not windows.ceil:
        return list(windows.after)
    after = [pad + stride - 1 for pad, stride in zip(windows.after, windows.stride, strict=True)]
    if any(windows.pad) or any(windows.after):
        return [min(a, kernel - 1) for a, kernel in zip(after, windows.kernel, strict=True)]
    return after


@writers.register("SPP")
def spatial_pyramid(at: OnnxLayer) -> None:
    from caffecompat.layers.pooling import maximum

    at.need_fixed(at.bottom, SPATIAL)
    levels = []
    for level in range(at.layer.height):
        windows = at.layer.windows(at.bottom.shape, 2**level)
        if at.layer.pool is maximum:
            x, attributes = _padded(at, windows, LOWEST)
            pooled = at.node("MaxPool", x, **attributes)
        else:
            pooled = _average(at, windows, at.node)
        levels.append(pooled)
    if len(levels) == 1:
        at.write("Identity", levels[0])
        return
    at.write("Concat", *(at.node("Flatten", x, axis=1) for x in levels), axis=1)
