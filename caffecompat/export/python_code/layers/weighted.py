"""Layers with parameters."""

from __future__ import annotations

from caffecompat.export.python_code.layer import CodeLayer, options, pair, writers

MOST_AXES = 3


def _parameters(at: CodeLayer) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in at.layer.specs}


def _convolution(at: CodeLayer, kind: str, *more: str) -> None:
    geometry = at.layer.geometry
    if not 1 <= geometry.axes <= MOST_AXES or geometry.channel_axis != 1 or len(at.tops) > 1:
        at.refuse("only kernels of 1 to 3 axes from axis 2 on are written, for one bottom")
    if kind != "nn.ConvTranspose" and any(
        geometry.kernel_extent[i] > at.shapes[0][2 + i] + 2 * geometry.pad[i]
        for i in range(geometry.axes)
    ):
        at.refuse("its kernel is larger than its bottom")
    module = at.module(
        f"{kind}{geometry.axes}d",
        str(at.layer.channels),
        str(at.layer.outputs),
        pair(geometry.kernel),
        *options(
            stride=(pair(geometry.stride), "1"),
            padding=(pair(geometry.pad), "0"),
            dilation=(pair(geometry.dilation), "1"),
            groups=(at.layer.group, 1),
            bias=("bias" in _parameters(at), True),
        ),
        *more,
    )
    at.write(module, at.x)


@writers.register("Convolution")
@writers.register("HD-CNN Convolution")
def convolution(at: CodeLayer) -> None:
    _convolution(at, "nn.Conv")


@writers.register("Deconvolution")
def deconvolution(at: CodeLayer) -> None:
    _convolution(at, "nn.ConvTranspose")


@writers.register("ORN Convolution")
def oriented_convolution(at: CodeLayer) -> None:
    if at.layer.orientations == 1:
        _convolution(at, "nn.Conv")
        return
    at.need("OrientedConv2d")
    _convolution(at, "OrientedConv", f"orientations={at.layer.orientations}")


@writers.register("InnerProduct")
def inner_product(at: CodeLayer) -> None:
    layer = at.layer
    outputs = _parameters(at)["weight"][1 if layer.transpose else 0]
    kind = at.need("Transposed") if layer.transpose else "nn.Linear"
    if layer.normalize:
        kind = at.need("NormalizedLinear")
    bias = options(bias=("bias" in _parameters(at), True))
    module = at.module(kind, str(layer.inputs), str(outputs), *bias)
    plain = layer.first == len(at.shapes[0]) - 1
    at.write(module, at.x if plain else f"{at.x}.flatten({layer.first})")


@writers.register("BatchNorm")
def batch_norm(at: CodeLayer) -> None:
    channels = str(_parameters(at)["mean"][0])
    of_batch = options(of_batch=(not at.layer.use_statistics, False))
    eps = f"eps={at.layer.eps:.7g}"
    at.write(at.module(at.need("BatchNorm"), channels, eps, *of_batch), at.x)


@writers.register("Scale")
def scale(at: CodeLayer) -> None:
    shapes = _parameters(at)
    if len(at.bottoms) == 2:
        if shapes:
            at.refuse("a bias with a second bottom is not written")
        at.assign(f"{at.x} * {at.need('align')}({at.bottoms[1]}, {at.x}, {at.layer.first})")
        return
    bias = options(bias=("bias" in shapes, False))
    module = at.module(at.need("Scale"), str(shapes["weight"]), str(at.layer.first), *bias)
    at.write(module, at.x)


@writers.register("Bias")
def bias(at: CodeLayer) -> None:
    if len(at.bottoms) == 2:
        at.assign(f"{at.x} + {at.need('align')}({at.bottoms[1]}, {at.x}, {at.layer.first})")
        return
    shape = _parameters(at)["bias"]
    at.write(at.module(at.need("Bias"), str(shape), str(at.layer.first)), at.x)


@writers.register("PReLU")
def prelu(at: CodeLayer) -> None:
    at.write(at.module(at.need("PReLU"), str(_parameters(at)["weight"])), at.x)


@writers.register("Embed")
def embed(at: CodeLayer) -> None:
    rows, outputs = _parameters(at)["weight"]
    bias = options(bias=("bias" in _parameters(at), True))
    at.write(at.module(at.need("Embed"), str(rows), str(outputs), *bias), at.x)


@writers.register("Parameter")
def parameter(at: CodeLayer) -> None:
    at.write(at.module(at.need("Parameter"), str(_parameters(at)["value"])))
