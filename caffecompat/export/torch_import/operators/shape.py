"""Operators that change shapes, or pass values on."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from caffecompat.export.torch_import.operator import Call, Shape, operators, shape_of
from caffecompat.export.torch_import.operators.parts import range_of
from caffecompat.export.torch_import.undefined_values import UNWRITTEN


@operators.register("aten.flatten")
@operators.register("aten.reshape")
@operators.register("aten.squeeze")
@operators.register("aten.unsqueeze")
@operators.register("aten.view")
@operators.register("aten._unsafe_view")
def reshape(call: Call) -> str:
    """Parts of an item may become items of their own, and items one again, in any batch."""
    old, new = call.bottom_shape("self"), call.shape
    before = call.axis_of_items(call.arguments["self"])
    items = call.axes.get(call.node)
    if items is None:
        items = call.moved(_axis_of_items(call, old, new, before))
    if old == new:
        return call.bottom("self")
    if before == items == 0 and new == (old[0], prod(old[1:])):
        return str(call.add("Flatten", [call.bottom("self")]).name)
    return call.reshaped(call.bottom("self"), new, items)


def _axis_of_items(call: Call, old: Shape, new: Shape, before: int) -> int:
    """Where the axis of the items, ``before`` in the old shape, is in the new one."""
    axis = call.arguments.get("dim")
    if isinstance(axis, int) and len(new) > len(old):
        return before + (axis % len(new) <= before)
    if isinstance(axis, int):
        axis %= max(1, len(old))
        call.check(old == new or axis != before, "it removes the axis of the batch")
        return before - (old != new and axis < before)
    outside = prod(old[:before])
    places = [
        place
        for place, extent in enumerate(new)
        if prod(new[:place]) == outside and extent % call.batch == 0
    ]
    call.check(bool(places), f"it reshapes {old} to {new}, across the axis of the batch")
    return places[0]


@operators.register("aten.alias")
@operators.register("aten.clone")
@operators.register("aten.contiguous")
@operators.register("aten.detach")
@operators.register("aten.detach_")
@operators.register("aten.lift_fresh_copy")
def passed_on(call: Call) -> str:
    name = "self" if "self" in call.arguments else "input"
    return call.bottom(name)


@operators.register("aten.native_dropout")
def dropout(call: Call) -> str:
    """Active dropout; the decompositions leave out one that is not."""
    call.refuse(
        "dropout is active; export the module after .eval(), and give F.dropout "
        "training=self.training"
    )


@operators.register("aten.empty_like")
@operators.register("aten.new_empty")
def empty(call: Call) -> str:
    """A tensor that is written afterwards: by active Dropout2d and AlphaDropout, or by a user."""
    call.refuse(UNWRITTEN)


@operators.register("aten.roll")
def rolled(call: Call) -> str:
    """The end of each axis before its beginning."""
    shape, blob = call.bottom_shape("self"), call.bottom("self")
    items = call.axis_of_items(call.arguments["self"])
    axes = [axis % len(shape) for axis in call.arguments["dims"]]
    call.check(bool(axes) and items not in axes, "it rolls all values, or the axis of the batch")
    for axis, shift in zip(axes, call.arguments["shifts"], strict=True):
        start = -shift % shape[axis]
        if start:
            begin = range_of(call, blob, shape, axis, 0, start)
            end = range_of(call, blob, shape, axis, start, shape[axis] - start)
            message = call.add("Concat", [end, begin])
            message.concat_param.axis = axis
            blob = str(message.name)
    return blob


@operators.register("aten.expand")
def expanded(call: Call) -> str:
    """Repeats along axes of one element."""
    old, new, blob = call.bottom_shape("self"), call.shape, call.bottom("self")
    items = call.axis_of_items(call.arguments["self"])
    call.check(len(old) == len(new), "it adds axes; use unsqueeze() first")
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            call.check(axis != items, "it repeats the batch")
            message = call.add("Tile", [blob])
            message.tile_param.axis, message.tile_param.tiles = axis, after
            blob = str(message.name)
    return blob


@operators.register("aten.cat")
def concatenate(call: Call) -> str:
    axis = call.arguments["dim"] % len(call.shape)
    values = call.arguments["tensors"]
    computed = next(value for value in values if not call.is_constant(value))
    bottoms = [
        _of_each_item(call, value, computed, axis) if call.is_constant(value) else call.blob(value)
        for value in values
    ]
    message = call.add("Concat", bottoms)
    if axis != 1:
        message.concat_param.axis = axis
    return str(message.name)


def _of_each_item(call: Call, constant: Any, computed: Any, axis: int) -> str:
    """The blob of a parameter that is the same for all items: as many as ``computed`` has."""
    shape, own = shape_of(computed), shape_of(constant)
    values = call.constants[constant][1].detach().cpu().float()
    call.check(
        call.axis_of_items(computed) == 0 < axis and own[axis] <= shape[axis],
        "it puts a parameter beside a blob in a way that Caffe has no layer for",
    )
    call.check(bool((values == values[:1]).all()), "it has a parameter for each item of the batch")
    like = range_of(call, call.blob(computed), shape, axis, 0, own[axis])
    zero = call.add("Power", [like], end="_zero")
    zero.power_param.scale = 0
    message = call.add(
        "Bias", [zero.name], np.ascontiguousarray(values[0].numpy()), end="_constant"
    )
    message.bias_param.num_axes = -1
    return str(message.name)
