"""Layers of forks."""

from __future__ import annotations

from functools import partial

from caffecompat.export.python_code.layer import CodeLayer, writers
from caffecompat.export.python_code.layers.weighted import convolution

for _type in ("CCCP", "DepthwiseConvolution", "ConvolutionDepthwise"):
    writers.register(_type)(convolution)


def _function(name: str, at: CodeLayer) -> None:
    at.write(name, at.x)


for _type, _name in (("HardSwish", "F.hardswish"), ("Mish", "F.mish")):
    writers.register(_type)(partial(_function, _name))


@writers.register("ReLU6")
def relu6(at: CodeLayer) -> None:
    slope = at.layer.negative_slope
    if slope == 0:
        at.write("F.relu6", at.x)
    else:
        at.assign(f"F.leaky_relu({at.x}, {slope:.9g}).clamp(max=6)")


@writers.register("Dropout")
def dropout(at: CodeLayer) -> None:
    """One that does not pass its bottom on: with ``scale_train: false`` it is scaled in TEST."""
    if at.layer.drops:
        at.refuse("it drops values in phase TEST too (sample_weights_test)")
    at.assign(f"{at.x} * {1 - at.layer.ratio:.9g}")


@writers.register("ShuffleChannel")
def shuffle_channel(at: CodeLayer) -> None:
    groups = (at.layer.group, at.shapes[0][1] // at.layer.group)
    at.assign(f"{at.x}.unflatten(1, {groups}).transpose(1, 2).flatten(1, 2)")


@writers.register("Axpy")
def axpy(at: CodeLayer) -> None:
    a, x, y = at.bottoms
    ones = ", 1" * (len(at.shapes[1]) - 2)
    at.assign(f"{a}.reshape({a}.shape[0], -1{ones}) * {x} + {y}")


@writers.register("Sum")
def sum_(at: CodeLayer) -> None:
    at.assign(" + ".join(at.bottoms))


@writers.register("Reorg")
def reorg(at: CodeLayer) -> None:
    s, (channels, height, width) = at.layer.stride, at.shapes[0][1:]
    planes = channels // (s * s)
    if at.layer.reverse:
        inner, order = (s, s, planes, height, width), (0, 3, 4, 1, 5, 2)
        shape = (planes, height * s, width * s)
    else:
        inner, order = (planes, height, s, width, s), (0, 3, 5, 1, 2, 4)
        shape = (channels * s * s, height // s, width // s)
    at.assign(f"{at.x}.reshape{(-1, *inner)}.permute{order}.reshape{(-1, *shape)}")


@writers.register("Flip")
@writers.register("Reverse")
def flip(at: CodeLayer) -> None:
    at.assign(f"{at.x}.flip({at.layer.along})")


@writers.register("Permute")
@writers.register("Transpose")
def permute(at: CodeLayer) -> None:
    at.assign(f"{at.x}.permute({', '.join(map(str, at.layer.order))})")


@writers.register("Squeeze")
def squeeze(at: CodeLayer) -> None:
    at.assign(f"{at.x}.squeeze({tuple(at.layer.removed)})")


@writers.register("Upsample")
@writers.register("UpsampleDarknet")
def upsample(at: CodeLayer) -> None:
    """YOLOv3's; others take a mask."""
    if len(at.bottoms) > 1:
        at.refuse("an Upsample with a pooling mask is not written")
    scale = at.layer.scale
    at.assign(f"{at.x}.repeat_interleave({scale}, -2).repeat_interleave({scale}, -1)")


@writers.register("Interp")
def interp(at: CodeLayer) -> None:
    layer, x = at.layer, at.x
    height, width = (extent - layer.begin - layer.end for extent in at.shapes[0][2:])
    if layer.begin or layer.end:
        x = f"{x}.narrow(2, {layer.begin}, {height}).narrow(3, {layer.begin}, {width})"
    if len(at.bottoms) > 1:
        _resize(at, x, f"{at.bottoms[1]}.shape[2:]")
    else:
        _resize(at, x, str(tuple(layer.target_size(height, width))))


@writers.register("BilinearInterpolation")
def bilinear_interpolation(at: CodeLayer) -> None:
    _resize(at, at.x, f"{at.bottoms[1]}.shape[2:]")


def _resize(at: CodeLayer, x: str, size: str) -> None:
    at.write("F.interpolate", x, size, 'mode="bilinear"', "align_corners=True")
