"""Sums and means along the last axes, and the Euclidean norm."""

from __future__ import annotations

from caffecompat.export.torch_import.operator import Call, operators
from caffecompat.export.torch_import.operators.pooling import global_average


@operators.register("aten.sum")
def total(call: Call) -> str:
    return _reduced(call, "SUM")


@operators.register("aten.mean")
def mean(call: Call) -> str:
    """Over height and width a Pooling, else a Reduction."""
    if len(call.bottom_shape("self")) != 4 or _axes(call) != [2, 3]:
        return _reduced(call, "MEAN")
    pooled = global_average(call)
    if call.arguments["keepdim"]:
        return pooled
    return str(call.add("Flatten", [pooled], end="_flat").name)


@operators.register("aten.linalg_vector_norm")
def norm(call: Call) -> str:
    """The square root of the sum of squares."""
    call.check(call.arguments["ord"] == 2, "it is no Euclidean norm")
    squares = _reduction(call, "SUMSQ", "_squares")
    message = call.add("Power", [squares])
    message.power_param.power = 0.5
    return _in_shape(call, message.name)


def _axes(call: Call) -> list[int]:
    """The axes that are reduced, in order: all if none are given."""
    axes = len(call.bottom_shape("self"))
    return sorted(axis % axes for axis in call.arguments.get("dim") or range(axes))


def _reduced(call: Call, operation: str) -> str:
    return _in_shape(call, _reduction(call, operation))


def _reduction(call: Call, operation: str, end: str = "") -> str:
    """The blob of a Reduction of the axes, which are the last ones, without them."""
    reduced, count = _axes(call), len(call.bottom_shape("self"))
    items = call.axis_of_items(call.arguments["self"])
    call.check(items not in reduced, "it reduces the axis of the batch")
    call.check(
        reduced == list(range(reduced[0], count)),
        f"it reduces the axes {reduced} of {count}; Caffe's Reduction takes the last ones",
    )
    message = call.add("Reduction", [call.bottom("self")], end=end)
    p = message.reduction_param
    p.operation = p.ReductionOp.Value(operation)
    p.axis = reduced[0]
    return str(message.name)


def _in_shape(call: Call, blob: str) -> str:
    """With the reduced axes as ones, where they are kept."""
    if not call.arguments.get("keepdim"):
        return blob
    items = call.axis_of_items(call.arguments["self"])
    return call.reshaped(blob, call.shape, items, "_kept")
