"""Operators of transformers that layer types of forks compute: LayerNorm and Gelu."""

from __future__ import annotations

import numpy as np

from caffecompat.export.torch_import.operator import Call, operators


@operators.register("aten.layer_norm")
def layer_norm(call: Call) -> str:
    """A LayerNorm of Synopsys, which normalises all axes but the first.

    Where torch normalises fewer, the others are put together with the first for that layer.
    """
    shape, inside = call.bottom_shape("input"), tuple(call.arguments["normalized_shape"])
    items = call.axis_of_items(call.arguments["input"])
    call.check(items < len(shape) - len(inside), "it normalises over the axis of the batch")
    weight, bias = call.values("weight"), call.values("bias")
    affine = weight is not None or bias is not None
    blobs = [
        np.full(inside, start, np.float32) if values is None else values
        for values, start in ((weight, 1), (bias, 0))
    ]
    bottom, apart = call.bottom("input"), len(inside) < len(shape) - 1
    if apart:
        bottom = call.reshaped(bottom, (-1, *inside), 0, "_rows")
    message = call.add("LayerNorm", [bottom], *(blobs if affine else ()))
    message.layer_norm_param.eps = call.arguments["eps"]
    message.layer_norm_param.elementwise_affine = affine
    return call.reshaped(message.name, shape, items, "_normalised") if apart else str(message.name)


@operators.register("aten.gelu")
def gelu(call: Call) -> str:
    message = call.add("Gelu", [call.bottom("self")])
    message.gelu_param.enable_bert_version = call.arguments["approximate"] == "tanh"
    return str(message.name)
