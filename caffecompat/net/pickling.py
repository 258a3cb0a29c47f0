"""Copies and pickles of nets: built anew from the definition, with the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caffecompat.proto import schema

if TYPE_CHECKING:
    from caffecompat.net.net import Net


def definition_of(net: Net) -> Any:
    """NetParameter message of a net as built."""
    message = schema.new("NetParameter")
    message.name = net.graph.name
    message.state.CopyFrom(net.graph.state)
    if net.graph.force_backward:
        message.force_backward = True
    message.layer.extend(b.node.message for b in net.layers if not b.node.automatic)
    return message


def reduce(net: Net, options: dict[str, Any]) -> tuple[Any, ...]:
    """What ``copy`` and ``pickle`` ask a net for; ``options`` are its constructor's.

    Data sources are opened again, and what the last pass computed is no part of the copy.
    """
    definition = net.definition
    state = definition.state.SerializeToString()
    definition.ClearField("state")
    parts = (type(net), definition.SerializeToString(), state, options)
    return _rebuilt, parts, {"values": net.state_dict(), "device": str(net.device)}


def take_values(net: Net, state: dict[str, Any]) -> None:
    """Gives a net that was built anew the values, type and device of the one it copies."""
    values = state["values"]
    dtype = next((v.dtype for v in values.values() if v.is_floating_point()), None)
    net.to(state["device"], dtype)
    net.load_state_dict(values)


def _rebuilt(kind: type[Net], definition: bytes, state: bytes, options: dict[str, Any]) -> Net:
    net = schema.message_class("NetParameter").FromString(definition)
    built_state = schema.message_class("NetState").FromString(state)
    return kind(net, state=built_state, **options)
