"""Operators that change shapes, or pass values on."""

from __future__ import annotations

from math import prod

from caffecompat.export.torch_import.operator import Call, operators
from caffecompat.export.torch_import.undefined_values import UNWRITTEN


@operators.register("aten.flatten")
@operators.register("aten.reshape")
@operators.register("aten.squeeze")
@operators.register("aten.unsqueeze")
@operators.register("aten.view")
@operators.register("aten._unsafe_view")
def reshape(call: Call) -> str:
    old, new = call.bottom_shape("self"), call.shape
    if old == new:
        return call.bottom("self")
    call.check(
        bool(old) and bool(new) and old[0] % call.batch == new[0] % call.batch == 0,
        f"it reshapes {old} to {new}, across the axis of the batch",
    )
    if new == (old[0], prod(old[1:])):
        return str(call.add("Flatten", [call.bottom("self")]).name)
    message = call.add("Reshape", [call.bottom("self")])
    # What an item has may become items of its own, and items one again, in any batch.
    first = 0 if old[0] == new[0] else -1
    message.reshape_param.shape.dim.extend((first, *new[1:]))
    return str(message.name)


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


@operators.register("aten.cat")
def concatenate(call: Call) -> str:
    bottoms = [call.blob(value) for value in call.arguments["tensors"]]
    axis = call.arguments["dim"] % len(call.shape)
    message = call.add("Concat", bottoms)
    if axis != 1:
        message.concat_param.axis = axis
    return str(message.name)
