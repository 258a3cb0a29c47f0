"""Operators that take parts of a value, or exchange two of its axes: Slice and Concat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from caffecompat.export.torch_import.operator import Call, Shape, operators, shape_of

# An exchange of axes cuts a value into so many pieces at most.
MOST_PIECES = 64


@operators.register("aten.slice")
def part(call: Call) -> str:
    """A range along one axis; what is left of it goes to a Silence layer."""
    shape = call.bottom_shape("self")
    call.check(call.arguments["step"] == 1, "Caffe's Slice takes neighbours, no steps")
    axis = call.arguments["dim"] % len(shape)
    size = call.shape[axis]
    start = _index(call.arguments["start"] or 0, shape[axis])
    return _range(call, call.bottom("self"), shape, axis, start, size)


@operators.register("aten.select")
def selected(call: Call) -> str:
    """One index of an axis, which the result does not have."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    start = _index(call.arguments["index"], shape[axis])
    kept = _range(call, call.bottom("self"), shape, axis, start, 1)
    return _reshaped(call, kept, call.shape)


@operators.register("aten.chunk")
@operators.register("aten.split")
@operators.register("aten.split_with_sizes")
def pieces(call: Call) -> tuple[str, ...]:
    """All pieces of an axis, in order."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    sizes = [int(value.shape[axis]) for value in call.node.meta["val"]]
    return _cut(call, call.bottom("self"), axis, sizes)


@operators.register("aten.unbind")
def unbound(call: Call) -> tuple[str, ...]:
    """The values at each index of an axis, which they do not have."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    found = _cut(call, call.bottom("self"), axis, [1] * shape[axis])
    without = shape[:axis] + shape[axis + 1 :]
    used = {user.args[1] for user in call.node.users}
    return tuple(
        _reshaped(call, piece, without) if index in used else piece
        for index, piece in enumerate(found)
    )


@operators.register("aten.transpose")
@operators.register("aten.permute")
def exchanged(call: Call) -> str:
    """Two neighbouring axes change places, as in the channel shuffle of ShuffleNet.

    The pieces of one axis, each with the other axis in its place, stand one behind the other.
    """
    shape = call.bottom_shape("self")
    order = _order(call, len(shape))
    moved = [axis for axis, source in enumerate(order) if axis != source]
    bottom = call.bottom("self")
    if not moved:
        return bottom
    call.check(
        moved[0] > 0 and order[moved[0]] == moved[0] + 1 and len(moved) == 2,
        f"it brings the axes into the order {order}; only two neighbours behind the batch can be "
        "exchanged by layers of Caffe",
    )
    first, second = moved
    if 1 in (shape[first], shape[second]):
        return _reshaped(call, bottom, call.shape)
    # Along either axis: the shorter one gives fewer pieces.
    cut, kept = (first, second) if shape[first] <= shape[second] else (second, first)
    call.check(
        shape[cut] <= MOST_PIECES,
        f"it exchanges axes of {shape[first]} and {shape[second]}, for which Slice would make more "
        f"than {MOST_PIECES} pieces",
    )
    swapped = list(call.shape)
    swapped[kept] = 1
    turned = [
        _reshaped(call, piece, swapped) for piece in _cut(call, bottom, cut, [1] * shape[cut])
    ]
    message = call.add("Concat", turned)
    message.concat_param.axis = kept
    return str(message.name)


def _order(call: Call, axes: int) -> list[int]:
    """For each axis of the result the axis that it comes from."""
    if "dims" in call.arguments:
        return [axis % axes for axis in call.arguments["dims"]]
    order = list(range(axes))
    one, other = call.arguments["dim0"] % axes, call.arguments["dim1"] % axes
    order[one], order[other] = other, one
    return order


def _index(index: int, extent: int) -> int:
    """An index that may count from the end."""
    return max(0, index + extent) if index < 0 else min(index, extent)


def _range(call: Call, bottom: str, shape: Shape, axis: int, start: int, size: int) -> str:
    """The blob of a range of an axis."""
    sizes = [start, size, shape[axis] - start - size]
    call.check(size > 0, "it has no elements")
    found = iter(_cut(call, bottom, axis, [part for part in sizes if part]))
    if start:
        next(found)
    return next(found)


def _cut(call: Call, bottom: str, axis: int, sizes: Sequence[int]) -> tuple[str, ...]:
    """The blobs of the pieces of an axis."""
    if len(sizes) == 1:
        return (bottom,)
    call.check(axis > 0, "it cuts the axis of the batch")
    call.check(all(sizes), "one of its pieces has no elements")
    message = call.add("Slice", [bottom], tops=len(sizes))
    message.slice_param.axis = axis
    message.slice_param.slice_point.extend(list(accumulate(sizes))[:-1])
    return tuple(message.top)


def _reshaped(call: Call, bottom: str, shape: Sequence[int]) -> str:
    call.check(shape[0] == shape_of(call.arguments["self"])[0], "it removes the axis of the batch")
    message = call.add("Reshape", [bottom], end="_reshaped")
    message.reshape_param.shape.dim.extend((0, *shape[1:]))
    return str(message.name)
