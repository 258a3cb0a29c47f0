"""Operators that take parts of a value, exchange its axes, or put a border around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from caffecompat.export.torch_import.operator import Call, Shape, operators

# An exchange of axes cuts a value into so many pieces at most.
MOST_PIECES = 64


@operators.register("aten.slice")
def part(call: Call) -> str:
    """A range along one axis; what is left of it goes to a Silence layer."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    size, step = call.shape[axis], call.arguments["step"]
    start = _index(call.arguments["start"] or 0, shape[axis])
    _refuse_items(call, axis, size)
    if step == 1 or size == 1:
        return range_of(call, call.bottom("self"), shape, axis, start, size)
    return _with_step(call, axis, start, size, step)


def _refuse_items(call: Call, axis: int, size: int) -> None:
    """Refuses that less than all items are taken."""
    shape = call.bottom_shape("self")
    items = call.axis_of_items(call.arguments["self"])
    call.check(axis != items or size == shape[axis], "it cuts the axis of the batch")


def _with_step(call: Call, axis: int, start: int, size: int, step: int) -> str:
    """Every ``step``-th element: one of each group of so many neighbours."""
    shape, bottom = call.bottom_shape("self"), call.bottom("self")
    first = min(start, shape[axis] - size * step)
    if first >= 0:
        return _groups(call, axis, first, size, step, start)
    # The last group would end beyond the axis: its element comes alone.
    groups = _groups(call, axis, start, size - 1, step, start)
    last = range_of(call, bottom, shape, axis, start + (size - 1) * step, 1)
    message = call.add("Concat", [groups, last])
    message.concat_param.axis = axis
    return str(message.name)


def _groups(call: Call, axis: int, first: int, size: int, step: int, start: int) -> str:
    """Element ``start - first`` of each of ``size`` groups, which begin at ``first``."""
    shape = call.bottom_shape("self")
    ranged = range_of(call, call.bottom("self"), shape, axis, first, size * step)
    items = call.axis_of_items(call.arguments["self"])
    grouped = (*shape[:axis], size, step, *shape[axis + 1 :])
    apart = call.reshaped(ranged, grouped, items + (axis < items), "_reshaped")
    taken = range_of(call, apart, grouped, axis + 1, start - first, 1)
    kept = (*shape[:axis], size, *shape[axis + 1 :])
    return call.reshaped(taken, kept, items, "_reshaped")


@operators.register("aten.pad")
@operators.register("aten.constant_pad_nd")
def padded(call: Call) -> str:
    """A border of one value: a Pad layer of Synopsys."""
    mode = call.arguments.get("mode", "constant")
    call.check(mode == "constant", f"its mode is {mode}; Caffe has no layer for such a border")
    pads = [int(value) for value in call.arguments["pad"]]
    axes = len(call.shape)
    # torch has the last axis first.
    pairs = [pads[2 * axis : 2 * axis + 2] or [0, 0] for axis in reversed(range(axes))]
    if not any(pads):
        return call.bottom("self")
    call.check(min(pads) >= 0, "its border is negative; take a part of the value instead")
    items = call.axis_of_items(call.arguments["self"])
    call.check(pairs[items] == [0, 0], "it puts a border around the axis of the batch")
    message = call.add("Pad", [call.bottom("self")])
    message.pad_param.paddings.extend(value for pair in pairs for value in pair)
    message.pad_param.constant_values = call.arguments["value"] or 0
    return str(message.name)


@operators.register("aten.select")
def selected(call: Call) -> str:
    """One index of an axis, which the result does not have."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    items = _items_without(call, axis)
    start = _index(call.arguments["index"], shape[axis])
    kept = range_of(call, call.bottom("self"), shape, axis, start, 1)
    return call.reshaped(kept, call.shape, items, "_reshaped")


def _items_without(call: Call, axis: int) -> int:
    """The axis of the items in a result that lacks ``axis``."""
    items = call.axis_of_items(call.arguments["self"])
    call.check(axis != items, "it cuts the axis of the batch")
    return call.moved(items - (axis < items))


@operators.register("aten.chunk")
@operators.register("aten.split")
@operators.register("aten.split_with_sizes")
def pieces(call: Call) -> tuple[str, ...]:
    """All pieces of an axis, in order."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    sizes = [int(value.shape[axis]) for value in call.node.meta["val"]]
    _refuse_items(call, axis, sizes[0])
    return _cut(call, call.bottom("self"), axis, sizes)


@operators.register("aten.unbind")
def unbound(call: Call) -> tuple[str, ...]:
    """The values at each index of an axis, which they do not have."""
    shape = call.bottom_shape("self")
    axis = call.arguments["dim"] % len(shape)
    items = _items_without(call, axis)
    found = _cut(call, call.bottom("self"), axis, [1] * shape[axis])
    without = shape[:axis] + shape[axis + 1 :]
    used = {user.args[1] for user in call.node.users}
    return tuple(
        call.reshaped(piece, without, items, "_reshaped") if index in used else piece
        for index, piece in enumerate(found)
    )


@operators.register("aten.transpose")
@operators.register("aten.permute")
def exchanged(call: Call) -> str:
    """Another order of the axes.

    Two neighbouring axes, as in the channel shuffle of ShuffleNet, change places in layers that
    every Caffe has; all else is a Permute of SSD.
    """
    shape = call.bottom_shape("self")
    order = _order(call, len(shape))
    items = call.axis_of_items(call.arguments["self"])
    call.moved(order.index(items))
    moved = [axis for axis, source in enumerate(order) if axis != source]
    bottom = call.bottom("self")
    if not moved:
        return bottom
    # Axes of one element may stand anywhere.
    lasting = [source for source in order if shape[source] != 1 or source == items]
    if lasting == sorted(lasting):
        return call.reshaped(bottom, call.shape, call.axes[call.node], "_reshaped")
    if len(moved) == 2 and moved[1] == moved[0] + 1 and items not in moved:
        first, second = moved
        if min(shape[first], shape[second]) <= MOST_PIECES:
            return _by_pieces(call, bottom, first, second)
    return permuted(call, bottom, order)


def permuted(call: Call, bottom: str, order: Sequence[int], end: str = "") -> str:
    """The blob of a Permute layer."""
    message = call.add("Permute", [bottom], end=end)
    message.permute_param.order.extend(order)
    return str(message.name)


def _by_pieces(call: Call, bottom: str, first: int, second: int) -> str:
    """The pieces of one axis, each with the other axis in its place, one behind the other."""
    shape = call.bottom_shape("self")
    items = call.axis_of_items(call.arguments["self"])
    # Along either axis: the shorter one gives fewer pieces.
    cut, kept = (first, second) if shape[first] <= shape[second] else (second, first)
    swapped = list(call.shape)
    swapped[kept] = 1
    turned = [
        call.reshaped(piece, swapped, items, "_reshaped")
        for piece in _cut(call, bottom, cut, [1] * shape[cut])
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


def range_of(call: Call, bottom: str, shape: Shape, axis: int, start: int, size: int) -> str:
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
    call.check(all(sizes), "one of its pieces has no elements")
    message = call.add("Slice", [bottom], tops=len(sizes))
    message.slice_param.axis = axis
    message.slice_param.slice_point.extend(list(accumulate(sizes))[:-1])
    return tuple(message.top)
