"""Fully connected layers."""

from __future__ import annotations

from caffecompat.export.torch_import.operator import Call, operators


@operators.register("aten.linear")
def linear(call: Call) -> str:
    weight, bias = call.values("weight"), call.values("bias")
    assert weight is not None
    blobs = [weight] if bias is None else [weight, bias]
    message = call.add(
        "InnerProduct",
        [call.bottom("input")],
        *blobs,
        parameters=[call.parameter_name(name) for name in ("weight", "bias")[: len(blobs)]],
    )
    p = message.inner_product_param
    p.num_output = weight.shape[0]
    if bias is None:
        p.bias_term = False
    axes = len(call.bottom_shape("input"))
    if axes != 2:
        p.axis = axes - 1
    return str(message.name)
