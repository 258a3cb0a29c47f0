"""Convolutions and transposed convolutions over two axes."""

from __future__ import annotations

from caffecompat.export.torch_import.operator import Call, operators
from caffecompat.export.windows import Pair, set_windows


@operators.register("aten.conv2d")
def convolution(call: Call) -> str:
    return _layer(call, "Convolution", _padding(call))


@operators.register("aten.convolution")
def any_convolution(call: Call) -> str:
    """The operator that programs after torch's decompositions have."""
    call.check(not any(call.arguments["output_padding"]), "Caffe has no output_padding")
    kind = "Deconvolution" if call.arguments["transposed"] else "Convolution"
    return _layer(call, kind, call.pair("padding"))


@operators.register("aten.conv_transpose2d")
def transposed_convolution(call: Call) -> str:
    call.check(call.pair("output_padding") == (0, 0), "Caffe has no output_padding")
    return _layer(call, "Deconvolution", call.pair("padding"))


def _padding(call: Call) -> Pair:
    """The padding; ``"same"`` as numbers, where both sides get the same."""
    given = call.arguments["padding"]
    if not isinstance(given, str):
        return call.pair("padding")
    if given == "valid":
        return (0, 0)
    kernel = call.bottom_shape("weight")[2:]
    total = [d * (k - 1) for k, d in zip(kernel, call.pair("dilation"), strict=True)]
    call.check(
        all(extent % 2 == 0 for extent in total),
        "padding 'same' pads one side more than the other; Caffe pads both alike",
    )
    return total[0] // 2, total[1] // 2


def _layer(call: Call, kind: str, padding: Pair) -> str:
    weight, bias = call.values("weight"), call.values("bias")
    assert weight is not None
    call.check(
        len(call.bottom_shape("input")) == weight.ndim,
        "its input has no axis of the batch: give an example with one",
    )
    call.check(weight.ndim == 4, f"it works over {weight.ndim - 2} axes, only two are supported")
    blobs = [weight] if bias is None else [weight, bias]
    names = ["weight", "bias"][: len(blobs)]
    message = call.add(
        kind,
        [call.bottom("input")],
        *blobs,
        parameters=[call.parameter_name(name) for name in names],
    )
    p = message.convolution_param
    groups = int(call.arguments["groups"])
    p.num_output = weight.shape[0] if kind == "Convolution" else weight.shape[1] * groups
    if bias is None:
        p.bias_term = False
    if groups != 1:
        p.group = groups
    set_windows(p, (weight.shape[2], weight.shape[3]), call.pair("stride"), padding)
    dilation = call.pair("dilation")
    if dilation != (1, 1):
        p.dilation.extend(dilation if dilation[0] != dilation[1] else dilation[:1])
    return str(message.name)
