"""LRN, BatchNorm, MVN, Scale and Bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffecompat.export.onnx_graph.graph import Value
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

# OpenVINO takes the ``bias`` of ONNX's LRN as a whole number of 32 bits.
_LARGEST_BIAS = 2**24
# With a smaller ``k`` alpha / k times a sum of squares may be beyond single precision.
_SMALLEST_FACTOR = 1e-6


@writers.register("LRN")
def lrn(at: OnnxLayer) -> None:
    """ONNX's LRN where it can be, with a whole ``bias``: else alpha and the top are scaled.

    x / (k + alpha s)^beta = k^-beta x / (1 + alpha / k s)^beta.
    """
    layer = at.layer
    k = float(layer.k)
    if layer.within:
        _write_lrn(at, _mean_within(at))
    elif not (layer.alpha > 0 and layer.beta > 0):
        # ONNX Runtime refuses them.
        _write_lrn(at, _mean_across(at))
    elif k.is_integer() and 0 <= k <= _LARGEST_BIAS:
        at.write("LRN", at.x, alpha=layer.alpha, beta=layer.beta, bias=k, size=layer.size)
    elif k >= _SMALLEST_FACTOR:
        alpha = layer.alpha / k
        top = at.node("LRN", at.x, alpha=alpha, beta=layer.beta, bias=1.0, size=layer.size)
        at.write("Mul", top, at.constant("factor", k**-layer.beta))
    else:
        _write_lrn(at, _mean_across(at))


def _mean_within(at: OnnxLayer) -> str:
    """Mean squares of windows of pixels."""
    size = at.layer.size
    return at.node(
        "AveragePool",
        at.node("Mul", at.x, at.x),
        kernel_shape=[size] * 2,
        pads=[size // 2] * 4,
        strides=[1, 1],
        count_include_pad=1,
    )


def _mean_across(at: OnnxLayer) -> str:
    """Mean squares of windows of channels, which become the depth of a volume."""
    size, margin = at.layer.size, at.layer.size // 2
    axes = at.integers("axes", [1])
    means = at.node(
        "AveragePool",
        at.node("Unsqueeze", at.node("Mul", at.x, at.x), axes),
        kernel_shape=[size, 1, 1],
        pads=[margin, 0, 0, margin, 0, 0],
        strides=[1, 1, 1],
        count_include_pad=1,
    )
    return at.node("Squeeze", means, axes)


def _write_lrn(at: OnnxLayer, means: str) -> None:
    layer = at.layer
    share = at.node("Mul", means, at.constant("alpha", layer.alpha))
    base = at.node("Add", share, at.constant("k", layer.k))
    at.write("Mul", at.x, at.node("Pow", base, at.constant("power", -layer.beta)))


@writers.register("BatchNorm")
def batch_norm(at: OnnxLayer) -> None:
    """Caffe's statistics are divided by their factor here; a factor of 0 makes both 0."""
    layer = at.layer
    if not layer.use_statistics:
        at.need_fixed(at.bottom, range(len(at.bottom.shape)))
        axes = [axis for axis in range(len(at.bottom.shape)) if axis != 1]
        normalize(at, at.bottom, axes, at.write, inside=layer.eps)
        return
    factor = float(at.arrays["scale_factor"].reshape(-1)[0])
    share = np.float32(0 if factor == 0 else 1 / factor)
    mean, variance = at.arrays["mean"] * share, at.arrays["variance"] * share
    at.write(
        "BatchNormalization",
        at.x,
        at.constant("scale", np.ones_like(mean)),
        at.constant("shift", np.zeros_like(mean)),
        at.graph.add_weight(f"{at.name}.mean", mean),
        at.graph.add_weight(f"{at.name}.variance", variance),
        epsilon=layer.eps,
    )


@writers.register("MVN")
def mvn(at: OnnxLayer) -> None:
    layer = at.layer
    x = at.bottom
    if len(x.shape) < 4:
        x = Value(at.node("Reshape", at.x, at.reshaped(at.top)), at.top.shapes)
    if not layer.scaled:
        mean = at.node("ReduceMean", x.name, at.integers("axes", layer.over), keepdims=1)
        at.write("Sub", x.name, mean)
        return
    normalize(at, x, layer.over, at.write, outside=layer.eps)


def normalize(
    at: OnnxLayer,
    x: Value,
    axes: Sequence[int],
    last: Callable[..., Any],
    inside: float = 0,
    outside: float = 0,
) -> Any:
    """(x - mean) / (sqrt(variance + inside) + outside); ``last`` adds the last node."""
    over = at.integers("axes", axes)
    mean = at.node("ReduceMean", x.name, over, keepdims=1)
    centred = at.node("Sub", x.name, mean)
    square = at.node("Mul", centred, centred)
    variance = at.node("ReduceMean", square, over, keepdims=1)
    if inside:
        variance = at.node("Add", variance, at.constant("eps", inside))
    deviation = at.node("Sqrt", variance)
    if outside:
        deviation = at.node("Add", deviation, at.constant("eps", outside))
    return last("Div", centred, deviation)


@writers.register("Scale")
def scale(at: OnnxLayer) -> None:
    factor = _operand(at, "weight")
    if "bias" not in at.arrays:
        at.write("Mul", at.x, factor)
        return
    at.write(
        "Add", at.node("Mul", at.x, factor), at.parameter("bias", _broadcast_shape(at, "bias"))
    )


@writers.register("Bias")
def bias(at: OnnxLayer) -> None:
    at.write("Add", at.x, _operand(at, "bias"))


def _operand(at: OnnxLayer, parameter: str) -> str:
    """The second bottom, or the parameter, in a shape that broadcasts against the first bottom."""
    if len(at.bottoms) == 1:
        return at.parameter(parameter, _broadcast_shape(at, parameter))
    operand = at.bottoms[1]
    missing = len(at.bottom.shape) - at.layer.first - len(operand.shape)
    if missing == 0:
        return operand.name
    shapes = tuple((*shape, *(1,) * missing) for shape in operand.shapes)
    extents = at.shape_input(operand, Value("", shapes))
    return at.node("Reshape", operand.name, at.integers("shape", extents))


def _broadcast_shape(at: OnnxLayer, parameter: str) -> tuple[int, ...]:
    own = at.arrays[parameter].shape
    return own + (1,) * (len(at.bottom.shape) - at.layer.first - len(own))
