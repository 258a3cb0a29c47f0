"""Convolution and Deconvolution."""

from __future__ import annotations

from math import prod

import numpy as np

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

MOST_AXES = 3


@writers.register("Convolution")
@writers.register("HD-CNN Convolution")
def convolution(at: OnnxLayer) -> None:
    _write_each(at, "Conv")


def write_convolution(at: OnnxLayer, weight: str) -> None:
    """A convolution with another weight than the layer's parameter."""
    _write_each(at, "Conv", weight)


@writers.register("Im2col")
def im2col(at: OnnxLayer) -> None:
    """A convolution of each channel with one kernel for each element, 1 there and 0 elsewhere."""
    geometry = at.layer.geometry
    _check_axes(at)
    channels, elements = at.bottom.shape[1], prod(geometry.kernel)
    each = np.eye(elements, dtype=np.float32).reshape(elements, 1, *geometry.kernel)
    kernels = at.constant("elements", np.tile(each, (channels, *[1] * (each.ndim - 1))))
    at.write(
        "Conv",
        at.x,
        kernels,
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        pads=[*_pads_before(at), *_pads_after(at, at.bottom, "Conv")],
        dilations=geometry.dilation,
        group=channels,
    )


@writers.register("Deconvolution")
def deconvolution(at: OnnxLayer) -> None:
    _write_each(at, "ConvTranspose")


def _check_axes(at: OnnxLayer) -> None:
    geometry = at.layer.geometry
    if not 1 <= geometry.axes <= MOST_AXES or geometry.channel_axis != 1:
        at.refuse(
            f"its kernel has {geometry.axes} axes from axis {geometry.channel_axis + 1} on; ONNX "
            "programs compute 1 to 3 axes from axis 2 on"
        )


def _write_each(at: OnnxLayer, operator: str, weight: str = "") -> None:
    """One node for each bottom; all use the same weight, the parameter if none is given."""
    geometry = at.layer.geometry
    _check_axes(at)
    weights = [weight or at.parameter("weight")]
    weights += [at.parameter("bias")] if "bias" in at.arrays else []
    for index, bottom in enumerate(at.bottoms):
        x, pads = bottom.name, [*_pads_before(at), *_pads_after(at, bottom, operator)]
        if operator == "Conv" and max(geometry.kernel) == 1 and any(pads):
            # OpenCV 5.0 computes kernels of 1 x 1 without their padding.
            x, pads = _padded(at, x, pads), [0] * len(pads)
        if (
            operator == "Conv"
            and geometry.axes == 3
            and {*geometry.kernel, *geometry.stride} == {1}
        ):
            _write_with_wider_kernel(at, x, index)
            continue
        at.write(
            operator,
            x,
            *weights,
            top=index,
            kernel_shape=geometry.kernel,
            strides=geometry.stride,
            pads=pads,
            dilations=geometry.dilation,
            group=at.layer.group,
        )


def _write_with_wider_kernel(at: OnnxLayer, x: str, index: int) -> None:
    """A kernel of 1 x 1 x 1 as one of 1 x 1 x 2, whose second element is 0.

    OpenCV 5.0 computes some larger convolutions with kernels of 1 x 1 x 1 wrongly, and cannot run
    one of 1 x 1 over depth and height joined by a Reshape behind another convolution.
    """
    wider = np.pad(at.arrays["weight"], [(0, 0)] * 4 + [(0, 1)])
    weights = [at.constant("wider", wider)]
    weights += [at.parameter("bias")] if "bias" in at.arrays else []
    at.write(
        "Conv",
        x,
        *weights,
        top=index,
        kernel_shape=wider.shape[2:],
        pads=[0, 0, 0, 0, 0, 1],
        group=at.layer.group,
    )


def _padded(at: OnnxLayer, x: str, pads: list[int]) -> str:
    """A value with zeros around its spatial axes; ``pads`` before all axes, then after all."""
    axes = len(pads) // 2
    whole = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
    return at.node("Pad", x, at.integers("pads", whole), at.constant("fill", 0.0))


def _pads_before(at: OnnxLayer) -> list[int]:
    geometry = at.layer.geometry
    before = [side[0] for side in geometry.sides] if geometry.sides else list(geometry.pad)
    if geometry.sides and min(map(min, geometry.sides)) < 0:
        at.refuse("a negative padding is not written")
    return before


def _pads_after(at: OnnxLayer, bottom: Value, operator: str) -> list[int]:
    """The padding after the input; more than before it where the kernel is the larger one.

    Caffe rounds the number of positions toward zero, so that there is one then, see
    ``caffecompat.layers._convolution_geometry``.
    """
    geometry = at.layer.geometry
    after = [side[1] for side in geometry.sides] if geometry.sides else list(geometry.pad)
    if operator == "ConvTranspose":
        return after
    pads = zip(_pads_before(at), after, strict=True)
    sizes = zip(pads, geometry.kernel_extent, bottom.shape[2:], strict=True)
    return [end + max(0, extent - start - end - size) for (start, end), extent, size in sizes]
