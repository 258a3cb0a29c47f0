"""Layers of forks that are other layers' operators in another form."""

from __future__ import annotations

from functools import partial

import numpy as np

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers
from caffecompat.export.onnx_graph.layers.convolution import convolution
from caffecompat.export.onnx_graph.layers.elementwise import rectifier
from caffecompat.export.onnx_graph.layers.moving import crop_plane
from caffecompat.export.onnx_graph.layers.normalisation import normalize

SPATIAL = (2, 3)
# Slice takes it for "through the first element" where the step is negative.
BEFORE_ALL = -(2**62)

for _type in ("CCCP", "DepthwiseConvolution", "ConvolutionDepthwise"):
    writers.register(_type)(convolution)


@writers.register("ReLU6")
def relu6(at: OnnxLayer) -> None:
    rectifier(at, at.layer.negative_slope, 6)


def _plain(operator: str, at: OnnxLayer) -> None:
    at.write(operator, at.x)


for _type, _operator in (("HardSwish", "HardSwish"), ("Mish", "Mish")):
    writers.register(_type)(partial(_plain, _operator))


@writers.register("Dropout")
def dropout(at: OnnxLayer) -> None:
    """One that does not pass its bottom on: with ``scale_train: false`` it is scaled in TEST."""
    if at.layer.drops:
        at.refuse("it drops values in phase TEST too (sample_weights_test)")
    at.write("Mul", at.x, at.constant("kept", 1 - at.layer.ratio))


@writers.register("SpatialDropoutLayer")
def spatial_dropout(at: OnnxLayer) -> None:
    """ENet's, which is scaled in TEST."""
    if at.layer.drops:
        at.refuse("its param_str has the phase TRAIN, in which it drops channels; write TEST there")
    at.write("Div", at.x, at.constant("kept", 1 - at.layer.ratio))


@writers.register("ShuffleChannel")
def shuffle_channel(at: OnnxLayer) -> None:
    channels = at.bottom.shape[1]
    order = np.arange(channels).reshape(at.layer.group, -1).T.reshape(-1)
    at.write("Gather", at.x, at.integers("order", order.tolist()), axis=1)


@writers.register("Axpy")
def axpy(at: OnnxLayer) -> None:
    weights, x, y = at.bottoms
    weight = weights.name
    missing = len(x.shape) - len(weights.shape)
    if missing > 0:
        weight = at.node("Reshape", weight, at.integers("shape", [0, 0, *[1] * (missing)]))
    at.write("Add", at.node("Mul", weight, x.name), y.name)


@writers.register("Sum")
def sum_(at: OnnxLayer) -> None:
    if len(at.bottoms) == 1:
        at.write("Identity", at.x)
        return
    total = at.x
    for bottom in at.bottoms[1:-1]:
        total = at.node("Add", total, bottom.name)
    at.write("Add", total, at.bottoms[-1].name)


@writers.register("Reorg")
def reorg(at: OnnxLayer) -> None:
    """Two Reshapes with an exchange of axes between, as the layer itself does it."""
    at.need_fixed(at.bottom, SPATIAL)
    s, (channels, height, width) = at.layer.stride, at.bottom.shape[1:]
    planes = channels // (s * s)
    if at.layer.reverse:
        inner, order = [s, s, planes, height, width], [0, 3, 4, 1, 5, 2]
    else:
        inner, order = [planes, height, s, width, s], [0, 3, 5, 1, 2, 4]
    blocks = at.node("Reshape", at.x, at.integers("blocks", [0, *inner]))
    moved = at.node("Transpose", blocks, perm=order)
    at.write("Reshape", moved, at.integers("shape", [0, *at.top.shape[1:]]))


@writers.register("Flip")
def flip(at: OnnxLayer) -> None:
    _reversed(at, at.layer.along)


@writers.register("Reverse")
def reverse(at: OnnxLayer) -> None:
    _reversed(at, [at.layer.along])


def _reversed(at: OnnxLayer, axes: list[int]) -> None:
    if not axes:
        at.write("Identity", at.x)
        return
    count = len(axes)
    at.write(
        "Slice",
        at.x,
        at.integers("start", [-1] * count),
        at.integers("end", [BEFORE_ALL] * count),
        at.integers("axes", axes),
        at.integers("steps", [-1] * count),
    )


@writers.register("Transpose")
def transpose(at: OnnxLayer) -> None:
    at.write("Transpose", at.x, perm=list(at.layer.order))


@writers.register("Squeeze")
def squeeze(at: OnnxLayer) -> None:
    if not at.layer.removed:
        at.write("Identity", at.x)
        return
    at.write("Squeeze", at.x, at.integers("axes", at.layer.removed))


@writers.register("CROP")
def crop_of_fully_convolutional_nets(at: OnnxLayer) -> None:
    crop_plane(at, 2, at.layer.offsets)


@writers.register("BN")
def bn(at: OnnxLayer) -> None:
    """PSPNet's with running statistics, or SegNet's, whose statistics are those of the batch."""
    if "slope" in at.arrays:
        names = ("slope", "bias", "mean", "variance")
        parameters = [at.parameter(name, (at.arrays[name].size,)) for name in names]
        at.write("BatchNormalization", at.x, *parameters, epsilon=at.layer.eps)
        return
    ones = (1, -1, *(1,) * (len(at.bottom.shape) - 2))
    scale, shift = (at.parameter(n, at.arrays[n].reshape(ones).shape) for n in ("scale", "shift"))
    x = at.x
    if at.layer.learn:
        if len(at.tops) > 1:
            at.refuse("its tops with mean and variance are not written")
        at.need_fixed(at.bottom, range(len(at.bottom.shape)))
        axes = [axis for axis in range(len(at.bottom.shape)) if axis != 1]
        x = normalize(at, at.bottom, axes, at.node, inside=1e-9)
    at.write("Add", at.node("Mul", x, scale), shift)


@writers.register("NVCaffe BatchNorm")
def batch_norm_of_nvcaffe(at: OnnxLayer) -> None:
    parameters = [at.parameter(name) for name in ("scale", "bias", "mean", "variance")]
    at.write("BatchNormalization", at.x, *parameters, epsilon=at.layer.eps)
