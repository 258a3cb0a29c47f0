"""A Caffe net as operations, for the comparison with other programs' architectures."""

from __future__ import annotations

from typing import Any

from caffecompat.errors import ExportError
from caffecompat.export.fork_settings import unwritten_settings
from caffecompat.export.layouts.base import (
    CONCAT,
    CONVOLUTION,
    INPUT,
    LINEAR,
    MAX_POOL,
    MEAN_POOL,
    NORM,
    RELU,
    SUM,
    Operation,
)
from caffecompat.net import Net
from caffecompat.net.definition import Definition
from caffecompat.net.setup.build import BuiltLayer

# In phase TEST the top of these is the first bottom, or the other program has no layer for it.
PASSED_ON = ("Split", "Dropout", "Flatten", "Reshape", "Softmax")


def net_operations(definition: Definition, place: str) -> Operation:
    """The last operation of the net in phase TEST; a Softmax at its end is left out.

    Raises:
        NetError: the net cannot be built.
        ExportError: it has several outputs or none.
    """
    net = Net(definition, shapes_only=True)
    operations: dict[Any, Operation] = {}
    last: Operation | None = None
    for built in net.layers:
        inputs = tuple(operations[bottom] for bottom in built.bottoms)
        made = inputs[0] if built.type in PASSED_ON else _operation(built, inputs)
        for top in built.tops:
            operations[top] = made
        last = made
    if last is None or len(net.graph.outputs) != 1:
        raise ExportError(
            f"{place}: the net has {len(net.graph.outputs)} outputs, expected one; give the deploy "
            "prototxt with --model"
        )
    return last


def _operation(built: BuiltLayer, inputs: tuple[Operation, ...]) -> Operation:
    shape = tuple(built.shapes[0]) if built.shapes else ()
    if not inputs:
        return Operation(INPUT, built.name, shape=shape)
    if built.type == "Scale" and inputs[0].kind == NORM and not inputs[0].scale:
        inputs[0].scale = built.name
        return inputs[0]
    kind, settings = _KINDS.get(built.type, _other)(built, inputs)
    if fields := unwritten_settings(built):
        kind, settings = f"{built.type} with {fields}", {}
    return Operation(kind, built.name, inputs, settings, shape)


def _other(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    return built.type, {}


def _convolution(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    layer: Any = built.layer
    geometry = layer.geometry
    return CONVOLUTION, {
        "kernel": geometry.kernel,
        "stride": geometry.stride,
        "pad": geometry.pad,
        "dilation": geometry.dilation,
        "groups": layer.group,
        "bias": len(layer.specs) > 1,
    }


def _inner_product(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    layer: Any = built.layer
    if layer.transpose or layer.first != 1 or len(layer.specs) < 2:
        return "InnerProduct that is transposed, without bias or not along all channels", {}
    return LINEAR, {"map": inputs[0].shape[2:]}


def _norm(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    layer: Any = built.layer
    return NORM, {"eps": float(layer.eps)}


def _pooling(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    layer: Any = built.layer
    size = inputs[0].shape[2:]
    kernel = size if layer.kernel is None else layer.kernel
    if layer.method == "AVE" and kernel == size and layer.pad == (0, 0):
        return MEAN_POOL, {}
    if layer.method != "MAX":
        return f"Pooling of method {layer.method}", {}
    return MAX_POOL, {"kernel": kernel, "stride": layer.stride, "pad": layer.pad}


def _relu(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    slope = built.node.message.relu_param.negative_slope
    return (f"ReLU of slope {slope:g}" if slope else RELU), {}


def _eltwise(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    layer: Any = built.layer
    if layer.operation == "SUM" and set(layer.coefficients) == {1.0}:
        return SUM, {}
    return f"Eltwise of operation {layer.operation}", {}


def _concat(built: BuiltLayer, inputs: tuple[Operation, ...]) -> tuple[str, dict[str, Any]]:
    along_channels = sum(operation.shape[1] for operation in inputs) == built.shapes[0][1]
    return (CONCAT if along_channels else "Concat along another axis"), {}


_KINDS = {
    "BatchNorm": _norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "ReLU": _relu,
}
