"""Copies and pickles of nets, which are built again from the definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from caffecompat.graph import Graph
from caffecompat.layers import BuildOptions
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.proto import schema


def definition_of(graph: Graph, layers: Sequence[BuiltLayer]) -> Any:
    """NetParameter message of a net as built."""
    message = schema.new("NetParameter")
    message.name = graph.name
    message.state.CopyFrom(graph.state)
    if graph.force_backward:
        message.force_backward = True
    message.layer.extend(b.node.message for b in layers if not b.node.automatic)
    return message


def parts_of(definition: Any, options: BuildOptions) -> tuple[bytes, bytes, BuildOptions]:
    """The arguments of :func:`rebuilt`; ``definition`` is :func:`definition_of` the net."""
    state = definition.state.SerializeToString()
    definition.ClearField("state")
    return definition.SerializeToString(), state, replace(options, state=None)


def rebuilt(
    make: Callable[..., Any], definition: bytes, state: bytes, options: BuildOptions
) -> Any:
    """A net of the class ``make``, with its own data sources."""
    net = schema.message_class("NetParameter").FromString(definition)
    built_state = schema.message_class("NetState").FromString(state)
    return make(net, options=replace(options, state=built_state))
